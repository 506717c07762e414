"""Selecting the linear layers that train faster as sparse matrices, and replacing them during training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.named_tensors import run_network
from tickdsl.training.step.sparse_linear import SparseLinear
from tickdsl.training.timing import is_clearly_faster

#: Denser layers are never replaced: at 20%, training gains little and inference loses (benchmarks/sparse.py).
MAX_DENSITY = 0.12
#: Layers with fewer weights take microseconds either way.
_MIN_WEIGHTS = 1 << 14


class SparseLayers:
    """Replaces linear layers of a network, by name, with sparse ones until `restore_dense`."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor], names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._model = model
        self._dense: dict[str, nn.Linear] = {}
        for name in self.names:
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            self._dense[name] = layer
            model.set_submodule(name, SparseLinear(layer, masks[f"{name}.weight"]))

    def remaining_masks(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The masks of all other layers; sparse layers need none."""
        return {name: mask for name, mask in masks.items() if name.removesuffix(".weight") not in self.names}

    @torch.no_grad()
    def restore_dense(self) -> None:
        """Put the dense layers back, with the current weights."""
        for name, layer in self._dense.items():
            sparse = self._model.get_submodule(name)
            assert isinstance(sparse, SparseLinear)
            layer.weight.copy_(sparse.weight())
            self._model.set_submodule(name, layer)


def choose_sparse_layers(
    model: nn.Module, masks: Mapping[str, Tensor], images: Tensor, choices: MeasuredChoices
) -> tuple[str, ...]:
    """The names of the layers that train faster as sparse matrices on this machine's CPU, in fp32.

    images: a normalised batch [B, C, H, W], which determines how many rows each layer computes.
    """
    candidates = _candidates(model, masks)
    if not candidates:
        return ()
    return tuple(
        name
        for name, rows in _rows_per_layer(model, candidates, images).items()
        if _trains_faster_sparsely(candidates[name], masks[f"{name}.weight"], rows, choices)
    )


def _candidates(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Linear]:
    """The linear layers that are sparse enough, large enough, and share their weights with no other layer."""
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return {}
    reference_counts: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        reference_counts[id(parameter)] = reference_counts.get(id(parameter), 0) + 1
    candidates = {}
    for name, layer in model.named_modules():
        mask = masks.get(f"{name}.weight")
        if (
            name
            and type(layer) is nn.Linear
            and mask is not None
            and mask.numel() >= _MIN_WEIGHTS
            and 0 < int(mask.sum()) <= MAX_DENSITY * mask.numel()
            and reference_counts[id(layer.weight)] == 1
        ):
            candidates[name] = layer
    return candidates


@torch.no_grad()
def _rows_per_layer(model: nn.Module, layers: Mapping[str, nn.Linear], images: Tensor) -> dict[str, int]:
    """The number of rows that each layer computes in a forward pass, for layers that are called exactly once.

    Attention uses the weights of its linear layers without calling them, so those are left out.
    """
    rows_seen: dict[str, list[int]] = {name: [] for name in layers}

    def count_rows(name: str) -> object:
        return lambda layer, inputs: rows_seen[name].append(math.prod(inputs[0].shape[:-1]))

    hooks = [layer.register_forward_pre_hook(count_rows(name)) for name, layer in layers.items()]  # type: ignore[arg-type]
    was_training = model.training
    model.eval()
    try:
        run_network(model, images)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return {name: rows[0] for name, rows in rows_seen.items() if len(rows) == 1}


def _trains_faster_sparsely(dense: nn.Linear, mask: Tensor, rows: int, choices: MeasuredChoices) -> bool:
    """Whether a layer's forward and backward pass are faster with sparse matrix products."""
    inputs, outputs = dense.in_features, dense.out_features
    # In steps of half a power of two, so that tickets of different seeds, which differ little, choose alike.
    log2_density = math.ceil(2 * math.log2(int(mask.sum()) / mask.numel())) / 2
    threads = torch.get_num_threads()
    key = (
        f"sparse linear {inputs} to {outputs}, {rows} rows, 2^{log2_density} of the weights, "
        f"{threads} threads, torch {torch.__version__}"
    )

    def measure() -> bool:
        x = torch.ones(rows, inputs, requires_grad=True)
        grad_output = torch.ones(rows, outputs)
        sparse = SparseLinear(dense, mask)

        def forward_backward(layer: nn.Module) -> object:
            differentiated = [x, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
            return torch.autograd.grad(layer(x), differentiated, grad_output)

        return is_clearly_faster(lambda: forward_backward(sparse), lambda: forward_backward(dense), threads)

    return choices.settle(key, measure)
