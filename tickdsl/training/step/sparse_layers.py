"""Which layers are trained sparsely, and putting them into a network for as long as it is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tickdsl.training.autotune import Choices, pays
from tickdsl.training.step.sparse_linear import SparseLinear

#: Of denser layers none is asked about: at 20 % training gained little, and inference lost (benchmarks/sparse.py).
DENSEST = 0.12
#: Layers of fewer weights take microseconds either way.
_SMALLEST = 1 << 14


class SparseLayers:
    """Linear layers of a network, by name, replaced by sparse ones until they are put back."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor], names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._model = model
        self._dense: dict[str, nn.Linear] = {}
        for name in self.names:
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            self._dense[name] = layer
            model.set_submodule(name, SparseLinear(layer, masks[f"{name}.weight"]))

    def others(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The masks that these layers do without."""
        return {name: mask for name, mask in masks.items() if name.removesuffix(".weight") not in self.names}

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the network its dense layers again, with the weights that they have now."""
        for name, layer in self._dense.items():
            sparse = self._model.get_submodule(name)
            assert isinstance(sparse, SparseLinear)
            layer.weight.copy_(sparse.weight())
            self._model.set_submodule(name, layer)


def choose(model: nn.Module, masks: Mapping[str, Tensor], pictures: Tensor, choices: Choices) -> tuple[str, ...]:
    """The names of the layers that train faster sparsely, as measured; on a CPU, in fp32.

    pictures: a normalised batch [B, C, H, W], which tells how many rows a layer sees.
    """
    candidates = _candidates(model, masks)
    if not candidates:
        return ()
    return tuple(
        name
        for name, rows in _rows(model, candidates, pictures).items()
        if _pays(candidates[name], masks[f"{name}.weight"], rows, choices)
    )


def _candidates(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Linear]:
    """Linear layers that could be replaced: sparse enough, and nobody else holds them or their weights."""
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return {}
    holders: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    found = {}
    for name, layer in model.named_modules():
        mask = masks.get(f"{name}.weight")
        if (
            name
            and type(layer) is nn.Linear
            and mask is not None
            and mask.numel() >= _SMALLEST
            and 0 < int(mask.sum()) <= DENSEST * mask.numel()
            and holders[id(layer.weight)] == 1
        ):
            found[name] = layer
    return found


@torch.no_grad()
def _rows(model: nn.Module, layers: Mapping[str, nn.Linear], pictures: Tensor) -> dict[str, int]:
    """How many rows each layer computes in one pass, of those that are called once, as they are.

    Attention reads the weights of its layers without calling them.
    """
    seen: dict[str, list[int]] = {name: [] for name in layers}

    def look(name: str) -> object:
        return lambda layer, given: seen[name].append(math.prod(given[0].shape[:-1]))

    hooks = [layer.register_forward_pre_hook(look(name)) for name, layer in layers.items()]  # type: ignore[arg-type]
    was_training = model.training
    model.eval()
    try:
        model(pictures)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return {name: rows[0] for name, rows in seen.items() if len(rows) == 1}


def _pays(dense: nn.Linear, mask: Tensor, rows: int, choices: Choices) -> bool:
    """Whether forward and backward of a layer are worth doing sparsely."""
    inputs, outputs = dense.in_features, dense.out_features
    # Halves of powers of two: tickets of several seeds differ by little, and choose alike.
    left = math.ceil(2 * math.log2(int(mask.sum()) / mask.numel())) / 2
    threads = torch.get_num_threads()
    question = (
        f"sparse linear {inputs} to {outputs}, {rows} rows, 2^{left} of the weights, "
        f"{threads} threads, torch {torch.__version__}"
    )

    def measure() -> bool:
        x = torch.ones(rows, inputs, requires_grad=True)
        from_above = torch.ones(rows, outputs)
        sparse = SparseLinear(dense, mask)

        def both_ways(layer: nn.Module) -> object:
            wanted = [x, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
            return torch.autograd.grad(layer(x), wanted, from_above)

        return pays(lambda: both_ways(sparse), lambda: both_ways(dense), threads)

    return choices.settle(question, measure)
