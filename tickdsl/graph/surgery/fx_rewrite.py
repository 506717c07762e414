"""Rewrites modules whose Python code hard-codes sizes: records the operators that the code runs, with the kept sizes.

Each module becomes a `torch.fx.GraphModule` with the submodules, parameters and class name of the original. The batch
size stays dynamic: two recordings with different batch sizes show which numbers depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import fx, nn

from tickdsl.graph.surgery.fx_emitter import GraphEmitter, ProgramRecording
from tickdsl.graph.surgery.fx_operators import OPERATOR_EMITTERS


def rewrite_module(
    module: nn.Module,
    recordings: tuple[ProgramRecording, ProgramRecording],
    names: dict[int, str],
    all_names: Mapping[str, Sequence[str]],
) -> fx.GraphModule:
    """Rewrite a module as a graph of its recorded steps.

    `recordings` are made at two batch sizes. `names` maps the ids of parameters and buffers to their names, and
    `all_names` first names to all names of shared objects. Raises SurgeryError if a step depends on sizes in a way that
    has no counterpart for smaller ones.
    """
    graph = GraphEmitter(module, recordings, names, all_names, OPERATOR_EMITTERS).emit()
    rewritten = fx.GraphModule(module, graph, class_name=type(module).__name__)
    # Keep everything the module owns, used or not, in its order, so that the state dict keeps its keys.
    rewritten._modules, rewritten._parameters, rewritten._buffers = module._modules, module._parameters, module._buffers
    rewritten.train(module.training)
    return rewritten
