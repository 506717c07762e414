"""What a network's tokens go through before they reach it, as in the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training.catalogue.input_shapes import shape_in_words
from tickdsl.training.rng import generator


@attrs.frozen
class TokenPreprocessing:
    """Sequences of `length` tokens out of a vocabulary of `vocabulary`: whole numbers from 0."""

    length: int
    vocabulary: int

    #: The name of the input in exported files, and what one is called.
    input_name, unit = "tokens", "sequence"

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (T, V) of an input: its length, and the size of the vocabulary."""
        return self.length, self.vocabulary

    @property
    def in_words(self) -> str:
        """The inputs for people: `6 tokens of 12`."""
        return shape_in_words(self.shape)

    def __call__(self, tokens: Tensor | np.ndarray[Any, Any] | Sequence[Any]) -> Tensor:
        """Prepare tokens as the training did: int64 [N, T], or [1, T] for a single sequence.

        tokens: whole numbers in 0..V-1, [N, T] or [T]: a tensor, an array or a list. Raises TickdslError for others.
        """
        try:
            found = torch.as_tensor(np.asarray(tokens) if not isinstance(tokens, Tensor) else tokens)
        except (TypeError, ValueError) as error:
            raise self._wrong(f"these are {type(tokens).__name__}") from error
        if found.is_floating_point() or found.dtype == torch.bool or found.dim() not in (1, 2):
            raise self._wrong(f"these are {str(found.dtype).removeprefix('torch.')} {list(found.shape)}")
        batch = found.long().view(-1, found.shape[-1])
        if batch.shape[1] != self.length:
            raise self._wrong(f"these have {batch.shape[1]}")
        if batch.numel() and not 0 <= int(batch.min()) <= int(batch.max()) < self.vocabulary:
            raise self._wrong(f"these are from {int(batch.min())} to {int(batch.max())}")
        return batch

    def normalize(self, tokens: Tensor) -> Tensor:
        """Tokens as files take them are what the network takes: int64 [N, T]."""
        return tokens.long()

    def file_input(self, stored: Tensor) -> Tensor:
        """What exported files take, of tokens of any integer type [N, T] as a data set stores them: int64."""
        return stored.long()

    def random(self, count: int) -> Tensor:
        """Random tokens as a data set stores them, the same each time: int64 [count, T]."""
        return torch.randint(self.vocabulary, (count, self.length), generator=generator(0, "verification"))

    def fixed(self, count: int) -> Tensor:
        """Tokens that are the same everywhere, as a data set stores them: int64 [count, T]."""
        numbers = torch.arange(count * self.length) * 2_654_435_761 >> 13
        return (numbers % self.vocabulary).view(count, self.length)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"kind": "tokens", **attrs.asdict(self)}

    def _wrong(self, found: str) -> TickdslError:
        return TickdslError(
            f"the network takes sequences of {self.in_words}: whole numbers from 0 to {self.vocabulary - 1}; {found}",
            f"pass int64 [N, {self.length}], made by the tokenizer of the training data",
        )
