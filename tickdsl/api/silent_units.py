"""The units that a network with zeros does not need: nothing reads them, or what is read of them is a constant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tickdsl.api.constant_inputs import ConstantInputs
from tickdsl.graph.arrays import BoolArray, IntArray
from tickdsl.graph.model import ChannelGroup, ModelGraph, Slice
from tickdsl.graph.structure import Structure

_READING_ROLES = ("consumer", "factor")


class SilentUnits:
    """Finds the units that can be removed from a network whose masked weights are zero.

    `weights` are the network's tensors, and `inputs` what its weights read. A unit is silent if all weights that read
    it are zero. A unit whose own weights are all zero is a constant: it is silent if it is zero, or if the layers that
    read it have a bias in `biases` that can hold it. `shifts` are what to add to these biases. `constant` counts by
    group the constant units that stay; with `drop`, they are removed too.
    """

    def __init__(
        self,
        graph: ModelGraph,
        weights: Mapping[str, Tensor],
        inputs: Mapping[str, ConstantInputs],
        biases: frozenset[str],
        drop: bool,
    ) -> None:
        self._graph, self._weights, self._inputs, self._biases, self._drop = graph, weights, inputs, biases, drop
        names = dict.fromkeys(part.parameter for group in graph.channels for part in group.slices)
        #: The entries of each parameter that are not zero, and belong to no removed unit.
        self._left: dict[str, BoolArray] = {
            name: weights[name].detach().cpu().numpy() != 0 for name in names if name in graph.parameters
        }
        self._remaining = {group.name: np.ones(group.size, dtype=bool) for group in graph.channels}
        self.shifts: dict[str, Tensor] = {}
        self.constant: dict[str, int] = {}

    def remove_from(self, structure: Structure) -> Structure:
        """Remove units until no further one is silent; at least one unit of each group and of its parts stays."""
        groups = [group for group in self._graph.channels if group.reason is None and group.exact]
        changed = True
        while changed:
            changed = False
            for group in groups:
                units = self._removable(group)
                if len(units):
                    self._add_shifts(group, units)
                    self._clear(group, units)
                    self._remaining[group.name][units] = False
                    structure = structure.remove(group.name, units)
                    changed = True
        return structure

    def _removable(self, group: ChannelGroup) -> IntArray:
        """The units of a group to remove now; counts the constant ones that stay."""
        reading = [part for part in group.slices if part.role in _READING_ROLES]
        if not reading:
            return np.empty(0, dtype=np.int64)
        unread = ~self._any_left(group, reading)
        constant = ~self._any_left(group, self._weight_producers(group)) & ~unread
        movable = constant & ~self._misread(group, reading)
        silent = (unread | (constant if self._drop else movable)) & self._remaining[group.name]
        for units in (np.arange(group.size), *group.parts):
            staying = units[self._remaining[group.name][units] & ~silent[units]]
            if not len(staying):
                silent[units[self._remaining[group.name][units]][:1]] = False
        stuck = int((constant & ~movable & self._remaining[group.name]).sum())
        self.constant.pop(group.name, None)
        if stuck and not self._drop:
            self.constant[group.name] = stuck
        found: IntArray = np.flatnonzero(silent)
        return found

    def _weight_producers(self, group: ChannelGroup) -> list[Slice]:
        return [part for part in group.slices if part.role == "producer" and len(self._graph.shape(part.parameter)) > 1]

    def _any_left(self, group: ChannelGroup, slices: list[Slice]) -> BoolArray:
        """Whether an entry of a unit in these slices is left, [units]; true for a unit without entries."""
        counts = np.zeros(group.size, dtype=np.int64)
        left = np.zeros(group.size, dtype=bool)
        for part in slices:
            np.add.at(counts, part.unit, 1)
            entries = self._left[part.parameter]
            others = tuple(dim for dim in range(entries.ndim) if dim != part.dim)
            np.logical_or.at(left, part.unit, np.logical_or.reduce(entries, axis=others)[part.index])
        result: BoolArray = left | (counts == 0)
        return result

    def _misread(self, group: ChannelGroup, reading: list[Slice]) -> BoolArray:
        """Whether a weight that is left reads something of a unit that is no constant for its bias, [units]."""
        misread = np.zeros(group.size, dtype=bool)
        for part in reading:
            entries = self._left[part.parameter]
            others = tuple(dim for dim in range(entries.ndim) if dim != part.dim)
            read = np.logical_or.reduce(entries, axis=others)[part.index]
            values = self._constants(part)
            foldable = values == 0
            found = self._inputs.get(part.parameter)
            if found is not None and found.bias in self._biases:
                foldable |= ~np.isnan(values)
            np.logical_or.at(misread, part.unit, read & ~foldable)
        return misread

    def _constants(self, part: Slice) -> np.ndarray:
        """The constants that a weight reads at the entries of a slice; NaN for what is unknown or varies."""
        found = self._inputs.get(part.parameter)
        if found is None or part.role != "consumer" or part.dim != 1:
            return np.full(len(part.index), np.nan)
        values: np.ndarray = found.values.double().cpu().numpy()[part.index]
        return values

    def _add_shifts(self, group: ChannelGroup, units: IntArray) -> None:
        """Add the products of removed constants and the weights that read them to the shifts of the biases."""
        for part in group.slices:
            found = self._inputs.get(part.parameter)
            if part.role != "consumer" or found is None or found.bias not in self._biases:
                continue
            values = self._constants(part)
            chosen = np.isin(part.unit, units) & ~np.isnan(values) & (values != 0)
            if chosen.any():
                weight = self._weights[part.parameter].detach()
                columns = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
                index = torch.from_numpy(part.index[chosen].copy()).to(weight.device)
                shift = columns.double()[:, index] @ torch.from_numpy(values[chosen]).to(weight.device)
                self.shifts[found.bias] = self.shifts[found.bias] + shift if found.bias in self.shifts else shift

    def _clear(self, group: ChannelGroup, units: IntArray) -> None:
        for part in group.slices:
            if part.parameter in self._left:
                index = part.index[np.isin(part.unit, units)]
                self._left[part.parameter][(slice(None),) * part.dim + (index,)] = False
