"""The modules that `tickdsl check` needs do not load torch."""

from __future__ import annotations

import subprocess
import sys


def test_graph_structure_cost_and_cache_load_no_torch() -> None:
    code = (
        "import sys; from tickdsl.graph import ModelGraph, Structure, cost, remaining_weights, kept_indices; "
        "import tickdsl.graph.cache; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_functions_are_not_hidden_by_the_modules_that_define_them() -> None:
    from tickdsl.graph import cost, trace

    assert callable(cost) and callable(trace)
    assert cost.__module__ == "tickdsl.graph.costs"
