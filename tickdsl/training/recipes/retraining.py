"""Recipes derived from recipes: for retraining after pruning, and stretched to another length. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

import attrs

from tickdsl.moments import Moment
from tickdsl.training.recipes.recipe import Recipe

#: The retraining schedules that tickdsl defines.
BUILT_IN_SCHEDULES = ("fine-tune", "scaled", "one-cycle", "cyclic", "linear", "scratch", "recipe")
#: Defaults: the share of a retraining in which the rate rises, and one-cycle's divisors (Le & Hua 2021).
PCT_START, DIV, FINAL_DIV = 0.1, 100.0, 100.0


def retraining_recipe(
    base: Recipe, schedule: str, length: Moment | None = None, options: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of `retrain SCHEDULE`, derived from the recipe that the network was trained with.

    length: of the retraining (default: the base's). options: fields that replace those of the base; `lr` (the highest
    rate), `min_lr`, `pct_start`, `gamma`, `div` and `final_div` shape the schedule.

    fine-tune: the base's last rate, constant.
    scaled: after a cosine warm-up that rises once per epoch, the base's milestones at their shares of the remaining
    length (SLR).
    one-cycle: Smith 2018 (CLR). These three follow the code of Le & Hua, ICLR 2021.
    cyclic: after a cosine warm-up from 0, step by step, a cosine down to the base's last rate.
    linear: after the same warm-up, a linear decay to 0. These two follow the code of Zimmer et al., ICLR 2023.
    scratch: the base, stretched to the length.
    recipe: the base, stretched to the length, with any fields replaced.
    A plug-in's schedule: `lr` is the base's highest rate.

    All but `scratch` and `recipe` train on images of the full size, as the base ends with.

    Raises ValueError if a value is out of range.
    """
    base = attrs.evolve(base, bn_l1=0.0)  # it prepares a prune: a retraining has it only if it asks for it
    overrides = dict(options or {})
    length = length or base.length
    if schedule == "scratch":
        if "lr" in overrides and base.schedule == "one-cycle" and base.max_lr is not None:
            overrides["max_lr"] = overrides.pop("lr")  # the highest rate of a one-cycle recipe
        return attrs.evolve(stretch(base, length), **overrides)
    if schedule == "recipe":
        return _changed_recipe(base, length, overrides)
    base = attrs.evolve(base, resize_from=0.0)
    peak = float(overrides.pop("lr", overrides.pop("max_lr", base.peak_lr)))
    if schedule == "fine-tune":
        return _with_schedule(base, length, lr=peak if "lr" in (options or {}) else base.final_lr, **overrides)
    pct_start = Fraction(str(overrides.pop("pct_start", PCT_START)))
    if schedule == "one-cycle":
        shape = {"div": overrides.pop("div", DIV), "final_div": overrides.pop("final_div", FINAL_DIV)}
        return _with_schedule(
            base, length, schedule=schedule, max_lr=peak, pct_start=float(pct_start), **shape, **overrides
        )
    if schedule not in BUILT_IN_SCHEDULES:
        return _with_schedule(base, length, schedule=schedule, lr=peak, **overrides)
    low_rate = float(overrides.pop("min_lr", _low_rate(base, peak)))
    warmup_length = _whole_share(length, pct_start)
    if schedule == "scaled" and base.schedule == "one-cycle":
        return attrs.evolve(stretch(base, length), max_lr=peak, **overrides)  # one-cycle includes a warm-up
    if schedule == "scaled":
        rise: dict[str, Any] = (
            {"warmup": warmup_length, "rise": "cosine-epochs", "rise_from": low_rate} if warmup_length.amount else {}
        )
        if base.schedule != "milestones":
            return _with_schedule(
                base, length, schedule=base.schedule, lr=peak, min_lr=base.min_lr, **rise, **overrides
            )
        milestones = tuple(
            Moment(warmup_length.amount + _whole_share(length, share * (1 - pct_start)).amount, length.unit)
            for share in _milestone_shares(base)
        )
        if any(first.amount >= second.amount for first, second in pairwise(milestones)):
            places = ", ".join(map(str, milestones))
            raise ValueError(f"milestones fall on [{places}] in {length}, which must increase; retrain for longer")
        overrides.setdefault("gamma", base.gamma)
        return _with_schedule(base, length, schedule="milestones", milestones=milestones, lr=peak, **rise, **overrides)
    warmup = Moment(pct_start * 100, "%")
    decay = {"schedule": "cosine", "min_lr": low_rate} if schedule == "cyclic" else {"schedule": "linear"}
    return _with_schedule(base, length, lr=peak, warmup=warmup, rise="cosine", **decay, **overrides)


def _changed_recipe(base: Recipe, length: Moment, overrides: dict[str, Any]) -> Recipe:
    """The base, stretched to the length, with other fields.

    With another schedule, nothing but the highest rate and the warm-up is left of how the base's rate changes.
    """
    implied = "milestones" if "milestones" in overrides else "one-cycle" if "max_lr" in overrides else base.schedule
    schedule = overrides.setdefault("schedule", implied)
    if schedule != base.schedule:
        plain = stretch(attrs.evolve(base, schedule="constant", milestones=(), lr=base.peak_lr, max_lr=None), length)
        warmup = {"warmup": plain.warmup, "warmup_start": plain.warmup_start}
        return _with_schedule(plain, length, **{"lr": base.peak_lr, **warmup, **overrides})
    if "milestones" in overrides:  # so that those of the base need not fit the length
        return attrs.evolve(stretch(attrs.evolve(base, schedule="constant", milestones=()), length), **overrides)
    if "lr" in overrides and base.max_lr is not None and "max_lr" not in overrides:
        overrides["max_lr"] = overrides.pop("lr")  # the highest rate of a one-cycle recipe
    return attrs.evolve(stretch(base, length), **overrides)


def stretch(base: Recipe, length: Moment) -> Recipe:
    """The recipe with another length, its milestones and warm-up scaled to it. Raises ValueError if they cannot be."""
    if length == base.length:
        return base

    def scaled_moment(moment: Moment) -> Moment:
        if moment.unit == "%" or not moment.amount:
            return moment
        if moment.unit == base.length.unit == length.unit:
            scaled_amount = moment.amount / base.length.amount * length.amount
            return (
                Moment(scaled_amount, length.unit)
                if scaled_amount.denominator == 1
                else _as_percent(moment, base.length)
            )
        if moment.unit == base.length.unit:
            return _as_percent(moment, base.length)
        raise ValueError(f"{moment} cannot be compared with {base.length}; write both in epochs, or use a percentage")

    return attrs.evolve(
        base, length=length, milestones=tuple(map(scaled_moment, base.milestones)), warmup=scaled_moment(base.warmup)
    )


def scale_length(base: Recipe, ratio: Fraction, per_epoch: int) -> Recipe:
    """The recipe stretched to `ratio` times its length, rounded down to whole epochs or steps (Liu et al. 2019).

    per_epoch: steps. A training of so few steps that milestones fall on its end, or on the step of the one before, goes
    without them.
    """
    scaled = stretch(base, Moment(max(1, math.floor(base.length.amount * ratio)), base.length.unit))
    total = scaled.steps(per_epoch)
    places = [moment.steps(per_epoch, total) for moment in scaled.milestones]
    kept = [
        moment
        for moment, place, before in zip(scaled.milestones, places, [-1, *places], strict=False)
        if before < place < total
    ]
    schedule = "constant" if scaled.schedule == "milestones" and not kept else scaled.schedule
    return attrs.evolve(scaled, milestones=tuple(kept), schedule=schedule)


def _with_schedule(base: Recipe, length: Moment, **changed: Any) -> Recipe:
    """The base's optimiser, batch size and augmentation with another schedule."""
    defaults = Recipe(length=length)
    schedule_fields = (
        "schedule", "milestones", "gamma", "warmup", "warmup_start", "rise", "rise_from", "min_lr", "max_lr",
        "pct_start", "div", "final_div", "length",
    )  # fmt: skip
    fresh = {name: getattr(defaults, name) for name in schedule_fields}
    if changed.get("schedule") == "one-cycle":
        fresh["lr"] = defaults.lr  # one-cycle ignores it, so equal recipes get equal keys
    return attrs.evolve(base, **{**fresh, **changed})


def _low_rate(base: Recipe, peak: float) -> float:
    """The rate that a warm-up starts at or a cosine ends at: the base's last rate, or peak / 100 if that is 0."""
    return base.final_lr if 0 < base.final_lr < peak else peak / 100


def _milestone_shares(base: Recipe) -> list[Fraction]:
    shares = []
    for milestone in base.milestones:
        if milestone.unit not in ("%", base.length.unit):
            raise ValueError(f"milestone {milestone} cannot be compared with {base.length}; write both in epochs")
        total = 100 if milestone.unit == "%" else base.length.amount
        shares.append(Fraction(milestone.amount) / total)
    return shares


def _whole_share(length: Moment, share: Fraction) -> Moment:
    """A share of a length, rounded down to whole epochs or steps."""
    return Moment(math.floor(length.amount * share), length.unit)


def _as_percent(moment: Moment, length: Moment) -> Moment:
    return Moment(Fraction(repr(float(moment.amount / length.amount * 100))), "%")
