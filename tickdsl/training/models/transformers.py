"""Small transformers: a decoder like GPT-2 (Radford et al. 2019), an encoder like BERT (Devlin et al. 2019), and one of
images like ViT (Dosovitskiy et al. 2021).

All are pre-norm, with learned positions. Queries, keys and values have layers of their own, so that heads and the dims
of heads can be removed one kind at a time; the output layer shares no weights with the embedding, so that masks of
either leave the other alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.catalogue.input_shapes import OneShape
from tickdsl.training.models.initialisation import TRANSFORMER_STD

#: The token that fills up short texts. Encoders ignore it; language modelling has no use for it.
PADDING = 0


class SelfAttention(nn.Module):
    """Multi-head self-attention on [N, T, D]; `causal`: a token sees only itself and earlier ones."""

    def __init__(self, dim: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.scale = (dim // heads) ** -0.5  # also when dims of heads are removed
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """visible: bool [N, 1, 1, T], the tokens that may be looked at; None for all."""
        count, length, _ = x.shape
        query, key, value = (
            layer(x).view(count, length, self.heads, -1).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, is_causal=self.causal, scale=self.scale
        )
        y: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return y


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), with dropout before the sum."""

    def __init__(self, dim: int, heads: int, dropout: float, *, causal: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads, causal=causal)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        y: Tensor = x + self.dropout(self.attention(self.norm(x), visible))
        return y


class FeedForward(nn.Module):
    """x + project(gelu(expand(norm(x)))), four times as wide inside, with dropout before the sum."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 4 * dim)
        self.proj = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.dropout(self.proj(F.gelu(self.expand(self.norm(x)))))
        return y


class Layer(nn.Module):
    """Attention, then a feed-forward network."""

    def __init__(self, dim: int, heads: int, dropout: float, *, causal: bool) -> None:
        super().__init__()
        self.attend = AttentionBlock(dim, heads, dropout, causal=causal)
        self.feed_forward = FeedForward(dim, dropout)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        y: Tensor = self.feed_forward(self.attend(x, visible))
        return y


def _layers(layers: int, heads: int, dim: int, dropout: float, *, causal: bool) -> nn.ModuleList:
    """The layers of a transformer. Raises TickdslError if the number of heads does not divide the channels."""
    if dim % heads:
        raise TickdslError(
            f"dim={dim} is not a multiple of heads={heads}", f"use dim={-(-dim // heads) * heads}, or other heads"
        )
    return nn.ModuleList(Layer(dim, heads, dropout, causal=causal) for _ in range(layers))


class _Transformer(nn.Module):
    """Embeddings of tokens and positions, layers, and a norm."""

    def __init__(self, shape: OneShape, layers: int, heads: int, dim: int, dropout: float, *, causal: bool) -> None:
        super().__init__()
        length, vocabulary = shape
        self.tokens = nn.Embedding(vocabulary, dim)
        self.positions = nn.Embedding(length, dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = _layers(layers, heads, dim, dropout, causal=causal)
        self.norm = nn.LayerNorm(dim)

    def encode(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Features [N, T, D] of tokens int64 [N, T]."""
        length = tokens.shape[1]
        if length > self.positions.num_embeddings:
            raise TickdslError(
                f"{length} tokens, but the network has {self.positions.num_embeddings} positions", "use shorter texts"
            )
        x = self.tokens(tokens) + self.positions(torch.arange(length, device=tokens.device))
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, visible)
        y: Tensor = self.norm(x)
        return y


class Gpt(_Transformer):
    """A decoder: the logits [N, T, outputs] of the next token, for tokens int64 [N, T]; T may be shorter."""

    def __init__(self, outputs: int, shape: OneShape, layers: int, heads: int, dim: int, dropout: float) -> None:
        super().__init__(shape, layers, heads, dim, dropout, causal=True)
        self.head = nn.Linear(dim, outputs, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(tokens))
        return logits


class Bert(_Transformer):
    """An encoder: outputs [N, outputs] from the mean of the features of all tokens that are not padding.

    The first token is always looked at, so that a text without any token has an answer too.
    """

    def __init__(self, outputs: int, shape: OneShape, layers: int, heads: int, dim: int, dropout: float) -> None:
        super().__init__(shape, layers, heads, dim, dropout, causal=False)
        self.head = nn.Linear(dim, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        is_text = tokens != PADDING
        is_text = is_text | (torch.arange(tokens.shape[1], device=tokens.device) == 0)
        features = self.encode(tokens, is_text[:, None, None, :])
        weights = is_text.to(features.dtype)[:, :, None]
        logits: Tensor = self.head((features * weights).sum(1) / weights.sum(1))
        return logits


class Vit(nn.Module):
    """An encoder of images [N, C, H, W]: outputs [N, outputs] from the mean of the features of all patches."""

    def __init__(
        self, outputs: int, shape: OneShape, layers: int, heads: int, dim: int, dropout: float, patch: int
    ) -> None:
        super().__init__()
        channels, height, width = shape
        if height % patch or width % patch:
            raise TickdslError(
                f"images of {height}x{width} cannot be cut into patches of {patch}x{patch}",
                f"use another patch=, or data with size={-(-max(height, width) // patch) * patch}",
            )
        self.patches = nn.Conv2d(channels, dim, patch, stride=patch)
        self.positions = nn.Embedding(height // patch * (width // patch), dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = _layers(layers, heads, dim, dropout, causal=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, outputs)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = self.dropout(x + self.positions(torch.arange(x.shape[1], device=images.device)))
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


def gpt(outputs: int, shape: OneShape, layers: int, heads: int, dim: int, dropout: float) -> nn.Module:
    """A decoder for `outputs` tokens, with the shape (T, V) of its inputs. Raises TickdslError if `heads` does not fit.

    Initial weights are those of GPT-2: a deviation of 0.02, divided by the square root of the number of layers that
    write to the residual stream in these.
    """
    return _with_deviations(
        Gpt(outputs, shape, layers, heads, dim, dropout), residual=TRANSFORMER_STD / (2 * layers) ** 0.5
    )


def bert(outputs: int, shape: OneShape, layers: int, heads: int, dim: int, dropout: float) -> nn.Module:
    """An encoder with `outputs` numbers for a text, with the shape (T, V) of its inputs; initial weights as in BERT.

    Raises TickdslError if `heads` does not fit.
    """
    return _with_deviations(Bert(outputs, shape, layers, heads, dim, dropout), residual=TRANSFORMER_STD)


def vit(outputs: int, shape: OneShape, layers: int, heads: int, dim: int, dropout: float, patch: int) -> nn.Module:
    """An encoder of images with `outputs` numbers for each; `patch`: pixels per side of what becomes a token.

    Positions are learned, without a class token (as in Beyer et al. 2022). The patches are embedded by a convolution
    with Kaiming's initial weights, all else as in BERT. Raises TickdslError if `heads` or `patch` does not fit.
    """
    return _with_deviations(Vit(outputs, shape, layers, heads, dim, dropout, patch), residual=TRANSFORMER_STD)


def _with_deviations(network: nn.Module, *, residual: float) -> nn.Module:
    """Set the deviation of the initial weights of all linear layers, and of those that write to the residual stream."""
    for path, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            deviation = residual if path.endswith(".proj") else TRANSFORMER_STD
            layer.initial_std = deviation  # type: ignore[assignment]
    return network
