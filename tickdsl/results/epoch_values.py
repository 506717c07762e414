"""The values of an epoch by name, for the tools that draw curves of trainings."""

from __future__ import annotations

from tickdsl.records.events import StepProgress


def epoch_values(progress: StepProgress) -> dict[str, float | None]:
    """The training loss, the learning rate and the primary metric by name; None for what was not measured.

    A metric on validation data is called `validation_accuracy`, one on the test set `accuracy`. `penalty` is the
    factor of a growing penalty, where there is one.
    """
    score = progress.accuracy if progress.metric is None else progress.score
    name = progress.metric or "accuracy"
    name = f"validation_{name}" if progress.measured_on == "validation" else name
    values = {"train_loss": progress.loss, name: score, "learning_rate": progress.lr}
    return values if progress.penalty is None else {**values, "penalty": progress.penalty}
