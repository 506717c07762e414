"""Recipes made of recipes: the schedules of retraining, and a recipe stretched to another length. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import attrs

from tickdsl.moments import Moment
from tickdsl.training.recipes.recipe import Recipe

#: The schedules that are defined here.
BUILT_IN_SCHEDULES = ("fine-tune", "scaled", "one-cycle", "cyclic", "linear", "scratch")
#: The share of a retraining in which the rate rises, and one-cycle's divisors (Le & Hua 2021).
PCT_START, DIV, FINAL_DIV = 0.1, 100.0, 100.0


def retraining_recipe(
    base: Recipe, schedule: str, length: Moment | None = None, options: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of `retrain SCHEDULE`, from the recipe that the network was trained by.

    `length`: how long (default: as long as the base). `options` replace fields of the base; those that shape the
    schedule are `lr` (the highest rate), `min_lr`, `pct_start`, `gamma`, `div` and `final_div`.

    fine-tune: the base's last rate, constant. scaled: after a warm-up by a cosine, once an epoch, the base's
    milestones at their shares of what is left (SLR). one-cycle: as Smith 2018 (CLR); all three as Le & Hua, ICLR 2021,
    have them in their code. cyclic: a warm-up by a cosine from 0, step by step, then a cosine down to the base's last
    rate. linear: the same warm-up, then a line down to 0; both as Zimmer et al., ICLR 2023, have them in theirs.
    scratch: the base, stretched. A plug-in's rates begin with the base's highest. Raises ValueError where a value is
    out of range.
    """
    overrides = dict(options or {})
    length = length or base.length
    if schedule == "scratch":
        return attrs.evolve(stretch(base, length), **overrides)
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
        return attrs.evolve(stretch(base, length), max_lr=peak, **overrides)  # it has a warm-up of its own
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
        overrides.setdefault("gamma", base.gamma)
        return _with_schedule(base, length, schedule="milestones", milestones=milestones, lr=peak, **rise, **overrides)
    warmup = Moment(pct_start * 100, "%")
    decay = {"schedule": "cosine", "min_lr": low_rate} if schedule == "cyclic" else {"schedule": "linear"}
    return _with_schedule(base, length, lr=peak, warmup=warmup, rise="cosine", **decay, **overrides)


def stretch(base: Recipe, length: Moment) -> Recipe:
    """The recipe in another length, its milestones and warm-up at their shares of it."""
    if length == base.length:
        return base

    def moved_moment(moment: Moment) -> Moment:
        if moment.unit == "%" or not moment.amount:
            return moment
        if moment.unit == base.length.unit == length.unit:
            moved_amount = moment.amount / base.length.amount * length.amount
            return (
                Moment(moved_amount, length.unit) if moved_amount.denominator == 1 else _as_percent(moment, base.length)
            )
        if moment.unit == base.length.unit:
            return _as_percent(moment, base.length)
        raise ValueError(f"{moment} has no known share of {base.length}; write both in epochs, or as shares")

    return attrs.evolve(
        base, length=length, milestones=tuple(map(moved_moment, base.milestones)), warmup=moved_moment(base.warmup)
    )


def scale_length(base: Recipe, ratio: Fraction) -> Recipe:
    """The recipe stretched to `ratio` times its length, in whole epochs or steps, at least one (Liu et al. 2019)."""
    return stretch(base, Moment(max(1, math.floor(base.length.amount * ratio)), base.length.unit))


def _with_schedule(base: Recipe, length: Moment, **changed: Any) -> Recipe:
    """The base's optimiser, batches and augmentation under another schedule."""
    plain = Recipe(length=length)
    schedule = ("schedule", "milestones", "gamma", "warmup", "rise", "rise_from", "min_lr", "max_lr", "pct_start",
                "div", "final_div", "length")  # fmt: skip
    fresh = {name: getattr(plain, name) for name in schedule}
    if changed.get("schedule") == "one-cycle":
        fresh["lr"] = plain.lr  # which one-cycle does not read: one spelling, one key
    return attrs.evolve(base, **{**fresh, **changed})


def _low_rate(base: Recipe, peak: float) -> float:
    """Where a warm-up begins, or a cosine ends: the base's last rate, or where that says nothing a hundredth."""
    return base.final_lr if 0 < base.final_lr < peak else peak / 100


def _milestone_shares(base: Recipe) -> list[Fraction]:
    shares = []
    for milestone in base.milestones:
        if milestone.unit not in ("%", base.length.unit):
            raise ValueError(f"milestone {milestone} has no known share of {base.length}; write both in epochs")
        whole = 100 if milestone.unit == "%" else base.length.amount
        shares.append(Fraction(milestone.amount) / whole)
    return shares


def _whole_share(length: Moment, share: Fraction) -> Moment:
    """That share of a length, in whole epochs or steps."""
    return Moment(math.floor(length.amount * share), length.unit)


def _as_percent(moment: Moment, whole: Moment) -> Moment:
    return Moment(Fraction(repr(float(moment.amount / whole.amount * 100))), "%")
