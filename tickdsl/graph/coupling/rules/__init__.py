"""What every ATen operator does with the atoms of its operands. One table: operator name -> rule."""

from __future__ import annotations

from tickdsl.graph.coupling.analysis import Rule
from tickdsl.graph.coupling.rules import contractions, elementwise, lookups, normalisations, reductions, shapes, spatial

#: By the operator's name, without overload and without the trailing underscore of the in-place form.
RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **shapes.RULES,
    **contractions.RULES,
    **normalisations.RULES,
    **reductions.RULES,
    **lookups.RULES,
    **spatial.RULES,
}

#: Operators whose outputs share memory with their inputs.
VIEWS = shapes.VIEWS

#: A value that one of these makes of parameters alone is the weight of its shape still: scaled, or normalised.
KEEPS_WEIGHTS = elementwise.ZERO_AT_ZERO | normalisations.NORMS | {"add", "sub", "clone", "contiguous", "_to_copy"}
