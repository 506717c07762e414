"""Small networks, one for each kind of channel coupling."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Upscaler(nn.Module):
    """Transposed convolutions, interpolation, pixel shuffle and unshuffle, PReLU, instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.act = nn.PReLU(8)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.wide = nn.Conv2d(6, 16, 1)
        self.fold = nn.PixelShuffle(2)
        self.unfold = nn.PixelUnshuffle(2)
        self.last = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.norm(self.act(self.down(x))))
        x = F.interpolate(self.wide(x), scale_factor=0.5, mode="bilinear")
        return self.last(self.unfold(F.relu(self.fold(x))))


class Grouped(nn.Module):
    """Grouped, depthwise and transposed grouped convolutions, group norm, channel shuffle by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.group = nn.Conv2d(12, 24, 3, padding=1, groups=4)
        self.norm = nn.GroupNorm(4, 24)
        self.depth = nn.Conv2d(24, 48, 3, padding=1, groups=24)
        self.wide = nn.ConvTranspose2d(48, 24, 2, stride=2, groups=4)
        self.mix = nn.Conv2d(24, 16, 1)
        self.head = nn.Linear(16 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.group(self.stem(x))))
        x = F.max_pool2d(self.wide(F.hardswish(self.depth(x))), 4)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(torch.flatten(self.mix(x), 1))


class Gated(nn.Module):
    """Squeeze and excitation, gated linear units, chunks, concatenation, broadcasting adds, a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.glu = nn.Conv2d(8, 12, 1)
        self.side = nn.Conv2d(8, 5, 1)
        self.join = nn.Conv2d(11, 6, 1)
        self.token = nn.Parameter(torch.rand(1, 1, 6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = x * gate * self.scale
        one, two = self.glu(x).chunk(2, 1)
        x = self.join(torch.cat([one * torch.sigmoid(two), self.side(x)], 1))
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1)
        return self.head(tokens.mean(1) + tokens[:, 0])


class HandAttention(nn.Module):
    """Hand-written attention: hard-coded sizes, scaled dot product, relative bias, einsum."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.embed = nn.Linear(6, width)
        self.place = nn.Parameter(torch.rand(1, 5, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.table = nn.Parameter(torch.rand(9, heads))
        self.register_buffer("where", (torch.arange(5)[:, None] - torch.arange(5)[None]) + 4)
        self.proj = nn.Linear(width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.place
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.table[self.where.view(-1)].view(n, n, self.heads).permute(2, 0, 1)
        scores = (q * (self.width // self.heads) ** -0.5) @ k.transpose(-2, -1) + bias
        x = x + self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, self.width))
        q, k = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.query, self.keys))
        x = x + F.scaled_dot_product_attention(q, k, k).transpose(1, 2).flatten(2)
        weights = torch.einsum("bnc,bmc->bnm", x, x).softmax(-1)
        return self.head(torch.einsum("bnm,bmc->bc", weights, x))


class Encoder(nn.Module):
    """torch's transformer layer on token embeddings, with the embedding tied to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 12)
        self.layer = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True)
        self.head = nn.Linear(12, 7)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.words(tokens)))


class Reused(nn.Module):
    """A module that runs twice, a weight shared by two modules, two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 1)
        self.right = nn.Conv2d(2, 8, 1)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 6, 1)
        self.second = nn.Conv2d(8, 6, 1)
        self.second.weight = self.first.weight
        self.one = nn.Conv2d(6, 2, 1)
        self.two = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        x = self.left(x) + self.right(y)
        x = self.twice(F.relu(self.twice(x)))
        return {"one": self.one(self.first(x)), "two": self.two(F.relu(self.second(x)))}


class Recurrent(nn.Module):
    """A convolution whose columns are the input of an LSTM and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.gru = nn.GRU(8, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean(2).transpose(1, 2)
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


class PaddedShortcut(nn.Module):
    """He et al.'s option A: the shortcut subsamples pixels and pads with zero channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = self.conv2(F.relu(self.conv1(x))) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(F.relu(x).mean((2, 3)))


class Attention(nn.Module):
    """Multi-head attention in common coding styles, with 4 heads of 4 dims; see `STYLES`."""

    def __init__(self, style: str, width: int = 10, heads: int = 4, dims: int = 4) -> None:
        super().__init__()
        self.style, self.heads, self.dims = style, heads, dims
        inner = heads * dims
        if style in ("separate", "grouped-query", "rotary", "normed", "shifted", "added", "unseen", "picked"):
            self.query = nn.Linear(width, inner)
            shared = inner // 2 if style == "grouped-query" else inner
            self.key, self.value = nn.Linear(width, shared), nn.Linear(width, shared, bias=False)
        else:
            self.qkv = nn.Linear(width, 3 * inner)
        if style == "rotary":
            angles = torch.arange(5.0)[:, None] / 10 ** (torch.arange(dims // 2) / dims)[None]
            self.register_buffer("cos", torch.cat([angles.cos(), angles.cos()], -1))
            self.register_buffer("sin", torch.cat([angles.sin(), angles.sin()], -1))
        if style == "relative":
            self.table = nn.Parameter(torch.rand(heads, 5, 5))
        if style == "normed":
            self.norm = nn.LayerNorm(dims)
        if style == "gated":
            self.gate = nn.Linear(width, heads)
        self.proj = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.split(x)
        if self.style in ("separate", "relative", "normed", "shifted"):
            if self.style == "normed":
                q, k = self.norm(q), self.norm(k)
            if self.style == "shifted":
                q = F.elu(q) + 1
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # the scale depends on the shape
            if self.style == "relative":
                scores = scores + self.table
            y = scores.softmax(-1) @ v
        elif self.style == "added":
            queries, keys = q.flatten(0, 1), k.flatten(0, 1).transpose(-2, -1)
            scores = torch.baddbmm(torch.zeros_like(queries @ keys), queries, keys, alpha=q.shape[-1] ** -0.5)
            y = scores.view(b, -1, n, n).softmax(-1) @ v
        elif self.style == "unseen":
            y = (q @ k.transpose(-2, -1) / torch.sqrt(torch.tensor(q.shape[-1], dtype=q.dtype))).softmax(-1) @ v
        elif self.style == "rotary":
            q, k = (z * self.cos + self.turned(z) * self.sin for z in (q, k))
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.style == "einsum":
            weights = torch.einsum("bhid,bhjd->bhij", q, k / k.size(-1) ** 0.5).softmax(-1)
            y = torch.einsum("bhij,bhjd->bhid", weights, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v)  # its scale as well
        if self.style == "gated":
            y = y * self.gate(x).sigmoid().transpose(1, 2)[..., None]
        if self.style == "picked":
            y = y + y[..., :1]
            return self.proj(y.transpose(1, 2).reshape(b, n, -1)) * y[:, 0].mean(-1, keepdim=True)
        return self.proj(y.transpose(1, 2).reshape(b, n, -1))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, n, _ = x.shape
        if self.style in ("fused", "relative", "gated"):
            q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dims).permute(2, 0, 3, 1, 4)
        elif self.style == "head-major":
            q, k, v = self.qkv(x).view(b, n, self.heads, 3 * self.dims).transpose(1, 2).chunk(3, -1)
        elif self.style == "einsum":
            q, k, v = (z.reshape(b, n, self.heads, self.dims).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        else:
            q, k, v = (f(x).view(b, n, -1, self.dims).transpose(1, 2) for f in (self.query, self.key, self.value))
            if self.style == "grouped-query":
                k, v = (z.repeat_interleave(2, 1) for z in (k, v))
        return q, k, v

    @staticmethod
    def turned(x: Tensor) -> Tensor:
        one, two = x.chunk(2, -1)
        return torch.cat([-two, one], -1)


#: Queries, keys and values from separate layers; from one layer, as (3, heads, dims), (heads, 3 × dims) or in thirds;
#: keys and values shared by two heads; with a relative position bias, rotary embeddings, gated heads, norms over the
#: dims, a function with f(0) ≠ 0, and the scale as the `alpha` of `baddbmm`.
STYLES = (
    "separate", "fused", "head-major", "einsum", "grouped-query", "relative", "rotary", "gated", "normed", "shifted",
    "added",
)  # fmt: skip


class AttentionNetwork(nn.Module):
    """An embedding, attention in one of the styles with a shortcut, and a head."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.embed, self.attention, self.head = nn.Linear(6, 10), Attention(style), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(F.relu(x + self.attention(x)))


class TorchAttention(nn.Module):
    """torch's attention layer as self-attention, as cross-attention, and with keys and values of other widths."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.other = nn.Linear(6, 12), nn.Linear(6, 12)
        self.own = nn.MultiheadAttention(12, 3, batch_first=True)
        self.cross = nn.MultiheadAttention(12, 2, bias=False)
        self.wide = nn.MultiheadAttention(12, 3, kdim=6, vdim=6, batch_first=True, add_bias_kv=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, z = self.embed(x), self.other(x)
        y = y + self.own(y, y, y, need_weights=False)[0]
        y = y + self.cross(y.transpose(0, 1), z.transpose(0, 1), z.transpose(0, 1))[0].transpose(0, 1)
        return self.head(F.relu(y + self.wide(y, x, x, need_weights=False)[0]))


def _images(channels: int = 3, size: int = 8) -> Tensor:
    return torch.randn(2, channels, size, size, dtype=torch.float64)


def _tokens() -> tuple[Tensor]:
    return (torch.randn(2, 5, 6, dtype=torch.float64),)


#: name -> (network, example inputs)
NETWORKS = {
    "upscaler": (Upscaler, lambda: (_images(),)),
    "grouped": (Grouped, lambda: (_images(),)),
    "gated": (Gated, lambda: (_images(),)),
    "hand-attention": (HandAttention, lambda: (torch.randn(2, 5, 6, dtype=torch.float64),)),
    "encoder": (Encoder, lambda: (torch.randint(7, (2, 5)),)),
    "reused": (Reused, lambda: (_images(), _images(2))),
    "recurrent": (Recurrent, lambda: (_images(1),)),
    "padded-shortcut": (PaddedShortcut, lambda: (_images(),)),
    "torch-attention": (TorchAttention, _tokens),
    **{f"{style}-attention": (partial(AttentionNetwork, style), _tokens) for style in STYLES},
}
