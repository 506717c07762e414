"""What a plan cannot ask of a network whose parts are trained in turn."""

from __future__ import annotations

from collections.abc import Iterator

from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.plan.model import Arm, Distill, Options, Retrain
from tickdsl.plan.steps import TASKS_IN_PHASES
from tickdsl.training.catalogue import MODELS


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield a finding for each distillation and compilation of a network of the catalogue that has phases."""
    if MODELS[arm.model.name].task not in TASKS_IN_PHASES:
        return
    recipes: list[tuple[Options, object]] = [(arm.recipe, arm.recipe_span)]
    for group in arm.distinct_rounds.values():
        for tail in group.tail:
            if isinstance(tail, Distill):
                yield _finding(arm, "`distill`", tail.span, "their losses know no teacher", "remove it")
            if isinstance(tail, Retrain):
                recipes.append((tail.recipe, tail.span))
    for recipe, span in recipes:
        if recipe.get("compile") == "on":
            yield _finding(arm, "`compile=on`", span, "the network as a whole is not run", "remove `compile=on`")


def _finding(arm: Arm, what: str, span: object, reason: str, way_out: str) -> Diagnostic:
    return Diagnostic(
        "TD490",
        f"{what}: the parts of {arm.model.name} are trained in turn; {reason}",
        span,  # type: ignore[arg-type]
        secondary=(Label(arm.model.span, "the network"),),
        help=way_out,
    )
