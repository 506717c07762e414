"""The losses that a recipe can name, and the tasks that each is for. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tickdsl.plugins import Call, Registry, call_name


@attrs.frozen
class LossInfo:
    """A loss.

    tasks: the built-in tasks it is for, also through a task that is a subclass of one; empty for a loss of one's own,
    which gets whatever outputs and targets there are. options: with their defaults; of a loss of one's own, its
    parameters. weighs_classes: whether `class-weights=` changes it.
    """

    summary: str
    tasks: tuple[str, ...] = ()
    options: Mapping[str, float] = attrs.field(factory=dict)
    weighs_classes: bool = False


#: The losses of `train loss=`.
LOSSES: Registry[LossInfo] = Registry(
    "loss",
    {
        "cross-entropy": LossInfo("cross-entropy", ("classify", "segment", "language"), weighs_classes=True),
        "bce": LossInfo("binary cross-entropy of every label", ("tag",), weighs_classes=True),
        "focal": LossInfo(
            "cross-entropy that counts what is learnt already for less (Lin et al. 2017)",
            ("classify", "tag", "segment"), {"gamma": 2.0}, weighs_classes=True,
        ),
        "dice": LossInfo(
            "1 - the soft Dice coefficient, averaged over the classes (Milletari et al. 2016)",
            ("segment",), {"smooth": 1.0},
        ),
        "mse": LossInfo("mean squared error", ("regress", "reconstruct")),
        "l1": LossInfo("mean absolute error", ("regress", "reconstruct")),
        "huber": LossInfo("squared for errors up to `delta`, then linear", ("regress", "reconstruct"), {"delta": 1.0}),
        "smooth-l1": LossInfo("Huber's loss, divided by `beta`", ("regress", "reconstruct"), {"beta": 1.0}),
    },
    lambda plugin, description: LossInfo(description.summary or plugin.origin),
)  # fmt: skip
#: Task -> the loss that it has without `loss=`.
DEFAULT_LOSSES: Mapping[str, str] = {
    "classify": "cross-entropy", "tag": "bce", "regress": "mse", "segment": "cross-entropy",
    "language": "cross-entropy", "reconstruct": "mse",
}  # fmt: skip


def builtin_loss(text: str | None) -> LossInfo | None:
    """The built-in loss that a recipe names; None if it names none, or one of one's own."""
    return None if text is None else LOSSES.builtin.get(call_name(text))


def unknown_option(text: str, info: LossInfo | None) -> str:
    """The first option behind the name of a built-in that it does not have; "" if there is none."""
    return "" if info is None else next((name for name in Call.parse(text).options if name not in info.options), "")
