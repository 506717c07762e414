"""What `precision=auto` is on the device of a study: a part of its steps, so that a store may serve several devices."""

from __future__ import annotations

from typing import TypeVar

import attrs
import torch

from tickdsl.plan.model import Arm, Options, Plan, Retrain
from tickdsl.training.devices import has_fast_bf16

T = TypeVar("T")


def resolve_precision(plan: Plan, device: torch.device) -> Plan:
    """The plan with every `precision=auto` replaced: bf16 on a GPU that computes in it, fp32 elsewhere."""
    precision = "bf16" if device.type == "cuda" and has_fast_bf16(device) else "fp32"

    def recipe(options: Options) -> Options:
        if options.get("precision") != "auto":
            return options
        rest = {name: value for name, value in options.items() if name != "precision"}
        return rest if precision == "fp32" else {**rest, "precision": precision}  # defaults are left out

    def tails(tail: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(
            attrs.evolve(item, recipe=recipe(item.recipe)) if isinstance(item, Retrain) else item for item in tail
        )

    def arm(item: Arm) -> Arm:
        rounds = tuple(attrs.evolve(group, tail=tails(group.tail)) for group in item.rounds)
        transfer = item.transfer and attrs.evolve(item.transfer, tail=tails(item.transfer.tail))
        return attrs.evolve(item, recipe=recipe(item.recipe), rounds=rounds, transfer=transfer)

    return attrs.evolve(plan, arms=tuple(map(arm, plan.arms)), helpers=tuple(map(arm, plan.helpers)))
