"""Rules for operators that read or write positions by index: indexed dimensions cannot shrink, the others can."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import torch
from torch import Tensor

from tickdsl.graph.coupling.analysis import OperatorCall, Rule
from tickdsl.graph.coupling.families import Families, Family, TensorInfo, expand_rank, varying_dims
from tickdsl.graph.coupling.joins import join_families

_LOOKS_UP = "looks it up by index"
_WRITES = "writes to it by index"
_SORTS = "orders it"
_FILLS = "fills it in order"


@attrs.frozen
class _Indexing:
    """`x[indices]`: the dimensions that indices and masks cover, and the dimension of `x` for each one of the result.

    A mask covers all its dimensions, which become one. The dimensions of indices have no counterpart (None).
    """

    integer_dims: tuple[int, ...]
    masks: tuple[tuple[int, Tensor], ...]
    result_dims: tuple[int | None, ...]

    @property
    def mask_dims(self) -> tuple[int, ...]:
        return tuple(start + dim for start, mask in self.masks for dim in range(mask.ndim))


def _indexing(call: OperatorCall) -> _Indexing:
    rank, start, span = len(call.tensor_info("self").shape), 0, 0
    integer_dims: list[int] = []
    masks: list[tuple[int, Tensor]] = []
    for entry in call["indices"]:
        if entry is None:
            start += 1
        elif entry.dtype in (torch.bool, torch.uint8):
            masks.append((start, entry))
            start, span = start + entry.ndim, max(span, 1)
        else:
            integer_dims.append(start)
            start, span = start + 1, max(span, entry.ndim)
    covered = sorted({*integer_dims, *(first + dim for first, mask in masks for dim in range(mask.ndim))})
    others: list[int | None] = [dim for dim in range(rank) if dim not in covered]
    adjacent = covered == list(range(covered[0], covered[-1] + 1))
    place = covered[0] if adjacent else 0
    result_dims = (*others[:place], *[None] * span, *others[place:])
    return _Indexing(tuple(integer_dims), tuple(masks), result_dims)


def index(call: OperatorCall) -> list[Families]:
    """`x[indices]`: indexed dimensions cannot shrink, the others can."""
    indexing = _indexing(call)
    families = call.require_rigid(
        {*indexing.integer_dims, *indexing.mask_dims}, call.tensor_info("self").families, _LOOKS_UP
    )
    return [tuple(_at_dims(family, indexing.result_dims) for family in families)]


def _at_dims(family: Family, dims: Iterable[int | None]) -> Family:
    """The family with its dimensions at other places; None is a new dimension of size 1."""
    return family.reshape([1 if dim is None else family.shape[dim] for dim in dims])


def index_put(call: OperatorCall) -> list[Families]:
    """`x[indices] = values`: masks follow `x`; values follow it along the dimensions that are not indexed."""
    data, values, indexing = call.tensor_info("self"), call.tensor_info("values"), _indexing(call)
    rank = len(data.shape)
    is_ordered = any(size > 1 for size in _sizes_of_new_dims(values, indexing))
    rigid_dims = {*indexing.integer_dims, *(indexing.mask_dims if is_ordered else ())}
    operands = [attrs.evolve(data, families=call.require_rigid(rigid_dims, data.families, _WRITES))]
    for start, mask in indexing.masks:
        info = call.analysis.tensor_info(mask)
        places = [dim - start if start <= dim < start + mask.ndim else None for dim in range(rank)]
        families = call.require_rigid([dim - start for dim in rigid_dims], info.families, _WRITES)
        operands.append(_moved(TensorInfo(info.shape, families), places))
    size = len(indexing.result_dims)
    lead = size - len(values.shape)
    new_dims = [dim - lead for dim, place in enumerate(indexing.result_dims) if place is None and dim >= lead]
    families = call.require_rigid(new_dims, values.families, _WRITES)
    places = [indexing.result_dims.index(dim) - lead if dim in indexing.result_dims else None for dim in range(rank)]
    places = [None if place is None or place < 0 else place for place in places]
    operands.append(_moved(TensorInfo(values.shape, families), places))
    return [_joined(call, operands)]


def _sizes_of_new_dims(values: TensorInfo, indexing: _Indexing) -> list[int]:
    lead = len(indexing.result_dims) - len(values.shape)
    return [values.shape[dim - lead] for dim, place in enumerate(indexing.result_dims) if place is None and dim >= lead]


def _moved(value: TensorInfo, places: Iterable[int | None]) -> TensorInfo:
    """The value with its dimensions at other places; None is a dimension of size 1."""
    places = list(places)
    shape = tuple(1 if place is None else value.shape[place] for place in places)
    families = []
    for family in value.families:
        used = [place for place in places if place is not None]
        order = [*used, *(dim for dim in range(family.ndim) if dim not in used)]
        sizes = iter(family.transpose(order).shape[: len(used)])
        families.append(family.transpose(order).reshape([1 if place is None else next(sizes) for place in places]))
    return TensorInfo(shape, tuple(families))


def _joined(call: OperatorCall, operands: list[TensorInfo], nonzero: bool = True) -> Families:
    families = join_families(call.constraints, operands, len(call.output_shape), call.location)
    if nonzero:
        for family in families:
            call.constraints.mark_nonzero(family)
    return families


def embedding(call: OperatorCall) -> list[Families]:
    """Rows are looked up by index; the embedding dimension is a producer."""
    value = call.tensor_info("weight")
    families = []
    for family in call.require_rigid({0}, value.families, _LOOKS_UP):
        call.analysis.add_role(family, "producer")
        families.append(family.reshape((1,) * (len(call.output_shape) - 1) + (-1,)))
    if value.origin is not None:
        call.analysis.weights.setdefault(value.origin, call.module)
    return [tuple(families)]


def index_select(call: OperatorCall) -> list[Families]:
    """A lookup along one dimension."""
    value = call.tensor_info("self")
    return [call.require_rigid({call["dim"] % len(value.shape)}, value.families, _LOOKS_UP)]


def index_write(call: OperatorCall) -> list[Families]:
    """`index_add`, `index_copy`, `index_fill`: rows along a dimension are written, and follow along the others."""
    data = call.tensor_info("self")
    rank = len(data.shape)
    dim = call["dim"] % max(rank, 1)
    operands = [_without(call, data, dim)]
    if "source" in call.arguments:
        source = call.tensor_info("source")
        expanded = tuple(expand_rank(family, rank) for family in source.families)
        shape = (1,) * (rank - len(source.shape)) + source.shape
        operands.append(_without(call, TensorInfo(shape, expanded), dim))
    return [_joined(call, operands, nonzero=call.op == "index_fill")]


def _without(call: OperatorCall, value: TensorInfo, dim: int) -> TensorInfo:
    """The value with a rigid dimension, which has size 1 since it does not meet that of the other operands."""
    shape = tuple(1 if d == dim else size for d, size in enumerate(value.shape))
    return attrs.evolve(value, shape=shape, families=call.require_rigid({dim}, value.families, _WRITES))


def gather(call: OperatorCall) -> list[Families]:
    """A lookup along one dimension for each position of the others, which the index follows."""
    data, index = call.tensor_info("self"), call.tensor_info("index")
    rank = len(data.shape)
    dim = call["dim"] % max(rank, 1)
    families = []
    for family in call.require_rigid({dim}, data.families, _LOOKS_UP):
        for d in varying_dims(family):
            family = family.take(range(index.shape[d]), axis=d)
        families.append(family)
    shape = tuple(1 if d == dim else size for d, size in enumerate(index.shape))
    return [_joined(call, [TensorInfo(shape, tuple(families)), _without(call, index, dim)], nonzero=False)]


def scatter(call: OperatorCall) -> list[Families]:
    """Writes along one dimension for each position of the others; index and source follow where they are as large."""
    data = call.tensor_info("self")
    rank = len(data.shape)
    dim = call["dim"] % max(rank, 1)
    operands = [_without(call, data, dim)]
    names = ["index", *(["src"] if isinstance(call.arguments.get("src"), Tensor) else [])]
    for name in names:
        value = _without(call, call.tensor_info(name), dim)
        partial = [d for d in range(rank) if d != dim and value.shape[d] != data.shape[d]]
        families = call.require_rigid(partial, value.families, _WRITES)
        operands[0] = attrs.evolve(operands[0], families=call.require_rigid(partial, operands[0].families, _WRITES))
        shape = tuple(1 if d in partial else size for d, size in enumerate(value.shape))
        operands.append(attrs.evolve(value, shape=shape, families=families))
    return [_joined(call, operands)]


def masked_scatter(call: OperatorCall) -> list[Families]:
    """Fills the positions of a mask in order, so that no dimension of any operand can shrink."""
    for tensor in call.tensors:
        for family in call.analysis.tensor_info(tensor).families:
            call.constraints.fix(family, f"`{call.location}` {_FILLS}")
    return [()]


def ordered(call: OperatorCall) -> list[Families]:
    """`sort`, `topk`, medians and running extremes: the dimension cannot shrink, the others can."""
    value = call.tensor_info("self")
    rank = len(value.shape)
    dim = (call["dim"] if "dim" in call.arguments else -1) % max(rank, 1)
    families = call.require_rigid({dim}, value.families, _SORTS)
    if len(call.output_shape) < rank:
        families = tuple(family.squeeze(dim) for family in families)
    return [families for _ in call.outputs]


RULES: dict[str, Rule] = {
    "index": index,
    "index_put": index_put,
    "_index_put_impl": index_put,
    "embedding": embedding,
    "index_select": index_select,
    **dict.fromkeys(("index_add", "index_copy", "index_fill", "index_reduce"), index_write),
    "gather": gather,
    **dict.fromkeys(("scatter", "scatter_add", "scatter_reduce"), scatter),
    "masked_scatter": masked_scatter,
    **dict.fromkeys(("sort", "topk", "kthvalue", "median", "nanmedian", "mode", "cummax", "cummin"), ordered),
}
