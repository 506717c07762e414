"""The latency of a pruned network, predicted from latencies of its layers at several widths. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    """The latency of a network: the sum of its measured layers, and of a rest that follows the sizes of its values.

    `rest` are the seconds that the dense network takes beyond its measured layers, in norms, activations, sums and
    products of activations; it shrinks with the number of values that these operators return. `modules` are the paths
    of the measured layers.
    """

    layers: tuple[MeasuredLayer, ...]
    rest: float
    modules: frozenset[str]

    def seconds(self, graph: ModelGraph, structure: Structure) -> float:
        """The predicted seconds of one input."""
        removed = removed_parameters(graph, structure)
        total = sum(
            layer.calls * self._layer(graph, structure, layer) for layer in self.layers if layer.weight not in removed
        )
        return total + self.rest * self._rest_left(graph, structure)

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

    def _rest_left(self, graph: ModelGraph, structure: Structure) -> float:
        whole = self._values(graph, Structure.dense(graph))
        return self._values(graph, structure) / whole if whole else 0.0

    def _values(self, graph: ModelGraph, structure: Structure) -> int:
        """The number of values that operators outside the measured layers return."""
        sizes = layout_sizes(graph, structure)
        bypassed = {node for block in structure.removed_blocks for node in graph.block(block).operators}
        count = 0
        for node, data in graph.graph.nodes(data=True):
            if data["kind"] != "operator" or data["train_only"] or data["view"] or node in bypassed:
                continue
            if data["module"] in self.modules:
                continue
            for shape, dims in zip(data["shapes"], data["dims"], strict=True):
                left = [size if dim is None else sizes[dim] for size, dim in zip(shape, dims, strict=True)]
                count += int(np.prod(left, dtype=np.int64))
        return count


def latency_words(seconds: Mapping[str, float]) -> str:
    """Predicted and measured seconds as text: `1.02 ms predicted, 1.1 ms measured, 2.05 ms dense`."""
    return ", ".join(f"{1000 * value:.3g} ms {name}" for name, value in seconds.items())
