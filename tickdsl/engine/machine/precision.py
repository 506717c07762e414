"""The precision of steps: `auto` resolved for a device, and what the device does not support found before a run.

The precision is part of the keys of steps, so a store can serve several devices.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import attrs

from tickdsl.plan.model import Arm, Options, Plan, Retrain, TrainingCycle
from tickdsl.plan.steps import Step
from tickdsl.training.device_choice import Device, loaded

T = TypeVar("T")


def resolve_precision(plan: Plan, device: Device) -> Plan:
    """The plan with every `precision=auto` replaced: by bf16 on a GPU with fast bf16, else by fp32."""
    precision = "bf16" if device.type == "cuda" and has_fast_bf16(device) else "fp32"

    def resolve_recipe(options: Options) -> Options:
        if options.get("precision") != "auto":
            return options
        rest = {name: value for name, value in options.items() if name != "precision"}
        return rest if precision == "fp32" else {**rest, "precision": precision}  # fp32 is the default

    def resolve_tail(tail: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(
            attrs.evolve(item, recipe=resolve_recipe(item.recipe)) if isinstance(item, Retrain) else item
            for item in tail
        )

    def resolve_cycles(cycles: tuple[TrainingCycle, ...]) -> tuple[TrainingCycle, ...]:
        return tuple(attrs.evolve(cycle, tail=resolve_tail(cycle.tail)) for cycle in cycles)

    def resolve_arm(arm: Arm) -> Arm:
        rounds = tuple(
            attrs.evolve(group, tail=resolve_tail(group.tail), cycles=resolve_cycles(group.cycles))
            for group in arm.rounds
        )
        transfer = arm.transfer and attrs.evolve(arm.transfer, tail=resolve_tail(arm.transfer.tail))
        fork = arm.fork and attrs.evolve(arm.fork, recipe=resolve_recipe(arm.fork.recipe))
        cycles = resolve_cycles(arm.cycles)
        return attrs.evolve(
            arm, recipe=resolve_recipe(arm.recipe), rounds=rounds, transfer=transfer, fork=fork, cycles=cycles
        )

    return attrs.evolve(plan, arms=tuple(map(resolve_arm, plan.arms)), helpers=tuple(map(resolve_arm, plan.helpers)))


def precision_of(step: Step) -> str:
    """The precision that a step trains or evaluates in."""
    precision: str = step.args.get("precision") or step.args.get("recipe", {}).get("precision", "fp32")
    return precision


def require_precisions(steps: Iterable[Step], device: Device) -> None:
    """Raise TickdslError if a step has a precision that the device does not support."""
    for precision in dict.fromkeys(map(precision_of, steps)):
        if precision != "fp32":  # which every device has
            from tickdsl.training import devices

            devices.autocast_type(precision, loaded(device))


def has_fast_bf16(device: Device) -> bool:
    """As `devices.has_fast_bf16`."""
    from tickdsl.training import devices

    return devices.has_fast_bf16(loaded(device))
