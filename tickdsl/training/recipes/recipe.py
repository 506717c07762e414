"""Training recipes as values: length, optimiser settings, and a table of the learning rate of every step.

This module loads no torch, and numpy only for the table, so that plans are checked quickly. Rewinding the learning
rate reads the table from an earlier row.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import attrs

from tickdsl.moments import INIT, Moment
from tickdsl.plugins import Call, Registry, call_name
from tickdsl.training.recipes.augmentations import AUGMENTATIONS, PLAIN_AUGMENTATIONS, is_plain
from tickdsl.training.recipes.losses import LOSSES, builtin_loss, unknown_option
from tickdsl.training.recipes.plugin_schedules import learning_rates as plugin_learning_rates

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rates: TypeAlias = NDArray[np.float64]

#: Optimisers and their descriptions; plug-ins add more.
OPTIMISERS: Registry[str] = Registry(
    "optimiser",
    {
        "sgd": "stochastic gradient descent with momentum",
        "adam": "Adam, with L2 weight decay",
        "adamw": "Adam with decoupled weight decay",
    },
    lambda plugin, description: description.summary or plugin.origin,
)
#: How the images of an epoch are drawn: each once, or every class equally often.
SAMPLINGS = ("uniform", "balanced")
#: The class weights that follow from how often classes occur.
BALANCED = "balanced"
#: Learning-rate schedules and their descriptions; plug-ins add more (see `Schedule`).
SCHEDULES: Registry[str] = Registry(
    "schedule",
    {
        "constant": "the rate stays the same",
        "milestones": "the rate drops at each milestone",
        "cosine": "half a cosine, from the rate down to the minimum rate",
        "one-cycle": "the rate rises to a peak and falls again",
        "linear": "the rate falls linearly to 0",
    },
    lambda plugin, description: description.summary or plugin.origin,
)
WARMUP_FORMS = ("linear", "cosine", "cosine-epochs")
PRECISIONS = ("fp32", "tf32", "bf16", "auto")
COMPILE_MODES = ("on", "off", "auto")
#: What `patience` looks at on validation data: the loss, or the primary metric of the task.
MONITORED = ("loss", "metric")
#: The `patience` of a training that never stops early.
NO_PATIENCE = Moment(Fraction(0), "ep")

#: One-cycle's momentum falls from the second value to the first while the rate rises, then rises again (Smith 2018;
#: the values are those of torch's OneCycleLR).
ONE_CYCLE_MOMENTUM = (0.85, 0.95)
#: Steps per epoch if the data are not known; a schedule's final rate hardly depends on it.
_NOMINAL_STEPS_PER_EPOCH = 100


def steps_per_epoch(samples: int, batch: int) -> int:
    """The number of optimiser steps in one epoch of `samples` images.

    The last, smaller batch counts, unless it is a single image: that joins the batch before it, since batch norm
    cannot train on one image. Raises ValueError if there are no images.
    """
    if samples < 1:
        raise ValueError("the data set has no training images")
    whole, rest = divmod(samples, batch)
    return whole + (rest > 1) if whole else 1


def resized_side(side: int, eighths: int) -> int:
    """The pixels of a side of an image that is resized to this many eighths, at least 1."""
    return max(1, round(side * eighths / 8))


def _moment(value: Moment | str) -> Moment:
    return value if isinstance(value, Moment) else Moment.parse(value)


def _patience(value: Moment | str) -> Moment:
    moment = _moment(value)
    return moment if moment.amount else NO_PATIENCE


def _moments(values: Iterable[Moment | str]) -> tuple[Moment, ...]:
    return tuple(_moment(value) for value in values)


def _string_tuple(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _class_weights(value: str | Iterable[float | str]) -> str | tuple[float, ...]:
    return value if isinstance(value, str) and value else tuple(map(float, value))


def _optional_float(value: float | None) -> float | None:
    return None if value is None else float(value)


@attrs.frozen(kw_only=True)
class Recipe:
    """How a network is trained: everything except the network, the data and the seed.

    length: epochs or steps.
    batch: images per step.
    decay: weight decay on every parameter (L2 for sgd and adam, decoupled for adamw).
    schedule: a name in SCHEDULES; milestones and gamma belong to `milestones`, min_lr (the final rate) to `cosine`,
    and max_lr (the peak, default `lr`), pct_start (the share of steps in which the rate rises), div (peak / first
    rate) and final_div (first rate / last rate) to `one-cycle`.
    warmup: how long the rate rises first.
    rise: the form of the warm-up. `linear` starts at 0 (step i of W: i / W), or at a share `warmup_start` of the rate
    (s + (1 - s) x i / W), and is multiplied with the schedule.
    `cosine` rises from `rise_from` to `lr` step by step and `cosine-epochs` once per epoch; the schedule then starts
    after the warm-up, except that milestones always count from the start of the training.
    beta1, beta2: the decay rates of Adam's averages of the gradient and of its square; `one-cycle` sets beta1.
    precision: `fp32` is IEEE single precision on every device, `tf32` lets CUDA round what it multiplies to 10 bits,
    and `auto` is bf16 on CUDA and fp32 on a CPU.
    bn_l1: the strength of an L1 penalty on the scales of batch norm (network slimming, Liu et al. 2017).
    clip: the largest norm of the gradient of all weights that are not pruned; a longer one is scaled down (0: never).
    accumulate: how many micro-batches a batch is computed in, one after another, to need less memory.
    ema: the decay rate of a moving average of the weights, which is evaluated and kept instead of them (0: none).
    mixup, cutmix: a of Beta(a, a), from which the share of every batch is drawn by which its images are mixed with
    others of it (0: not); see `training.data.mixing`.
    compile: whether torch compiles the network for full batches, with results equal up to rounding; with `auto`, the
    caller of `train` decides.
    patience: the training stops once the validation data have shown no improvement for so many epochs (0: it never
    does), of the loss or of the metric as `monitor` says.
    optimizer: a name in OPTIMISERS, or of a plug-in with options, `lion(betas=(0.9, 0.99))`.
    loss: a name in LOSSES, which can have options too (None: that of the task).
    class_weights: of the classes or labels in the loss; `balanced`: from how often they occur (empty: all alike).
    sampling: `balanced` draws every class equally often, with replacement.
    bias_lr: the multiple of the learning rate that biases are trained at, those of norms too, with `sgd`.
    resize_from: the share of their height and width that images have in the first epoch (0: all); see `image_eighths`.

    Raises ValueError if a value is out of range.
    """

    length: Moment = attrs.field(converter=_moment)
    optimizer: str = "sgd"
    lr: float = attrs.field(default=0.1, converter=float)
    batch: int = 128
    momentum: float = attrs.field(default=0.9, converter=float)
    nesterov: bool = False
    decay: float = attrs.field(default=0.0, converter=float)
    schedule: str = "constant"
    milestones: tuple[Moment, ...] = attrs.field(default=(), converter=_moments)
    gamma: float = attrs.field(default=0.1, converter=float)
    warmup: Moment = attrs.field(default=INIT, converter=_moment)
    warmup_start: float = attrs.field(default=0.0, converter=float)
    rise: str = "linear"
    rise_from: float = attrs.field(default=0.0, converter=float)
    min_lr: float = attrs.field(default=0.0, converter=float)
    max_lr: float | None = attrs.field(default=None, converter=_optional_float)
    pct_start: float = attrs.field(default=0.3, converter=float)
    div: float = attrs.field(default=25.0, converter=float)
    final_div: float = attrs.field(default=1e4, converter=float)
    precision: str = "fp32"
    compile: str = "off"
    augment: tuple[str, ...] = attrs.field(default=(), converter=_string_tuple)
    label_smoothing: float = attrs.field(default=0.0, converter=float)
    bn_l1: float = attrs.field(default=0.0, converter=float)
    clip: float = attrs.field(default=0.0, converter=float)
    accumulate: int = 1
    ema: float = attrs.field(default=0.0, converter=float)
    mixup: float = attrs.field(default=0.0, converter=float)
    cutmix: float = attrs.field(default=0.0, converter=float)
    beta1: float = attrs.field(default=0.9, converter=float)
    beta2: float = attrs.field(default=0.999, converter=float)
    patience: Moment = attrs.field(default=NO_PATIENCE, converter=_patience)
    monitor: str = "loss"
    loss: str | None = None
    class_weights: str | tuple[float, ...] = attrs.field(default=(), converter=_class_weights)
    sampling: str = "uniform"
    bias_lr: float = attrs.field(default=1.0, converter=float)
    resize_from: float = attrs.field(default=0.0, converter=float)

    def __attrs_post_init__(self) -> None:
        words: list[tuple[str, str, Collection[str]]] = [
            ("optimizer", call_name(self.optimizer), OPTIMISERS),
            *([] if self.loss is None else [("loss", call_name(self.loss), LOSSES)]),
            ("sampling", self.sampling, SAMPLINGS),
            ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, PRECISIONS),
            ("compile", self.compile, COMPILE_MODES),
            ("rise", self.rise, WARMUP_FORMS),
            ("monitor", self.monitor, MONITORED),
            *(("augment", call_name(word), AUGMENTATIONS) for word in self.augment),
        ]
        for name, value, known in words:
            _require(value in known, f"{name}={value}: must be one of {', '.join(known)}")
        _require(self.length.unit != "%", f"length={self.length}: must be in epochs or steps, such as 160ep")
        _require(self.length.amount > 0, f"length={self.length}: must be above 0")
        _require(
            isinstance(self.batch, int) and self.batch >= 1, f"batch={self.batch}: must be a whole number of at least 1"
        )
        _require(
            isinstance(self.accumulate, int) and 1 <= self.accumulate <= self.batch,
            f"accumulate={self.accumulate}: must be a whole number between 1 and the batch size, {self.batch}",
        )
        peak = self.lr if self.max_lr is None else self.max_lr
        for name, number in (("lr", self.lr), ("max_lr", peak), ("gamma", self.gamma), ("bias_lr", self.bias_lr)):
            _require(math.isfinite(number) and number > 0, f"{name}={number:g}: must be above 0")
        for name, number in (("rise_from", self.rise_from), ("min_lr", self.min_lr)):
            _require(0 <= number <= peak, f"{name}={number:g}: must be between 0 and the highest rate, {peak:g}")
        for name, number in (
            ("momentum", self.momentum),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("ema", self.ema),
        ):
            _require(0 <= number < 1, f"{name}={number:g}: must be at least 0 and below 1")
        _require(math.isfinite(self.decay) and self.decay >= 0, f"decay={self.decay:g}: must be at least 0")
        _require(
            0 <= self.label_smoothing < 1, f"label_smoothing={self.label_smoothing:g}: must be at least 0 and below 1"
        )
        for name, number in (
            ("bn_l1", self.bn_l1),
            ("clip", self.clip),
            ("mixup", self.mixup),
            ("cutmix", self.cutmix),
        ):
            _require(math.isfinite(number) and number >= 0, f"{name}={number:g}: must be at least 0")
        _require(0 <= self.warmup_start < 1, f"warmup_start={self.warmup_start:g}: must be at least 0 and below 1")
        _require(0 <= self.resize_from < 1, f"resize_from={self.resize_from:g}: must be at least 0 and below 1")
        whole_epochs = self.patience.unit == "ep" and self.patience.amount.denominator == 1
        _require(not self.patience.amount or whole_epochs, f"patience={self.patience}: must be in whole epochs: 5ep")
        _require(0 < self.pct_start < 1, f"pct_start={self.pct_start:g}: must be above 0 and below 1")
        _require(self.div >= 1 and self.final_div >= 1, "div and final_div must be at least 1")
        _require(
            not self.nesterov or (self.optimizer == "sgd" and self.momentum > 0),
            "nesterov needs optimizer=sgd and a momentum above 0",
        )
        _require(self.schedule != "milestones" or bool(self.milestones), "schedule=milestones needs milestones=[…]")
        for text in self.augment:
            name = call_name(text)
            _require(is_plain(text) or name not in PLAIN_AUGMENTATIONS, f"augment={text}: {name} has no options")
            Call.parse(text)  # raises
        self._require_loss_fits()
        same_unit = len({moment.unit for moment in self.milestones}) <= 1
        if same_unit:
            self._require_increasing([float(moment.amount) for moment in self.milestones])

    def _require_loss_fits(self) -> None:
        loss = builtin_loss(self.loss)
        builtin = call_name(self.optimizer) in OPTIMISERS.builtin
        _require(not builtin or not self.has_own_optimiser, f"optimizer={self.optimizer}: it has no options")
        if self.loss is not None and loss is not None:
            option = unknown_option(self.loss, loss)
            known = ", ".join(loss.options) or "none"
            _require(not option, f"loss={self.loss}: it has no option {option}; its options: {known}")
            for name, value in Call.parse(self.loss).options.items():
                least = 0 if name == "gamma" else 1e-12
                number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
                wanted = "at least 0" if name == "gamma" else "above 0"
                _require(number and value >= least, f"loss={self.loss}: {name} must be {wanted}")
        plain = self.loss in (None, "cross-entropy")
        if not plain:
            _require(not self.label_smoothing, f"label_smoothing={self.label_smoothing:g}: loss={self.loss} has none")
            _require(not self.mixes, f"{'mixup' if self.mixup else 'cutmix'}: loss={self.loss} takes no mixed targets")
        _require(
            not self.class_weights or self.loss is None or (loss is not None and loss.weighs_classes),
            f"class_weights: loss={self.loss} weighs no classes",
        )
        if isinstance(self.class_weights, str):
            _require(
                self.class_weights == BALANCED, f"class_weights={self.class_weights}: must be {BALANCED} or a list"
            )
        else:
            positive = all(math.isfinite(weight) and weight > 0 for weight in self.class_weights)
            _require(positive, "class_weights: every weight must be above 0")

    def _require_increasing(self, milestones: list[float]) -> None:
        increasing = all(a < b for a, b in pairwise(milestones))
        _require(increasing, f"milestones [{', '.join(map(str, self.milestones))}] must increase")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """The recipe from JSON values, with moments as strings. Raises ValueError for an unknown field or bad value."""
        known = {field.name for field in attrs.fields(cls)}
        unknown = sorted(set(fields) - known)
        _require(not unknown, f"a recipe has no {', '.join(unknown)}; its fields are {', '.join(sorted(known))}")
        _require("length" in fields, "a recipe needs a length")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as JSON values; `from_dict` reads them back."""
        changed: dict[str, Any] = {}
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if isinstance(value, Moment):
                value = str(value)
            elif isinstance(value, tuple):
                value = [item if isinstance(item, float) else str(item) for item in value]
            changed[field.name] = value
        return changed

    def steps(self, per_epoch: int) -> int:
        """The recipe's length in optimiser steps, at least 1."""
        return max(1, self.length.steps(per_epoch))

    @property
    def has_own_optimiser(self) -> bool:
        """Whether the optimiser is not built in."""
        return self.optimizer not in OPTIMISERS.builtin

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def micro_batch(self) -> int:
        """The largest number of images that a full batch is computed in at a time."""
        return -(-self.batch // self.accumulate)

    def learning_rates(self, per_epoch: int) -> Rates:
        """The learning rate of every step, float64 [steps]. Raises ValueError if a milestone is after the last step."""
        import numpy as np

        total = self.steps(per_epoch)
        rise_steps = min(self.warmup.steps(per_epoch, total), total)
        schedule_start = 0 if self.rise == "linear" else rise_steps
        step = np.arange(total, dtype=np.float64)
        elapsed, span = np.clip(step - schedule_start, 0, None), max(1, total - schedule_start)
        match self.schedule:
            case "milestones":
                rates = self._milestone_rates(per_epoch, total)
            case "cosine":
                rates = self.min_lr + (self.lr - self.min_lr) * 0.5 * (1 + np.cos(np.pi * elapsed / span))
            case "linear":
                rates = self.lr * (1 - elapsed / span)
            case "one-cycle":
                peak = self.lr if self.max_lr is None else self.max_lr
                first = peak / self.div
                rates = _one_cycle(total, self.pct_start, first, peak, first / self.final_div)
            case "constant":
                rates = np.full(total, self.lr)
            case _:
                rates = plugin_learning_rates(self.schedule, self, total, per_epoch)
        if not rise_steps:
            return rates
        if self.rise == "linear":
            risen = step[:rise_steps] / rise_steps
            rates[:rise_steps] *= self.warmup_start + (1 - self.warmup_start) * risen if self.warmup_start else risen
        else:
            risen_steps = step[:rise_steps] if self.rise == "cosine" else step[:rise_steps] // per_epoch * per_epoch
            rates[:rise_steps] = self.lr + (self.rise_from - self.lr) / 2 * (
                1 + np.cos(np.pi * risen_steps / rise_steps)
            )
        return rates

    def image_eighths(self, epoch: int, per_epoch: int) -> int:
        """The height and width of the images of an epoch, counted from 0, in eighths of the full ones: 1 to 8.

        Sizes rise linearly from `resize_from` in the first epoch to all of the last one. Eighths are few enough for a
        network to be compiled, or a step to be recorded, for each size.
        """
        epochs = -(-self.steps(per_epoch) // per_epoch)
        if not self.resize_from or epochs == 1:
            return 8
        return max(1, round(8 * (self.resize_from + (1 - self.resize_from) * epoch / (epochs - 1))))

    @property
    def peak_lr(self) -> float:
        """The highest learning rate; for a plug-in's schedule, `lr`."""
        return self.max_lr if self.schedule == "one-cycle" and self.max_lr is not None else self.lr

    @property
    def final_lr(self) -> float:
        """The learning rate that the schedule ends at; 0 for schedules that fall to 0."""
        match self.schedule:
            case "milestones":
                return self.lr * self.gamma ** len(self.milestones)
            case "cosine":
                return self.min_lr
            case "linear" | "one-cycle":
                return 0.0
            case "constant":
                return self.lr
            case _:
                return float(self.learning_rates(_NOMINAL_STEPS_PER_EPOCH)[-1])

    def momenta(self, per_epoch: int) -> Rates:
        """The momentum (Adam: beta 1) of every step, float64 [steps]; constant except for `one-cycle`."""
        import numpy as np

        total = self.steps(per_epoch)
        if self.schedule != "one-cycle" or self.momentum == 0:
            return np.full(total, self.momentum)
        low, high = ONE_CYCLE_MOMENTUM
        return _one_cycle(total, self.pct_start, high, low, high)

    def _milestone_rates(self, per_epoch: int, total: int) -> Rates:
        import numpy as np

        milestone_steps = [moment.steps(per_epoch, total) for moment in self.milestones]
        self._require_increasing([float(milestone_step) for milestone_step in milestone_steps])
        for moment, milestone_step in zip(self.milestones, milestone_steps, strict=True):
            _require(milestone_step < total, f"milestone {moment} is not within the training of {self.length}")
        drops = np.searchsorted(np.asarray(milestone_steps), np.arange(total), side="right")
        return np.asarray(self.lr * self.gamma ** drops.astype(np.float64))


class Schedule(Protocol):
    """A plug-in's schedule: returns the learning rate of each of a training's `steps` steps, `per_epoch` per epoch.

    `recipe` holds the plan's settings: `recipe.lr`, `recipe.gamma`, `recipe.pct_start` and so on. A warm-up is applied
    on top. Return the same numbers at every call.
    """

    def __call__(self, recipe: Recipe, steps: int, per_epoch: int, /) -> Sequence[float]: ...


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _one_cycle(total: int, pct_start: float, first: float, peak: float, last: float) -> Rates:
    """A cosine from `first` to `peak` over the share `pct_start`, then one to `last` (Smith 2018, two phases)."""
    import numpy as np

    top, end = pct_start * total - 1, total - 1
    step = np.arange(total, dtype=np.float64)
    up = step / top if top > 0 else np.ones(total)
    down = (step - top) / (end - top) if end > top else np.zeros(total)
    curve = np.where(
        step <= top,
        peak + (first - peak) / 2 * (1 + np.cos(np.pi * up)),
        last + (peak - last) / 2 * (1 + np.cos(np.pi * down)),
    )
    return np.asarray(curve, dtype=np.float64)
