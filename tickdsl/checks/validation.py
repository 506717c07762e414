"""Check that what looks at validation data has some: `patience=` and `report early-stop every=` (TD534, TD535)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning.values import ValueLocation
from tickdsl.moments import Moment
from tickdsl.plan.model import Arm, Data, Plan, Retrain
from tickdsl.training import catalogue


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield a finding for every recipe of an arm that waits for validation data which do not exist."""
    without = _without_validation(arm)
    if without is None:
        return
    places: Mapping[str, ValueLocation] = arm.recipe_places or {}
    recipes = [(arm.recipe, places["patience"].span if "patience" in places else arm.recipe_span)]
    if arm.fork is not None:
        places = arm.fork.recipe_places or {}
        recipes.append((arm.fork.recipe, places["patience"].span if "patience" in places else arm.fork.recipe_span))
    tails = (tail for group in arm.distinct_rounds.values() for tail in group.tail)
    recipes += [(tail.recipe, tail.span) for tail in tails if isinstance(tail, Retrain) and "patience" in tail.given]
    for recipe, span in recipes:
        if _patience(recipe).amount:
            yield Diagnostic(
                "TD534",
                f"`patience={_patience(recipe)}` looks at validation data, and {without.name} has none",
                span,
                help=f"hold some out: `data {without.name} … validation=10%`; or remove `patience=`",
            )
            return


def plan_diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield a finding if `report early-stop` measures within epochs, and an arm has nothing to measure on."""
    if plan.measuring.every is None:
        return
    without = next((found for arm in plan.arms if (found := _without_validation(arm)) is not None), None)
    if without is not None:
        yield Diagnostic(
            "TD535",
            f"`every={plan.measuring.every}` measures the loss on validation data, and {without.name} has none",
            plan.report_span or plan.arms[0].span,
            help=f"hold some out: `data {without.name} … validation=10%`; or remove `every=`",
        )


def _patience(recipe: Mapping[str, Any]) -> Moment:
    return Moment.parse(str(recipe.get("patience", "0ep")))


def _without_validation(arm: Arm) -> Data | None:
    """The first data set that an arm trains on without validation data."""
    sets = (arm.data, *([arm.transfer.data] if arm.transfer is not None else []))
    return next((data for data in sets if not catalogue.holds_out_validation(data.name, data.options)), None)
