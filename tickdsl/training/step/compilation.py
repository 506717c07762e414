"""Passes of a network through torch's compiler."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError


def compile_model(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """`model`, compiled for the shape of the first batch that it is given: others would be compiled again.

    What was compiled before is forgotten, since torch keeps but eight shapes of a class of networks and runs the ninth
    uncompiled. Raises TickdslError at the first call where this machine cannot compile.
    """
    from torch._dynamo.exc import TorchDynamoException  # slow to load, and seldom wanted
    from torch._inductor import config

    torch.compiler.reset()
    config.compile_threads = 1  # the other cores belong to other jobs
    # On CUDA the whole step is captured as a graph (`captured`), the compiler's own graphs would lie within it.
    cuda = next(model.parameters()).is_cuda
    compiled_model = torch.compile(model, dynamic=False, mode="max-autotune-no-cudagraphs" if cuda else None)

    def forward(images: Tensor) -> Tensor:
        try:
            logits: Tensor = compiled_model(images)
        except TorchDynamoException as error:
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TickdslError(
                f"torch cannot compile this network here: {first_line}",
                "install a C++ compiler, or write compile=off in the plan",
            ) from error
        return logits

    return forward
