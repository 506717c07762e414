"""Initial weights: Kaiming normal (He 2015, fan-in) for convolutions and linear layers, biases 0, norms 1 and 0.

A layer with an attribute `initial_std` has normal weights of this standard deviation instead; embeddings have 0.02. A
convolution with `initial_basis = "haar"` has the filters of `haar_filters`.

Every parameter is drawn from a random stream of its own name, so networks that differ in one layer share all others.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from tickdsl.training.rng import generator

_LAYERS_WITH_WEIGHT = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NORMS = (*_BATCH_NORMS, nn.LayerNorm)
#: The standard deviation of initial embeddings, and of all weights of transformers, as in GPT-2 and BERT.
TRANSFORMER_STD = 0.02


def initialise(module: nn.Module, seed: int, role: str = "init") -> None:
    """Initialise all parameters of a network in place, and reset the running statistics of its norms.

    Raises TypeError if a layer with parameters is none of convolutions, linear layers, embeddings and norms.
    """
    for path, layer in module.named_modules():
        if isinstance(layer, _BATCH_NORMS):
            layer.reset_running_stats()
        for name, parameter in layer.named_parameters(recurse=False):
            with torch.no_grad():
                if getattr(layer, "initial_basis", "") == "haar" and name == "weight":
                    parameter.copy_(haar_filters(parameter.shape[1])[: len(parameter)])
                elif isinstance(layer, _NORMS):
                    parameter.fill_(1.0 if name == "weight" else 0.0)
                elif isinstance(layer, (*_LAYERS_WITH_WEIGHT, nn.Embedding)):
                    stream = generator(seed, role, f"{path}.{name}")
                    _fill(parameter, stream, _deviation(layer, parameter) if name == "weight" else 0.0)
                else:
                    raise TypeError(f"cannot initialise {path}.{name} of {type(layer).__name__}")


def _deviation(layer: nn.Module, weight: torch.Tensor) -> float:
    own: float | None = getattr(layer, "initial_std", TRANSFORMER_STD if isinstance(layer, nn.Embedding) else None)
    return math.sqrt(2 / max(1, weight[0].numel())) if own is None else own


def haar_filters(channels: int) -> torch.Tensor:
    """An orthonormal basis of 2x2 patches, each filter followed by its negative, [8 * channels, channels, 2, 2].

    The product of the Haar wavelets of 2x2 pixels with a cosine basis of the channels, which for RGB is brightness and
    two opponent colours. These are close to the principal components of natural images (Ruderman et al. 1998): with
    outputs of unit variance, they decorrelate neighbouring pixels and channels without looking at the images.
    """
    haar = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    angles = torch.arange(channels).unsqueeze(1) * (torch.arange(channels) + 0.5) * math.pi / channels
    cosines = angles.cos()
    cosines /= cosines.norm(dim=1, keepdim=True)
    basis = torch.einsum("ac,hp->ahcp", cosines, haar).reshape(4 * channels, channels, 2, 2)
    return torch.stack([basis, -basis], 1).flatten(0, 1)


def _fill(parameter: torch.Tensor, stream: torch.Generator, deviation: float) -> None:
    if deviation == 0:
        parameter.zero_()
    else:
        values = torch.empty(parameter.shape, dtype=parameter.dtype).normal_(0, deviation, generator=stream)
        parameter.copy_(values)


def classifier_like(layer: nn.Module, classes: int) -> nn.Linear | nn.Conv2d:
    """A layer like `layer` (linear, or a 1x1 convolution) with `classes` outputs. Raises TypeError for other layers."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
    if isinstance(layer, nn.Conv2d):
        return nn.Conv2d(
            layer.in_channels, classes, layer.kernel_size, layer.stride, layer.padding,  # type: ignore[arg-type]
            bias=layer.bias is not None,
        )  # fmt: skip
    raise TypeError(f"{type(layer).__name__} is not a classifier")


def new_classifier(layer: nn.Module, classes: int, seed: int) -> nn.Module:
    """A layer like `layer` (linear, or a 1x1 convolution) with `classes` outputs, drawn from the stream (seed, "head").

    Weights and bias are uniform within ±1/sqrt(fan-in), torch's default for such layers. Raises TypeError for other
    layers.
    """
    fresh = classifier_like(layer, classes)
    if hasattr(layer, "initial_std"):
        fresh.initial_std = layer.initial_std
    bound = 1 / math.sqrt(max(1, fresh.weight[0].numel()))
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            parameter.uniform_(-bound, bound, generator=generator(seed, "head", name))
    return fresh
