"""What `precision=auto` is on the device of a study: a part of its steps, so that a store may serve several devices."""

from __future__ import annotations

from typing import TypeVar

import attrs
import torch

from tickdsl.plan.model import Arm, Options, Plan, Retrain
from tickdsl.training.devices import has_fast_bf16

T = TypeVar("T")


def settled(plan: Plan, device: torch.device) -> Plan:
    """The plan with every `precision=auto` replaced: bf16 on a GPU that computes in it, fp32 elsewhere."""
    found = "bf16" if device.type == "cuda" and has_fast_bf16(device) else "fp32"

    def recipe(options: Options) -> Options:
        if options.get("precision") != "auto":
            return options
        others = {name: value for name, value in options.items() if name != "precision"}
        return others if found == "fp32" else {**others, "precision": found}  # defaults are left out

    def tails(tail: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(
            attrs.evolve(each, recipe=recipe(each.recipe)) if isinstance(each, Retrain) else each for each in tail
        )

    def arm(each: Arm) -> Arm:
        rounds = tuple(attrs.evolve(group, tail=tails(group.tail)) for group in each.rounds)
        transfer = each.transfer and attrs.evolve(each.transfer, tail=tails(each.transfer.tail))
        return attrs.evolve(each, recipe=recipe(each.recipe), rounds=rounds, transfer=transfer)

    return attrs.evolve(plan, arms=tuple(map(arm, plan.arms)), helpers=tuple(map(arm, plan.helpers)))
