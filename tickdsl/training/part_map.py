"""Which parts of a network's weights go into which parts of another: `map="encoder*=encoder*"`. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from tickdsl.errors import PartMapError

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]

_EXAMPLES = 'write `map="decoder=generator"`, `map="encoder*=encoder*"` or `map="=backbone"`'
_SIZES = "use networks whose parts have the same layers and sizes: equal options, images of as many channels"


@attrs.frozen
class Part:
    """The modules `source` of the network that weights were saved from become the modules `target` of this one.

    Both are module paths in which `*` stands for the same characters of one name; empty for the whole network, of which
    that is taken, or left fresh, which the other one does not have.
    """

    source: str
    target: str

    def target_of(self, name: str) -> str | None:
        """The name in this network of a weight, a channel group or a block; None if it is not in the part."""
        if not self.source:
            return f"{self.target}.{name}"
        match = _pattern(self.source).fullmatch(name)
        if match is None:
            return None
        *stars, rest = match.groups()
        found = iter(stars)
        module = re.sub(r"\*", lambda _: next(found), self.target)
        return (module + rest).removeprefix(".") or None

    def must_hold(self, name: str) -> bool:
        """Whether a weight with this name here has to come from the part."""
        return bool(self.target) and _pattern(self.target).fullmatch(name) is not None


@attrs.frozen
class PartMap:
    """The parts of a network that start from parts of the weights; `text` is how a plan says it."""

    text: str
    parts: tuple[Part, ...]

    @classmethod
    def of_model(cls, options: Mapping[str, Any]) -> PartMap | None:
        """The map in a model's options; None if they have none. Raises PartMapError if it is malformed."""
        text = str(options.get("map", ""))
        if not text:
            return None
        if not options.get("weights"):
            raise PartMapError(f'map="{text}" has no effect without `weights=`', "add `weights=`, or remove `map`")
        if options["weights"] == "default":
            raise PartMapError(
                f'map="{text}" takes parts of a file, and weights=default are those of the whole network',
                "set `weights=` to a file or a ticket, or remove `map`",
            )
        return cls(text, tuple(_parse(pair, text) for pair in text.split(",")))

    def rename(self, values: Mapping[str, T], ours: Collection[str], weights: str) -> dict[str, T]:
        """Those of the mapped parts under their names here.

        values: of the file. ours: the names in this network. weights: the file, as messages name it.

        Raises PartMapError if a part does not exist, or two go into one.
        """
        renamed: dict[str, T] = {}
        for part in self.parts:
            found = {target: value for name, value in values.items() if (target := part.target_of(name)) is not None}
            if not found:
                raise self._error(f"{weights} has no part `{part.source}`", f"its parts are {_parts(values)}")
            if not part.source:
                found = {name: value for name, value in found.items() if name in ours}
            if not (any(map(part.must_hold, ours)) if part.target else found.keys() & set(ours)):
                name = part.target or part.source
                raise self._error(f"this network has no part `{name}`", f"its parts are {_parts(ours)}")
            if twice := sorted(renamed.keys() & found.keys()):
                raise self._error(f"two parts give `{twice[0]}`", "name each part of this network once")
            renamed |= found
        return renamed

    def fit(self, found: Shapes, ours: Shapes, weights: str, optional: Collection[str] = ()) -> list[str]:
        """The names here of the weights that the file has for this network.

        found: the shapes in the file. ours: those in this network. weights: the file, as messages name it. optional:
        names that the file may lack.

        Raises PartMapError if a part does not exist, has other layers or other shapes.
        """
        theirs = self.rename({name: name for name in found}, ours, weights)
        for name in ours:
            needed = name not in optional and not name.endswith("num_batches_tracked")
            if needed and name not in theirs and any(part.must_hold(name) for part in self.parts):
                raise self._error(f"{weights} has no weights for `{name}`", _SIZES)
        for name, source in theirs.items():
            if name not in ours:
                raise self._error(f"{weights} has `{source}`, and this network has no `{name}`", _SIZES)
            if ours[name] != found[source]:
                there, here = _size(found[source]), _size(ours[name])
                raise self._error(f"`{source}` is {there} in {weights}, and `{name}` is {here} here", _SIZES)
        return list(theirs)

    def targets(self, name: str, ours: Collection[str]) -> list[str]:
        """The names here of a channel group, a block or a weight of the file: one for each part that it is in.

        ours: the names of this network's weights, which tell what of a whole network does not exist here.
        """
        return [
            target
            for part in self.parts
            if (target := part.target_of(name)) is not None
            if part.source or any(f"{each}.".startswith(f"{target}.") for each in ours)
        ]

    def misfit(self, problem: str) -> PartMapError:
        """The error for parts of other structure."""
        return self._error(problem, _SIZES)

    def _error(self, problem: str, way_out: str) -> PartMapError:
        return PartMapError(f'map="{self.text}": {problem}', way_out)


def _parse(pair: str, text: str) -> Part:
    source, separator, target = (word.strip() for word in pair.partition("="))
    if not separator or not (source or target) or "=" in target:
        raise PartMapError(
            f'map="{text}" must say which part of the weights goes into which part of the network', _EXAMPLES
        )
    if source and target and source.count("*") != target.count("*"):
        raise PartMapError(
            f'map="{text}" has {source.count("*")} `*` in `{source}` and {target.count("*")} in `{target}`',
            "a `*` of the network stands for what that of the weights matched: write as many on both sides",
        )
    if "*" in source + target and not (source and target):
        raise PartMapError(f'map="{text}" has a `*` on one side only', _EXAMPLES)
    return Part(source, target)


def _pattern(path: str) -> re.Pattern[str]:
    """Matches the names of modules on a path and of what is in them; a group for each `*`, and one for the rest."""
    return re.compile(r"([^.]*)".join(map(re.escape, path.split("*"))) + r"(|\..*)")


def _parts(names: Iterable[str]) -> str:
    found = sorted({name.partition(".")[0] for name in names})
    return ", ".join(found[:8]) + (", …" if len(found) > 8 else "")


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a number"
