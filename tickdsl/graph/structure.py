"""The structure of a ticket: which parts of a dense network it keeps. Needs no torch.

Structures are immutable; unit indices and masks refer to the dense network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tickdsl.errors import TickdslError
from tickdsl.graph.arrays import BoolArray, IntArray, readonly_ints
from tickdsl.graph.model import ModelGraph, Shape, hint_for_unknown_name
from tickdsl.plurals import plural

FORMAT = "1"
#: The name of the file of a structure among those of a result.
STRUCTURE_FILE = "structure.safetensors"


def _read_only(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(mapping))


class StructureError(TickdslError):
    """A removal that would empty the network, or that does not fit it."""


def _removable_by_name(blocks: Mapping[str, str | None]) -> dict[str, bool]:
    return {name: reason is None for name, reason in blocks.items()}


@attrs.frozen
class Extent:
    """The network that a structure belongs to: units per group, reasons for fixed groups and blocks, weight shapes.

    `parts` are the units of each group of which one must stay, and `coupled` maps each layer to the group of its
    channels. They are not saved. Equality ignores them, and the texts of the reasons, so that structures saved before a
    reason was reworded still fit.
    """

    groups: Mapping[str, int]
    fixed: Mapping[str, str] = attrs.field(eq=frozenset)
    blocks: Mapping[str, str | None] = attrs.field(eq=_removable_by_name)
    shapes: Mapping[str, Shape]
    parts: Mapping[str, tuple[IntArray, ...]] = attrs.field(factory=dict, eq=False, repr=False)
    coupled: Mapping[str, str] = attrs.field(factory=dict, eq=False, repr=False)

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Extent:
        """Build the extent of a traced network."""
        return cls(
            groups={group.name: group.size for group in graph.channels},
            fixed={group.name: group.reason for group in graph.channels if group.reason is not None},
            blocks={block.name: block.reason for block in graph.blocks},
            shapes=dict(graph.parameters),
            parts={group.name: group.parts for group in graph.channels if group.parts},
            coupled=graph.groups_by_producer,
        )

    def saved_fields(self) -> dict[str, Any]:
        """The fields that identify the network."""
        return attrs.asdict(self, filter=attrs.filters.exclude("parts", "coupled"))


@attrs.frozen(eq=False, repr=False)
class Structure:
    """The kept units per channel group, the removed blocks, and the masks of single weights.

    `kept` has only the groups that lost units, and `masks` only the weights that have masked entries (True = kept).
    """

    extent: Extent
    kept: Mapping[str, IntArray] = attrs.field(factory=dict, converter=_read_only)
    removed_blocks: frozenset[str] = frozenset()
    masks: Mapping[str, BoolArray] = attrs.field(factory=dict, converter=_read_only)

    @classmethod
    def dense(cls, graph: ModelGraph) -> Structure:
        """The structure of the unpruned network."""
        return cls(Extent.from_graph(graph))

    def fits(self, graph: ModelGraph) -> bool:
        """Whether a network has what the structure keeps and removes; it may know more or fewer groups and blocks."""
        return dict(self.extent.shapes) == graph.parameters and self._can_be_removed_from(Extent.from_graph(graph))

    def _can_be_removed_from(self, extent: Extent) -> bool:
        return all(
            extent.groups.get(name) == self.extent.groups[name] and name not in extent.fixed for name in self.kept
        ) and all(name in extent.blocks and extent.blocks[name] is None for name in self.removed_blocks)

    def remove(self, group: str, units: Iterable[int] | IntArray) -> Structure:
        """Remove units of a group, given by their indices in the dense network.

        Raises StructureError if no unit of the group, or of a part of it that is read alone, would remain, the group is
        fixed, or a unit does not exist.
        """
        size = self._require_known(self.extent.groups, group, "channel group", self.extent.coupled)
        if group in self.extent.fixed:
            raise StructureError(f"the channels of `{group}` cannot be removed: {self.extent.fixed[group]}")
        removed = np.asarray(units if isinstance(units, np.ndarray) else list(units), dtype=np.int64)
        if len(removed) and (removed.min() < 0 or removed.max() >= size):
            unknown = int(removed.min() if removed.min() < 0 else removed.max())
            raise StructureError(f"`{group}` has units 0 to {size - 1}, not {unknown}")
        remaining_units = np.setdiff1d(self.kept.get(group, np.arange(size)), removed)
        return self._with_kept({group: remaining_units})

    def remove_block(self, block: str) -> Structure:
        """Remove a block. Raises StructureError if it cannot be removed."""
        reason = self._require_known(self.extent.blocks, block, "block")
        if reason is not None:
            raise StructureError(f"block `{block}` cannot be removed: {reason}")
        return attrs.evolve(self, removed_blocks=self.removed_blocks | {block})

    def with_masks(self, masks: Mapping[str, BoolArray]) -> Structure:
        """Set the masks (True = kept) of the given weights, replacing earlier ones.

        Raises StructureError for an unknown weight, or a mask of another type or shape.
        """
        merged = dict(self.masks)
        for name, mask in masks.items():
            shape = self._require_known(self.extent.shapes, name, "parameter")
            if mask.dtype != np.bool_ or mask.shape != tuple(shape):
                actual = f"{mask.dtype} of shape {tuple(mask.shape)}"
                raise StructureError(f"the mask of `{name}` must be boolean of shape {tuple(shape)}, got {actual}")
            merged.pop(name, None)
            if not mask.all():
                merged[name] = mask.copy()
                merged[name].setflags(write=False)
        return attrs.evolve(self, masks=merged)

    def without_masks(self) -> Structure:
        """The structure with all weights of the units that it keeps."""
        return attrs.evolve(self, masks={})

    def intersect(self, other: Structure) -> Structure:
        """Keep only what both structures keep. Raises StructureError if a group would be left empty."""
        if self.extent != other.extent:
            raise StructureError("cannot intersect structures of different networks")
        kept = {
            name: np.intersect1d(self._units(name), other._units(name)) for name in self.kept.keys() | other.kept.keys()
        }
        common_masks = {name: self.masks[name] & other.masks[name] for name in self.masks.keys() & other.masks.keys()}
        return attrs.evolve(
            self._with_kept(kept), removed_blocks=self.removed_blocks | other.removed_blocks
        ).with_masks({**other.masks, **self.masks, **common_masks})

    def _units(self, group: str) -> IntArray:
        return self.kept.get(group, np.arange(self.extent.groups[group]))

    def _with_kept(self, changed: Mapping[str, IntArray]) -> Structure:
        kept = dict(self.kept)
        for name, units in changed.items():
            if not len(units):
                raise StructureError(f"no unit of `{name}` would remain", "keep at least one unit of each group")
            for part in self.extent.parts.get(name, ()):
                if not np.isin(part, units, assume_unique=True).any():
                    raise StructureError(
                        f"`{name}` must keep one of its units {_span(part)}, which the network reads alone",
                        "keep at least one unit of each part of a group; `graph.group(name).parts` lists them",
                    )
            kept.pop(name, None)
            if len(units) < self.extent.groups[name]:
                kept[name] = readonly_ints(units)
        return attrs.evolve(self, kept=kept)

    @staticmethod
    def _require_known(
        table: Mapping[str, Any], name: str, kind: str, coupled: Mapping[str, str] = MappingProxyType({})
    ) -> Any:
        if name not in table:
            raise StructureError(f"the network has no {kind} `{name}`", hint_for_unknown_name(name, table, coupled))
        return table[name]

    def __repr__(self) -> str:
        return (
            f"<Structure: units removed from {plural(len(self.kept), 'channel group')}, "
            f"{plural(len(self.removed_blocks), 'block')} removed, {plural(len(self.masks), 'mask')}>"
        )

    @cached_property
    def _digest(self) -> str:
        state = hashlib.sha256(json.dumps(self.extent.saved_fields(), sort_keys=True).encode())
        state.update(json.dumps(sorted(self.removed_blocks)).encode())
        for prefix, arrays in (("kept", self.kept), ("mask", self.masks)):
            for name in sorted(arrays):
                state.update(f"\n{prefix} {name}\n".encode())
                array = arrays[name]
                state.update((np.packbits(array) if prefix == "mask" else array.astype("<i8")).tobytes())
        return state.hexdigest()

    def digest(self) -> str:
        """SHA-256 of the structure's contents, in hexadecimal; structures are equal if their digests are."""
        return self._digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def save(self, path: Path | str) -> None:
        """Write the structure to a safetensors file, with one bit per masked weight; equal structures give equal bytes.

        Raises OSError if the file cannot be written.
        """
        metadata = {"tickdsl-structure": FORMAT, "about": json.dumps(self.saved_fields(), sort_keys=True)}
        Path(path).write_bytes(with_sorted_header(save(dict(self.saved_arrays()), metadata)))

    def saved_fields(self) -> dict[str, Any]:
        """What a file says of a structure besides its arrays, as JSON values."""
        return {"extent": self.extent.saved_fields(), "removed_blocks": sorted(self.removed_blocks)}

    def saved_arrays(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """The arrays in a file: the kept units of groups, and the masks of weights as packed bits."""
        arrays: dict[str, np.ndarray[Any, Any]] = {f"kept/{name}": np.asarray(u) for name, u in self.kept.items()}
        return arrays | {f"mask/{name}": np.packbits(mask) for name, mask in self.masks.items()}

    @classmethod
    def load(cls, path: Path | str) -> Structure:
        """Read a file written by `save`. Raises StructureError if it is not one."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, FileNotFoundError) as error:
            raise StructureError(f"{path} is not a structure file: {error}") from error
        if metadata.get("tickdsl-structure") != FORMAT:
            raise StructureError(f"{path} is not a structure file of format {FORMAT}")
        return cls.from_saved(json.loads(metadata["about"]), tensors)

    @classmethod
    def from_saved(cls, fields: Mapping[str, Any], arrays: Mapping[str, Any]) -> Structure:
        """The structure with these `saved_fields` and `saved_arrays`."""
        extent_fields = fields["extent"]
        shapes = {name: tuple(shape) for name, shape in extent_fields["shapes"].items()}
        kept: dict[str, IntArray] = {}
        masks: dict[str, BoolArray] = {}
        for key, value in arrays.items():
            kind, name = key.split("/", 1)
            if kind == "kept":
                kept[name] = readonly_ints(value)
            else:
                masks[name] = _unpack(value, shapes[name])
        extent = Extent(extent_fields["groups"], extent_fields["fixed"], extent_fields["blocks"], shapes)
        return cls(extent, kept, frozenset(fields["removed_blocks"]), masks)


def with_sorted_header(content: bytes) -> bytes:
    """A safetensors file with the entries of its header in order: safetensors writes metadata in a random one."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + content[end:]


def _span(units: IntArray) -> str:
    first, last = int(units[0]), int(units[-1])
    return f"{first} to {last}" if last - first == len(units) - 1 > 0 else ", ".join(map(str, units.tolist()))


def _unpack(bits: Any, shape: Shape) -> BoolArray:
    mask = np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
    mask.setflags(write=False)
    return mask
