"""Random networks of supported operators."""

from __future__ import annotations

import numpy as np
import torch
from graph_networks import Attention
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = (
    "conv", "strided", "depthwise", "grouped", "norm", "group-norm", "act", "residual", "reuse", "cat", "glu",
    "excite", "pool", "shuffle", "transposed", "scale", "split", "roll", "mix", "attention", "fused", "torch",
)  # fmt: skip


class RandomNetwork(nn.Module):
    """A chain of random steps over 4 to 32 channels."""

    def __init__(self, steps: list[str], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        draw = np.random.default_rng(seed)
        self.steps = steps
        self.layers = nn.ModuleList()
        self.scales = nn.ParameterList()
        channels = 8
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        for step in steps:
            width = 4 * int(draw.integers(1, 5))
            layer_module: nn.Module = nn.Identity()
            scale = torch.zeros(0)
            if step in ("conv", "reuse"):
                layer_module = nn.Conv2d(channels, channels if step == "reuse" else width, 3, padding=1)
            elif step in ("strided", "glu", "split"):
                layer_module = nn.Conv2d(channels, 2 * width, 1)
            elif step == "depthwise":
                layer_module = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            elif step == "grouped":
                layer_module = nn.Conv2d(channels, 2 * channels, 1, groups=4)
            elif step == "norm":
                layer_module = nn.BatchNorm2d(channels)
            elif step == "group-norm":
                layer_module = nn.GroupNorm(4, channels)
            elif step == "residual":
                layer_module = nn.Sequential(nn.Conv2d(channels, width, 1), nn.SiLU(), nn.Conv2d(width, channels, 1))
            elif step == "cat":
                layer_module = nn.Conv2d(channels, 4, 1)
            elif step == "excite":
                layer_module = nn.Sequential(nn.Linear(channels, 4), nn.SiLU(), nn.Linear(4, channels))
            elif step == "transposed":
                layer_module = nn.ConvTranspose2d(channels, width, 3, padding=1)
            elif step == "scale":
                scale = torch.rand(channels, 1, 1) + 0.5
            elif step == "mix":
                layer_module = nn.Linear(channels, width)
            elif step in ("attention", "fused"):
                styles = {
                    "attention": ("separate", "einsum", "grouped-query"),
                    "fused": ("fused", "head-major", "relative"),
                }
                layer_module = Attention(
                    str(draw.choice(styles[step])),
                    channels,
                    heads=2 * int(draw.integers(1, 3)),
                    dims=int(draw.integers(2, 5)),
                )
            elif step == "torch":
                layer_module = nn.MultiheadAttention(channels, 2, batch_first=True)
            self.layers.append(layer_module)
            self.scales.append(nn.Parameter(scale))
            channels = {"grouped": 2 * channels, "cat": channels + 4, "strided": 2 * width}.get(step, channels)
            if step in ("conv", "glu", "split", "transposed", "mix"):
                channels = width
        self.head = nn.Linear(channels * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for step, layer, scale in zip(self.steps, self.layers, self.scales, strict=True):
            n, c, h, w = x.shape
            if step == "act":
                x = F.silu(x)
            elif step in ("residual", "reuse"):
                x = x + layer(F.silu(layer(x))) if step == "reuse" else x + layer(x)
            elif step == "cat":
                x = torch.cat([layer(x), x], 1)
            elif step == "glu":
                x = F.glu(layer(x), 1)
            elif step == "split":
                one, two = layer(x).split(layer.out_channels // 2, 1)
                x = one * two.sigmoid()
            elif step == "excite":
                x = x * layer(x.mean((2, 3))).sigmoid()[:, :, None, None]
            elif step == "pool":
                x = F.avg_pool2d(x, 3, 1, 1)
            elif step == "shuffle":
                x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, -1, h, w)
            elif step == "scale":
                x = x * scale
            elif step == "roll":
                x = torch.roll(x, (1, 1), (2, 3))
            elif step == "mix":
                x = layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            elif step in ("attention", "fused", "torch"):
                tokens = x.flatten(2).transpose(1, 2)[:, :5]
                tokens = layer(tokens, tokens, tokens)[0] if step == "torch" else layer(tokens)
                x = x + tokens.transpose(1, 2).mean(2)[:, :, None, None]
            else:
                x = layer(x)
        return self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))
