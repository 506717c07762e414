"""Rewrites modules whose Python code hard-codes sizes: records the operators that the code runs, with the kept sizes.

The recorded operators are written as the code of a new `forward`. Two recordings with different input sizes show which
numbers depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from tickdsl.graph.surgery.fx_emitter import GraphEmitter, ProgramRecording
from tickdsl.graph.surgery.fx_operators import OPERATOR_EMITTERS
from tickdsl.graph.surgery.rewritten import ForwardCode


def rewritten_code(
    module: nn.Module,
    recordings: tuple[ProgramRecording, ProgramRecording],
    names: dict[int, str],
    all_names: Mapping[str, Sequence[str]],
) -> ForwardCode:
    """The code of a module's recorded steps.

    `recordings` are made with two sets of input sizes. `names` maps the ids of parameters and buffers to their names,
    and `all_names` first names to all names of shared objects. Raises SurgeryError if a step depends on sizes in a way
    that has no counterpart for smaller ones.
    """
    return ForwardCode.from_graph(GraphEmitter(module, recordings, names, all_names, OPERATOR_EMITTERS).emit())
