"""Which part of a network's weights goes into which part of another: `map=decoder=generator`. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from tickdsl.errors import TickdslError

T = TypeVar("T")


@attrs.frozen
class PartMap:
    """The module `source` of the network that weights were saved from becomes the module `target` of this one."""

    source: str
    target: str

    @classmethod
    def of_model(cls, options: Mapping[str, Any]) -> PartMap | None:
        """The map in a model's options; None if they have none. Raises TickdslError if it is malformed."""
        text = str(options.get("map", ""))
        if not text:
            return None
        source, separator, target = (word.strip() for word in text.partition("="))
        if not (source and separator and target) or "=" in target:
            raise TickdslError(
                f'map="{text}": it names a part of the weights and a part of the network',
                'write `map="decoder=generator"`',
            )
        if not options.get("weights"):
            raise TickdslError(f'map="{text}" has no effect without `weights=`', "add `weights=`, or remove `map`")
        return cls(source, target)

    def target_of(self, name: str) -> str | None:
        """The name in this network of a weight, a channel group or a block; None if it belongs to no mapped part."""
        if name != self.source and not name.startswith(f"{self.source}."):
            return None
        return self.target + name.removeprefix(self.source)

    def holds(self, name: str) -> bool:
        """Whether a name of this network belongs to the part that the weights go into."""
        return name.startswith(f"{self.target}.")

    def rename(self, values: Mapping[str, T], weights: str) -> dict[str, T]:
        """Those of the mapped part under their names here. Raises TickdslError if there are none.

        weights: the file, as messages name it.
        """
        renamed = {target: value for name, value in values.items() if (target := self.target_of(name)) is not None}
        if not renamed:
            parts = ", ".join(sorted({name.partition(".")[0] for name in values}))
            raise TickdslError(
                f"weights={weights} have no part `{self.source}`", f"its parts are {parts}: change `map`"
            )
        return renamed
