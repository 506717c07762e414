"""Compiling a network with `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError


def compile_model(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Compile `model` for the shape of the first batch that the returned function gets.

    Other shapes would be compiled again. Earlier compilations are discarded, since torch keeps only eight shapes per
    class of network and runs a ninth uncompiled. The returned function raises TickdslError if this machine cannot
    compile.
    """
    from torch._dynamo.exc import TorchDynamoException  # slow to import and seldom needed
    from torch._inductor import config

    torch.compiler.reset()
    config.compile_threads = 1  # other jobs use the other cores
    # On CUDA the whole step is captured as a graph (see `captured_step`), so the compiler must not make its own.
    on_cuda = next(model.parameters()).is_cuda
    compiled_model = torch.compile(model, dynamic=False, mode="max-autotune-no-cudagraphs" if on_cuda else None)

    def forward(images: Tensor) -> Tensor:
        try:
            logits: Tensor = compiled_model(images)
        except TorchDynamoException as error:
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TickdslError(
                f"torch cannot compile this network on this machine: {first_line}",
                "install a C++ compiler, or set compile=off in the plan",
            ) from error
        return logits

    return forward
