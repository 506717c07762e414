"""The rules of all supported ATen operators: how each transforms and couples the families of its operands."""

from __future__ import annotations

from tickdsl.graph.coupling.analysis import Rule
from tickdsl.graph.coupling.rules import (
    contractions,
    elementwise,
    fourier,
    lookups,
    normalisations,
    reductions,
    shapes,
    spatial,
)

#: Rules by operator name, without overload and without the trailing underscore of in-place variants.
RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **shapes.RULES,
    **contractions.RULES,
    **normalisations.RULES,
    **reductions.RULES,
    **lookups.RULES,
    **fourier.RULES,
    **spatial.RULES,
}

#: Operators whose outputs share memory with their inputs.
VIEWS = shapes.VIEWS

#: Operators whose result, if computed from parameters alone, still counts as the weight of its shape (a scaled or
#: normalised weight).
KEEPS_WEIGHTS = elementwise.ZERO_AT_ZERO | normalisations.NORMS | {"add", "sub", "clone", "contiguous", "_to_copy"}
