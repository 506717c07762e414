"""A resolved plan: every name, default and sweep is resolved. Immutable, convertible to JSON, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from tickdsl.moments import Moment

#: Options as JSON values.
Options = Mapping[str, Any]
#: Fewer seeds give no verdict: the variance of two values says too little about that of others.
MIN_SEEDS = 3


def _source_location() -> Any:
    """A field with a place in the source, which does not count for equality."""
    return attrs.field(default=None, eq=False, repr=False, kw_only=True, metadata={"origin": True})


@attrs.frozen
class Model:
    """A network by its catalogue name."""

    name: str
    options: Options = attrs.field(factory=dict)
    span: Any = _source_location()

    @property
    def weights_file(self) -> str | None:
        """The file with its initial weights, if any."""
        weights = self.options.get("weights")
        return str(weights) if weights and weights != "default" else None

    @property
    def pretrained_folder(self) -> str | None:
        """The local folder that its weights come from, by `config=` and `weights=default`, if any."""
        folder = self.options.get("config")
        is_taken = folder and self.options.get("weights") == "default" and Path(str(folder)).is_dir()
        return str(folder) if is_taken else None

    @property
    def has_mapped_weights(self) -> bool:
        """Whether these weights are those of one part only, so that the network is not trained yet."""
        return bool(self.options.get("map"))

    @property
    def without_weights(self) -> Model:
        """The same network with fresh initial weights."""
        options = {name: value for name, value in self.options.items() if name not in ("weights", "map")}
        return attrs.evolve(self, options=options)


@attrs.frozen
class Data:
    """A data set by its catalogue name."""

    name: str
    options: Options = attrs.field(factory=dict)
    span: Any = _source_location()


@attrs.frozen
class Split:
    """Train and prune once per part of the data: contiguous blocks of classes, or disjoint sets of samples."""

    by: str
    parts: int
    span: Any = _source_location()


@attrs.frozen
class Share:
    """Remove a share of the remaining (or of the original) units per round."""

    share: Fraction
    of: str = "remaining"


@attrs.frozen
class Count:
    """Remove this many units per round, of each group (local) or of the network (global)."""

    count: int


@attrs.frozen
class To:
    """Remove units until this share of the original ones is gone."""

    share: Fraction


@attrs.frozen
class ToCost:
    """Remove units until this share of what the dense network costs is gone; `cost`: `flops` or `params`."""

    share: Fraction
    cost: str


@attrs.frozen
class Rates:
    """Remove a share of each layer, given by patterns of layers: the first pattern that matches counts.

    `of`: the share refers to the `remaining` or the `original` units, per round; or, as a `target`, to what is gone in
    the end. Layers that no pattern matches are not pruned.
    """

    rates: tuple[tuple[str, Fraction], ...]
    of: str = "remaining"
    #: Where each pattern was written.
    spans: Any = _source_location()


@attrs.frozen
class Stages:
    """Remove a share of the units for each stage: consecutive layers of one spatial resolution.

    `of`: the units that remain, or the `original` ones.
    """

    shares: tuple[Fraction, ...]
    of: str = "remaining"


@attrs.frozen
class Matching:
    """Remove as many units as another arm has removed at the same level."""

    arm: str


Amount = Share | Count | To | ToCost | Rates | Stages | Matching


@attrs.frozen
class Condition:
    """A condition on a metric, e.g. accuracy < 0.9.

    `percentage`: the bound of a metric that is no share itself, or not known to be one, was written as a percentage: of
    what the dense network has for `params` and `flops`, in points of the primary metric for `drop`.
    """

    metric: str
    comparison: str
    bound: float
    percentage: bool = False
    span: Any = _source_location()

    def holds(self, value: float) -> bool:
        """Whether a measured value meets the condition."""
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
class Gradual:
    """Remove the units in parts from `start` to `end` of the training, `every` so often, along a `curve`."""

    start: Moment
    end: Moment
    every: Moment
    curve: str = "cubic"
    span: Any = _source_location()


@attrs.frozen
class Penalty:
    """Train with an L2 penalty on the chosen units before they are removed.

    Its factor grows by `step` `every` so often, up to `to`, along a `power` of that, and is held for `hold`. `recipe`
    is that of this training.
    """

    step: float
    every: Moment
    to: float
    hold: Moment
    recipe: Options = attrs.field(factory=dict)
    power: int = 1


@attrs.frozen
class Zeroing:
    """Set the lowest-ranked units to zero `every` so often in the training, and let them learn on; remove them then."""

    every: Moment


@attrs.frozen
class Prune:
    """Prune for `times` rounds, or until `until` (a share of the original units) is removed.

    `ends`: stop after the first level that meets this condition. With none of these three, a prune that matches an arm
    has as many rounds as that arm has levels.

    `order`: whether the units with the `lowest` or with the `highest` scores go. `multiple`: the number of channels of
    a pruned layer is a multiple of it.
    `gradual`: remove in parts during the training. `via`: what happens to the chosen units before they are removed.

    `evaluations`: how often a search of amounts evaluates a network (None: depends on the number of layers).

    `settles`: compute the mask after every epoch of the training, and prune once it has settled, or at the latest at
    the end of the training, or at `at`.
    """

    unit: str
    scope: str
    amount: Amount
    by: str
    #: Whether the criterion uses training images, which the seed selects.
    pictures: bool = False
    times: int | None = 1
    until: Fraction | None = None
    ends: Condition | None = None
    settles: Condition | None = None
    at: Moment | None = None
    at_place: Any = _source_location()
    within: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    order: str = "lowest"
    multiple: int = 1
    evaluations: int | None = None
    gradual: Gradual | None = None
    via: Penalty | Zeroing | None = None
    span: Any = _source_location()
    amount_span: Any = _source_location()
    by_span: Any = _source_location()
    within_spans: Any = _source_location()
    options_spans: Any = _source_location()
    protect_spans: Any = _source_location()


@attrs.frozen
class Overlap:
    """Keep the units that at least `at_least` of the parts keep."""

    at_least: int
    span: Any = _source_location()


@attrs.frozen
class Union:
    """Keep, too, what the tickets of other arms keep."""

    arms: tuple[str, ...]
    span: Any = _source_location()


@attrs.frozen
class Recalibrate:
    """Compute the statistics of batch norm anew, on the network that was pruned."""

    span: Any = _source_location()


@attrs.frozen
class Refill:
    """Fill the best filters of each convolution with pruned weights, and empty the others (Chen et al. 2022).

    As many are filled as keep the number of weights, and the share `extra` of the others. Ranked `by` the L1 norm of
    what is left of them, by the `count` of their weights, or by the `saliency` of their outputs.
    """

    by: str
    extra: Fraction = Fraction(0)
    #: Whether the criterion uses training images, which the seed selects.
    pictures: bool = False
    span: Any = _source_location()


@attrs.frozen
class Regroup:
    """Replace the mask of each convolution by dense blocks, one for each part of its filters (Chen et al. 2022).

    The filters are divided into `groups` parts of similar ones. A block has more inputs than `ratio` times the weights
    outside it, in each of its filters. Parts of at most `min_rows` filters have no block.
    """

    groups: int = 8
    ratio: float = 1.5
    min_rows: int = 16
    span: Any = _source_location()


@attrs.frozen
class Grow:
    """Put weights back that prunes have removed: a share of the removed ones, a number of them, or all (None)."""

    unit: str
    amount: Fraction | int | None
    by: str
    #: Whether the criterion uses training images, which the seed selects.
    pictures: bool = False
    span: Any = _source_location()


#: Metrics of `report` that compare weights: of a network with its initial ones, and of a seed with the next one.
SIMILARITIES = (DISTANCE, SIGN_AGREEMENT, MASK_OVERLAP) = ("distance", "sign-agreement", "mask-overlap")
#: The donor that is the next seed of the plan; after the last one, the first.
NEXT_SEED = "next"


@attrs.frozen
class Rewind:
    """Restart the recipe from `to`, with the current weights (`lr`) or others.

    `weights`: those of the dense run at `to`. `signs`: the current ones, with the signs of the dense run at `to`.
    `magnitudes`: those of the dense run at `to`, with the current signs.

    `of`: the seed whose network they are taken from (`next`, or a number; empty: the arm's own). With `current`, that
    network is not the dense run but the one at this point of its pipeline. `align`: the networks by which its units are
    matched to those of this seed: `dense` or `current`; empty for none. `images`: how many training images give the
    activations that they are matched by; 0 to match them by their weights.
    """

    what: str
    to: Moment
    of: str = ""
    current: bool = False
    align: str = ""
    images: int = 0
    to_place: Any = _source_location()
    span: Any = _source_location()


@attrs.frozen
class MaskOf:
    """Take the structure that the network of another seed has at this point; `of`, `align` and `images` as in `Rewind`.

    `run`: or that of a ticket of a stored run, with `of` empty: of its `arm` (by id or name; empty: the only one), at
    its `level` (None: the same level, or its last one), under its `seed` (None: the same, or its only one).
    """

    of: str
    align: str = ""
    images: int = 0
    run: str = ""
    arm: str = ""
    level: int | None = None
    seed: int | None = None
    span: Any = _source_location()


@attrs.frozen
class Perturb:
    """Add Gaussian noise to the weights: to each layer's, noise whose norm is `share` of theirs."""

    share: Fraction
    span: Any = _source_location()


@attrs.frozen
class Retrain:
    """Use another recipe for the next training; `fresh`: re-initialise the weights first.

    `schedule` is the schedule as written, `given` the options as written.
    """

    schedule: str
    recipe: Options
    fresh: bool = False
    given: Any = _source_location()
    span: Any = _source_location()


@attrs.frozen
class Distill:
    """Distil from `teacher` (`dense`, or an arm) in the next training, up to the moment `until` of its recipe.

    The loss is `weight` x temperature^2 x KL(teacher || student) of softened outputs + (1 - weight) x cross-entropy.
    """

    teacher: str
    temperature: float
    weight: float
    until: Moment | None = None
    span: Any = _source_location()
    #: Where the temperature was written; None if it was not.
    temperature_span: Any = _source_location()


@attrs.frozen
class Evolve:
    """Exchange a share of the weights of each layer `every` so often in the next training, up to the moment `until`.

    The smallest leave, and as many enter: those with the largest `gradient` or `momentum`, or `random` ones. The share
    decays along a cosine. `fan_in`: `constant` gives all outputs of a layer equally many weights.
    """

    share: Fraction
    grow: str
    every: Moment
    until: Moment
    fan_in: str = "free"
    span: Any = _source_location()


#: The statements that take something from another seed, if their `of` is not empty, or from a run.
FromSeed = Rewind | MaskOf
Tail = Overlap | Union | Refill | Regroup | Recalibrate | Grow | Rewind | MaskOf | Perturb | Retrain | Distill | Evolve


@attrs.frozen
class TrainingCycle:
    """Rounds without a prune: each one runs the pending training, then its statements set the next one.

    Each round is a level.
    """

    times: int
    tail: tuple[Tail, ...]
    span: Any = _source_location()


@attrs.frozen
class Rounds:
    """A prune with the statements up to the next one; `joined`: the next prune belongs to the same round.

    `cycles`: rounds of training alone, after all rounds of the prune.
    """

    prune: Prune
    tail: tuple[Tail, ...] = ()
    joined: bool = False
    cycles: tuple[TrainingCycle, ...] = ()

    @property
    def is_one_level(self) -> bool:
        """Whether all rounds form one level: they prune at a fixed moment, with no training in between."""
        return self.prune.at is not None and not self.tail

    @property
    def tails(self) -> tuple[Tail, ...]:
        """All statements after the prune, those of its cycles too."""
        return (*self.tail, *(tail for cycle in self.cycles for tail in cycle.tail))

    @property
    def last_tail(self) -> tuple[Tail, ...]:
        """The statements that set the training which is pending at the end of these rounds."""
        return self.cycles[-1].tail if self.cycles else self.tail


@attrs.frozen
class Transfer:
    """Train and test every level on other data, with a fresh classifier (`reset`) or the current one (`keep`).

    `tail` sets the training there (default: the pending training).
    """

    data: Data
    head: str = "reset"
    tail: tuple[Rewind | Retrain, ...] = ()
    span: Any = _source_location()


@attrs.frozen
class Elastic:
    """Train and test every level as another network of the same family: deeper (`stretch`) or shallower (`squeeze`).

    `order`: how a stretch fills a stage, `append` or `interpolate`; None for a squeeze. `drop`: the blocks that a
    squeeze drops, `last`, `alternate` or patterns; empty for a stretch.
    """

    model: Model
    order: str | None = None
    drop: str | tuple[str, ...] = ()
    span: Any = _source_location()

    @property
    def verb(self) -> str:
        """The keyword of the statement."""
        return "squeeze" if self.order is None else "stretch"

    @property
    def rule(self) -> Options:
        """What says which block goes where, as JSON values."""
        return {"drop": as_json(self.drop)} if self.order is None else {"order": self.order}


@attrs.frozen
class Fork:
    """Where an arm with a recipe of its own leaves the statements before the arms.

    recipe: the plan's, with which these statements train. They hold the first `rounds` groups of the arm's rounds, and
    of the last one the first `tail` statements of its tail and its first `cycles`; if there are no such rounds, the
    first `cycles` before the arm's first prune.
    """

    recipe: Options
    rounds: int
    tail: int
    cycles: int = 0
    recipe_span: Any = _source_location()
    recipe_places: Any = _source_location()


@attrs.frozen
class Arm:
    """One pipeline under one combination of sweep values; without `rounds`, a network that is not pruned.

    `cycles`: rounds of training alone, before the first prune.
    """

    id: str
    name: str
    sweep: Mapping[str, Any]
    model: Model
    data: Data
    recipe: Options
    rounds: tuple[Rounds, ...]
    split: Split | None = None
    transfer: Transfer | None = None
    #: The other network that the levels are measured as.
    elastic: Elastic | None = None
    #: None if the statements before the arms, if any, have the same recipe.
    fork: Fork | None = None
    cycles: tuple[TrainingCycle, ...] = ()
    span: Any = _source_location()
    recipe_span: Any = _source_location()
    #: Where the value of each field of the recipe was written; `milestones.0` is the first item of a list.
    recipe_places: Any = _source_location()

    @property
    def protects_head(self) -> bool:
        """Whether the classifier is not pruned: parts have their own, and a transfer replaces it."""
        return self.split is not None or (self.transfer is not None and self.transfer.head == "reset")

    @property
    def has_levels(self) -> bool:
        """Whether it has rounds, of pruning or of training alone; else it is one network, trained once."""
        return bool(self.rounds or self.cycles)

    @property
    def judged_on(self) -> Data:
        """The data set that its levels are measured on."""
        return self.data if self.transfer is None else self.transfer.data

    @property
    def judged_model(self) -> Model:
        """The network that its levels are measured as."""
        return self.model if self.elastic is None else self.elastic.model

    @property
    def dense_recipe(self) -> Options:
        """The recipe of the dense training that is pruned, and whose weights `rewind weights` restores."""
        return self.recipe if self.fork is None else self.fork.recipe

    def recipe_of(self, group: int, tail: int) -> Options:
        """The recipe that statement `tail` after the prune of rounds `group` replays."""
        shared = self.fork is not None and (group, tail) < (self.fork.rounds - 1, self.fork.tail)
        return self.dense_recipe if shared else self.recipe

    def recipe_of_cycle(self, group: int, cycle: int) -> Options:
        """The recipe that the statements of a cycle of rounds `group` replay; -1 is before the first prune."""
        shared = self.fork is not None and (group, cycle) < (self.fork.rounds - 1, self.fork.cycles)
        return self.dense_recipe if shared else self.recipe

    @property
    def tails(self) -> tuple[Tail, ...]:
        """All statements of its rounds, in order."""
        before = (tail for cycle in self.cycles for tail in cycle.tail)
        return (*before, *(tail for group in self.rounds for tail in group.tails))

    @property
    def distinct_tails(self) -> tuple[Tail, ...]:
        """All statements of its rounds; those that a `cycle` repeats only once."""
        before = (tail for cycle in self.cycles for tail in cycle.tail)
        return (*before, *(tail for group in self.distinct_rounds.values() for tail in group.tails))

    @property
    def distinct_rounds(self) -> dict[int, Rounds]:
        """The rounds by their indices; those that a `cycle` repeats only once."""
        first = {id(group): index for index, group in reversed([*enumerate(self.rounds)])}
        return {index: self.rounds[index] for index in sorted(first.values())}

    @property
    def referenced_arms(self) -> tuple[str, ...]:
        """The names of the arms that this one distils from, matches or unites its structure with."""
        teachers = [tail.teacher for tail in self.tails if isinstance(tail, Distill) and tail.teacher != "dense"]
        matched = [group.prune.amount.arm for group in self.rounds if isinstance(group.prune.amount, Matching)]
        united = [name for tail in self.tails if isinstance(tail, Union) for name in tail.arms]
        return tuple(dict.fromkeys([*teachers, *matched, *united]))


@attrs.frozen
class MeasurementOptions:
    """How `report` measures.

    `every`: how often `early-stop` measures the validation loss (None: after each epoch). `batch`: images per batch for
    latency and memory. `watts`: the power used to estimate energy if no counter is readable (None: depends on
    the device). `intensity`: grams of CO2 per kWh; the default is the world average of 2023 (Ember, Global Electricity
    Review 2024). `inception`: the file with the weights of Inception v3, for `fid`.
    """

    batch: int = 128
    watts: float | None = None
    intensity: float = 480.0
    every: Moment | None = None
    inception: str = ""


@attrs.frozen
class Line:
    """A metric on the line between two networks: those of two arms under the same seed, or of an arm's seeds.

    `start` and `end`: names of arms, or `dense`; an empty `end` is the network of `start` under the next seed.
    """

    metric: str
    start: str
    end: str
    span: Any = _source_location()

    def __str__(self) -> str:
        return f"{self.metric} of {self.start} to {self.end or 'next seed'}"


@attrs.frozen
class Plan:
    """A whole experiment. `helpers` are arms that compared arms refer to and that are not compared themselves."""

    name: str
    path: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    rivals: tuple[str, ...] = ()
    rival_levels: str = "all"
    rival_budget: str = "epochs"
    #: What `random-structure` has in common with the ticket: its `units` per layer, its `flops` or its `params`.
    rival_match: str = "units"
    within: Fraction = Fraction(0)
    #: Which levels of two arms are compared: `weights`, `flops`, `params` (equal shares left) or `level`.
    matched_by: str = "weights"
    #: The metric of the task that networks are compared by; empty for its primary one.
    metric: str = ""
    #: The metrics of `report`; empty for the default choice.
    metrics: tuple[str, ...] = ()
    #: The metrics of `report` on lines between networks.
    lines: tuple[Line, ...] = ()
    measuring: MeasurementOptions = MeasurementOptions()
    stops: tuple[Condition, ...] = ()
    helpers: tuple[Arm, ...] = ()
    compare_span: Any = _source_location()
    metric_span: Any = _source_location()
    report_span: Any = _source_location()

    def line_ends(self, line: Line) -> Iterator[tuple[Arm, Arm | str]]:
        """The compared arms at the start of a line, each with what is at its end: an arm, `dense`, or empty.

        Empty stands for the network of the next seed.
        """
        for arm in self.arms:
            if line.start not in (arm.name, "dense"):
                continue
            if line.end in ("", "dense"):
                yield arm, line.end
            elif (other := self.find_arm(line.end, arm)) is not None and other in self.arms:
                yield arm, other

    def donor(self, of: str, seed: int) -> int:
        """The seed that something is taken from: by its number, or the next one; after the last, the first.

        For a seed that is not in the plan, the next one is the first.
        """
        if of != NEXT_SEED:
            return int(of)
        return self.seeds[(self.seeds.index(seed) + 1) % len(self.seeds)] if seed in self.seeds else self.seeds[0]

    def find_arm(self, name: str, referrer: Arm) -> Arm | None:
        """The arm that `referrer` refers to by name, with equal values of the sweeps that both use; None if unknown."""
        for arm in (*self.arms, *self.helpers):
            if arm.name == name and all(referrer.sweep.get(key, value) == value for key, value in arm.sweep.items()):
                return arm
        return None


#: Types that share a field: their JSON names the type.
_TAGGED_TYPES = (
    Amount | Penalty | Zeroing
    | Overlap | Union | Refill | Regroup | Recalibrate | Grow | Rewind | MaskOf | Perturb | Retrain | Distill | Evolve
)  # fmt: skip


def as_json(value: Any) -> Any:
    """Convert a plan, or part of one, to JSON values; amounts and tails have a `kind`."""
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
