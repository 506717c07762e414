"""The controls that prune the weights a ticket starts from by another criterion, at once, to the ticket's size."""

from __future__ import annotations

import attrs


@attrs.frozen
class CriterionControl:
    """A criterion, whether it uses training images, which the seed selects, and in how many steps it prunes."""

    name: str
    pictures: bool = False
    iterations: int = 1


#: SynFlow prunes in 100 steps, as its authors do: in one, it empties layers.
CRITERION_CONTROLS = {
    "by-magnitude": CriterionControl("magnitude"),
    "by-snip": CriterionControl("snip", pictures=True),
    "by-grasp": CriterionControl("grasp", pictures=True),
    "by-synflow": CriterionControl("synflow", iterations=100),
}
