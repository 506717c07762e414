"""The latency of a pruned network, predicted from latencies of its layers at several widths. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.graph.costs import layout_sizes
from tickdsl.graph.indexing import kept_indices, removed_parameters
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure

#: The shares of a layer's width at which it is measured, beside a width of 1.
LADDER = (0.25, 0.5, 0.75, 1.0)
NANOSECONDS = 1e9


def ladder(width: int) -> list[int]:
    """The widths at which a layer of this width is measured, ascending."""
    return sorted({1, *(max(1, round(share * width)) for share in LADDER)})


@attrs.frozen(eq=False)
class LayerCurve:
    """The seconds of a layer by its number of inputs and outputs, [inputs, outputs], which never fall with a width."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    seconds: NDArray[np.float64]

    @classmethod
    def of(cls, inputs: Sequence[int], outputs: Sequence[int], seconds: Sequence[float]) -> LayerCurve:
        """The curve of measurements in row-major order; a narrower layer is taken to be no slower than a wider one."""
        grid = np.asarray(seconds, dtype=np.float64).reshape(len(inputs), len(outputs))
        for axis in (0, 1):
            grid = np.maximum.accumulate(grid, axis=axis)
        return cls(tuple(inputs), tuple(outputs), grid)

    def at(self, inputs: int, outputs: int) -> float:
        """The seconds at these widths, linear between measured ones in each of the two."""
        by_input = [np.interp(outputs, self.outputs, row) for row in self.seconds]
        return float(np.interp(inputs, self.inputs, by_input))


@attrs.frozen
class MeasuredLayer:
    """A layer that was measured: its weight, how often it runs, and the dimensions of its inputs and outputs.

    With `groups` above 1, it is measured as so many independent groups, and a curve has one input width.
    """

    weight: str
    curve: LayerCurve
    calls: int = 1
    input_dim: int = 1
    output_dim: int = 0
    groups: int = 1


@attrs.frozen(eq=False)
class LatencyModel:
    """The latency of a network: the sum of its measured layers, and of what its other operators take.

    These are norms, activations, sums and products of activations: each takes `overhead` seconds, however small it is,
    and together they take `rest` seconds more in the dense network, which shrink with the number of values that they
    return. `modules` are the paths of the measured layers.
    """

    layers: tuple[MeasuredLayer, ...]
    overhead: float
    rest: float
    modules: frozenset[str]

    @classmethod
    def of(
        cls,
        graph: ModelGraph,
        layers: tuple[MeasuredLayer, ...],
        modules: frozenset[str],
        overhead: float,
        whole: float,
    ) -> LatencyModel:
        """The model of a dense network that takes `whole` seconds; `overhead`: those of an operator on one value."""
        alone = cls(layers, 0.0, 0.0, modules)
        dense = Structure.dense(graph)
        left = max(0.0, whole - alone.seconds(graph, dense))
        operators, _ = alone._others(graph, dense)
        overhead = min(overhead, left / operators) if operators else 0.0
        return cls(layers, overhead, left - operators * overhead, modules)

    def seconds(self, graph: ModelGraph, structure: Structure) -> float:
        """The predicted seconds of one input."""
        removed = removed_parameters(graph, structure)
        total = sum(
            layer.calls * self._layer(graph, structure, layer) for layer in self.layers if layer.weight not in removed
        )
        operators, values = self._others(graph, structure)
        _, whole = self._others(graph, Structure.dense(graph))
        return total + operators * self.overhead + (self.rest * values / whole if whole else 0.0)

    def nanoseconds(self, graph: ModelGraph, structure: Structure) -> int:
        """The same as a whole number, for targets."""
        return round(NANOSECONDS * self.seconds(graph, structure))

    @staticmethod
    def _layer(graph: ModelGraph, structure: Structure, layer: MeasuredLayer) -> float:
        kept, shape = kept_indices(graph, structure, layer.weight), graph.shape(layer.weight)
        inputs, outputs = (
            shape[dim] if kept[dim] is None else len(kept[dim])  # type: ignore[arg-type]
            for dim in (layer.input_dim, layer.output_dim)
        )
        return layer.curve.at(layer.curve.inputs[0] if layer.groups > 1 else inputs, outputs)

    def _others(self, graph: ModelGraph, structure: Structure) -> tuple[int, int]:
        """How many operators outside the measured layers are left, and the number of values that they return."""
        sizes = layout_sizes(graph, structure)
        bypassed = {node for block in structure.removed_blocks for node in graph.block(block).operators}
        operators = values = 0
        for node, data in graph.graph.nodes(data=True):
            if data["kind"] != "operator" or data["train_only"] or data["view"] or node in bypassed:
                continue
            if data["module"] in self.modules:
                continue
            operators += 1
            for shape, dims in zip(data["shapes"], data["dims"], strict=True):
                left = [size if dim is None else sizes[dim] for size, dim in zip(shape, dims, strict=True)]
                values += int(np.prod(left, dtype=np.int64))
        return operators, values
