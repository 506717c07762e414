"""Whether initial weights are those of a network, told from names and shapes alone, without loading torch."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping

from tickdsl.errors import TickdslError
from tickdsl.training.part_map import PartMap

Shapes = Mapping[str, tuple[int, ...]]
#: What to do with the plain weights of a pruned network, which do not say which units they belong to.
_TICKET = "to go on from a pruned network, name a ticket that `tickdsl export` wrote: it holds the structure too"
#: Prefixes of auxiliary classifiers, which networks are built without.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")


def require_fit(
    weights: str,
    name: str,
    found: Shapes,
    expected: Shapes,
    head: str,
    optional: Collection[str] = (),
    part: PartMap | None = None,
) -> list[str]:
    """The names of the weights to load: all that the network has, without the head if that is of other classes.

    weights: the file, as messages name it. name: the network. found, expected: the shapes in the file and in the
    network. head: the module path of the classifier. optional: names that the file may lack. part: the parts of
    the weights that are loaded, and where they go.

    Raises TickdslError if the weights are those of another network, PartMapError if a part does not fit.
    """
    if part is not None:
        return part.fit(found, expected, weights, optional)
    unexpected = [key for key in found if key not in expected and not key.startswith(_AUXILIARY)]
    missing = [
        key for key in expected if key not in found and key not in optional and not key.endswith("num_batches_tracked")
    ]
    if unexpected or missing:
        key = (unexpected or missing)[0]
        raise TickdslError(
            f"weights={weights} are not those of {name}: {'the network has no' if unexpected else 'they lack'} {key}",
            "use weights that were saved from this network" + ("" if unexpected else f"; {_TICKET}"),
        )
    matching = [key for key in found if key in expected]
    mismatched = [key for key in matching if found[key] != expected[key]]
    mismatched_body = [key for key in mismatched if not key.startswith(f"{head}.")]
    if mismatched_body:
        shapes = f"{found[mismatched_body[0]]}, not {expected[mismatched_body[0]]}"
        if _is_smaller((found[key], expected[key]) for key in mismatched_body):
            raise TickdslError(
                f"weights={weights} are those of a smaller {name}: {mismatched_body[0]} is {shapes}",
                f"{_TICKET}; a network with another `width=` needs that option here too",
            )
        raise TickdslError(
            f"weights={weights} do not fit {name} on this data: {mismatched_body[0]} is {shapes}",
            "use images of the size that the weights were trained on",
        )
    # If the classifier does not match, load neither its weight nor its bias.
    return [key for key in matching if not (mismatched and key.startswith(f"{head}."))]


def _is_smaller(shapes: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Whether these (found, expected) shapes are those of the network with fewer units, as in a ticket."""
    pairs = list(shapes)
    nowhere_larger = all(
        len(found) == len(expected) and all(map(operator.le, found, expected)) for found, expected in pairs
    )
    return nowhere_larger and any(found[:1] < expected[:1] for found, expected in pairs)
