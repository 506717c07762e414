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
    """The module as a graph of the steps that it took. `names` are those of parameters and buffers by identity,
    `all_names` those of what has several, by the first.

    Raises SurgeryError where a step depends on sizes in a way that has no form for smaller ones.
    """
    graph = GraphEmitter(module, recordings, names, all_names, OPERATOR_EMITTERS).emit()
    rewritten = fx.GraphModule(module, graph, class_name=type(module).__name__)
    # All that the module owns, used or not, in its order: the state dict stays as it was.
    rewritten._modules, rewritten._parameters, rewritten._buffers = module._modules, module._parameters, module._buffers
    rewritten.train(module.training)
    return rewritten
