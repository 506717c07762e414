"""What a plan means once every name, default and sweep is resolved. Immutable, JSON-able, torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import attrs

from tickdsl.moments import Moment

#: Option values as JSON has them.
Options = Mapping[str, Any]


def _source_location() -> Any:
    """Where in the source a value was written; no part of what it means."""
    return attrs.field(default=None, eq=False, repr=False, kw_only=True, metadata={"origin": True})


@attrs.frozen
class Model:
    """A network by its catalogue name."""

    name: str
    options: Options = attrs.field(factory=dict)
    span: Any = _source_location()

    @property
    def weights_file(self) -> str | None:
        """The file that its initial weights come from, if they come from one."""
        found = self.options.get("weights")
        return str(found) if found and found != "default" else None


@attrs.frozen
class Data:
    """A data set by its catalogue name."""

    name: str
    options: Options = attrs.field(factory=dict)
    span: Any = _source_location()


@attrs.frozen
class Split:
    """Training runs once per part: contiguous blocks of classes, or disjoint shares of the samples."""

    by: str
    parts: int
    span: Any = _source_location()


@attrs.frozen
class Share:
    """A share of the units that remain (or of the original ones) that one round takes."""

    share: Fraction
    of: str = "remaining"


@attrs.frozen
class Count:
    """That many units of each group (local) or of the network (global)."""

    count: int


@attrs.frozen
class To:
    """A share of the original units that is gone in the end."""

    share: Fraction


@attrs.frozen
class Stages:
    """A share of what remains for each stage: successive layers at one spatial resolution."""

    shares: tuple[Fraction, ...]


@attrs.frozen
class Matching:
    """As many units as that arm has removed at the same level."""

    arm: str


Amount = Share | Count | To | Stages | Matching


@attrs.frozen
class Condition:
    """`metric comparison bound`, e.g. accuracy < 0.9."""

    metric: str
    comparison: str
    bound: float
    span: Any = _source_location()

    def holds(self, value: float) -> bool:
        """Whether the condition is met by a measured value."""
        match self.comparison:
            case "<":
                return value < self.bound
            case "<=":
                return value <= self.bound
            case ">":
                return value > self.bound
            case _:
                return value >= self.bound


@attrs.frozen
class Prune:
    """`times` rounds, or as many as `until` (a share of the original units that must be gone) needs.

    `ends`: no further round once a level meets the condition. Without any of the three, a prune that matches an arm
    has as many rounds as that has levels.

    `settles`: what goes is chosen after every epoch of the training, and goes once the choice has settled; at the end
    of the training, or at `at`, where it never does.
    """

    unit: str
    scope: str
    amount: Amount
    by: str
    #: Whether the ranking looks at training pictures, which the seed draws.
    pictures: bool = False
    times: int | None = 1
    until: Fraction | None = None
    ends: Condition | None = None
    settles: Condition | None = None
    at: Moment | None = None
    at_place: Any = _source_location()
    within: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    span: Any = _source_location()
    amount_span: Any = _source_location()
    by_span: Any = _source_location()
    within_spans: Any = _source_location()
    protect_spans: Any = _source_location()


@attrs.frozen
class Overlap:
    """Keep what at least `at_least` of the parts kept."""

    at_least: int
    span: Any = _source_location()


@attrs.frozen
class Rewind:
    """`lr`: the recipe again from `to`, weights kept; `weights`: those of the dense run at `to` as well."""

    what: str
    to: Moment
    to_place: Any = _source_location()
    span: Any = _source_location()


@attrs.frozen
class Retrain:
    """The next training is by this recipe instead; `fresh`: from fresh weights. `schedule` is the word written.

    `given` are the options written, of which the recipe was made.
    """

    schedule: str
    recipe: Options
    fresh: bool = False
    given: Any = _source_location()
    span: Any = _source_location()


@attrs.frozen
class Distill:
    """The next training learns from `teacher` (`dense`, or an arm) as well, until a moment of its recipe.

    The loss is `weight` x temperature^2 x KL(teacher || student) of softened answers + (1 - weight) x cross-entropy.
    """

    teacher: str
    temperature: float
    weight: float
    until: Moment | None = None
    span: Any = _source_location()


Tail = Overlap | Rewind | Retrain | Distill


@attrs.frozen
class Rounds:
    """A prune and what follows it up to the next one; `joined`: the next prune belongs to the same round."""

    prune: Prune
    tail: tuple[Tail, ...] = ()
    joined: bool = False


@attrs.frozen
class Transfer:
    """Every level is judged on other data, with a fresh classifier (`reset`) or the one there is (`keep`).

    `tail` says what is trained there, where that is not what is pending.
    """

    data: Data
    head: str = "reset"
    tail: tuple[Rewind | Retrain, ...] = ()
    span: Any = _source_location()


@attrs.frozen
class Arm:
    """One pipeline under one binding of the sweeps."""

    id: str
    name: str
    sweep: Mapping[str, Any]
    model: Model
    data: Data
    recipe: Options
    rounds: tuple[Rounds, ...]
    split: Split | None = None
    transfer: Transfer | None = None
    span: Any = _source_location()
    recipe_span: Any = _source_location()
    #: field of the recipe (`milestones.0`: one of a list) -> where its value was written
    recipe_places: Any = _source_location()

    @property
    def protects_head(self) -> bool:
        """Whether the classifier is left alone: parts have their own, and other data get a fresh one."""
        return self.split is not None or (self.transfer is not None and self.transfer.head == "reset")

    @property
    def referenced_arms(self) -> tuple[str, ...]:
        """The arms that this one learns from or matches."""
        tails = (tail for group in self.rounds for tail in group.tail)
        teachers = [tail.teacher for tail in tails if isinstance(tail, Distill) and tail.teacher != "dense"]
        matched = [group.prune.amount.arm for group in self.rounds if isinstance(group.prune.amount, Matching)]
        return tuple(dict.fromkeys([*teachers, *matched]))


@attrs.frozen
class MeasurementOptions:
    """How `report` measures: `batch` pictures are classified at once; energy is reckoned from `watts` where no counter
    is readable (None: by the device), CO2 from energy by `intensity` in grams per kilowatt-hour.

    The default intensity is the world's mean in 2023 (Ember, Global Electricity Review 2024).
    """

    batch: int = 128
    watts: float | None = None
    intensity: float = 480.0


@attrs.frozen
class Plan:
    """A whole experiment. `helpers` are arms that the compared ones name, and that are not compared themselves."""

    name: str
    path: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    rivals: tuple[str, ...] = ()
    rival_levels: str = "all"
    rival_budget: str = "epochs"
    within: Fraction = Fraction(0)
    #: What `report` asks for; empty where the plan leaves the choice.
    metrics: tuple[str, ...] = ()
    measuring: MeasurementOptions = MeasurementOptions()
    stops: tuple[Condition, ...] = ()
    helpers: tuple[Arm, ...] = ()
    compare_span: Any = _source_location()
    report_span: Any = _source_location()

    def find_arm(self, name: str, referrer: Arm) -> Arm | None:
        """The arm that another one names: under the same values of the sweeps that both read."""
        for arm in (*self.arms, *self.helpers):
            if arm.name == name and all(referrer.sweep.get(key, value) == value for key, value in arm.sweep.items()):
                return arm
        return None


#: Where several types may stand, each names itself.
_TAGGED_TYPES = Share | Count | To | Stages | Matching | Overlap | Rewind | Retrain | Distill


def as_json(value: Any) -> Any:
    """A plan, or part of one, as plain JSON values; each type of amount or tail names itself."""
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, Moment):
        return str(value)
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    if attrs.has(type(value)):
        fields = {
            f.name: as_json(getattr(value, f.name)) for f in attrs.fields(type(value)) if not f.metadata.get("origin")
        }
        kind = type(value).__name__.lower()
        return {"kind": kind, **fields} if isinstance(value, _TAGGED_TYPES) else fields
    return value
