"""What a network's numbers go through before they reach it, as in the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.tickets.channel_preprocessing import ChannelPreprocessing
from tickdsl.training.catalogue.input_shapes import shape_in_words
from tickdsl.training.data.preprocess import Standardise
from tickdsl.training.rng import generator


@attrs.frozen
class FloatPreprocessing(ChannelPreprocessing):
    """Numbers, float32 [N, `channels`, `height`, `width`], standardised per channel; columns are channels of one pixel.

    mean, std: of the training data, one number per channel, of the values as they are.
    """

    #: The name of the input in exported files, and what one is called.
    input_name, unit = "numbers", "input"

    @property
    def has_columns(self) -> bool:
        """Whether an input is a row of numbers."""
        return self.height == self.width == 1

    @property
    def in_words(self) -> str:
        """The inputs for people: `4 columns of numbers`, or `numbers of 3×8×8`."""
        return f"{self.channels} columns of numbers" if self.has_columns else f"numbers of {shape_in_words(self.shape)}"

    def file_input(self, stored: Tensor) -> Tensor:
        """What exported files take, of numbers [N, C, H, W] as a data set stores them: the same, float32."""
        return stored.float()

    def random(self, count: int) -> Tensor:
        """Random numbers as a data set stores them, the same each time: float32 [count, C, H, W]."""
        drawn = torch.randn((count, *self.shape), generator=generator(0, "verification"))
        return self._destandardised(drawn)

    def fixed(self, count: int) -> Tensor:
        """Numbers that are the same everywhere, as a data set stores them: float32 [count, C, H, W]."""
        return self._destandardised(self.fixed_levels(count).float() / 64 - 2)

    def __call__(self, numbers: Tensor | np.ndarray[Any, Any] | Sequence[Any]) -> Tensor:
        """Prepare numbers as the training did: float32 [N, C, H, W].

        numbers: a tensor, an array or a list, [N, C, H, W] or [C, H, W], as they are in the data set; of columns also
        [N, columns] or [columns]. Raises TickdslError for others.
        """
        try:
            given = numbers if isinstance(numbers, Tensor) else torch.from_numpy(np.array(numbers, dtype=np.float32))
        except (TypeError, ValueError) as error:
            raise self._wrong(f"these are {type(numbers).__name__}") from error
        found = list(given.shape)
        if self.has_columns and given.dim() in (1, 2) and given.shape[-1] == self.channels:
            given = given.reshape(-1, self.channels, 1, 1)
        elif given.dim() == 3:
            given = given.unsqueeze(0)
        if given.dim() != 4 or tuple(given.shape[1:]) != self.shape:
            raise self._wrong(f"these are {found}")
        return self.normalize(given.float())

    def normalize(self, numbers: Tensor) -> Tensor:
        """Standardise numbers [N, C, H, W] as the training did."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return Standardise(mean, std, numbers.device)(numbers)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"kind": "numbers", **attrs.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def _destandardised(self, numbers: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return numbers * std + mean

    def _wrong(self, found: str) -> TickdslError:
        sizes = f"[N, {self.channels}]" if self.has_columns else f"[N, {', '.join(map(str, self.shape))}]"
        return TickdslError(f"the network takes {self.in_words}; {found}", f"pass float32 {sizes}")
