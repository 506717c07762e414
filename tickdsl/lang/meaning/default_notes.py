"""Notes on the defaults that a statement uses, reported at the statement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from tickdsl.lang import option_schemas, syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning.values import DiagnosticSink
from tickdsl.lang.option_schemas import OptionType
from tickdsl.lang.writing import unparse
from tickdsl.lang.writing.literals import format_moment
from tickdsl.plan import model
from tickdsl.plurals import agreeing
from tickdsl.training.recipes.recipe import Recipe

#: Numbers with rounding errors, such as 0.010000000000000002.
_LONG = re.compile(r"\d+\.\d{7,}")


@attrs.frozen
class DefaultsReporter:
    """Reports which defaults a statement uses."""

    report: DiagnosticSink

    def data(self, statement: syntax.Model, data: str) -> None:
        """Note the default data set of a `model` statement that names none."""
        self._note("TD905", "model", [f"on {data}"], statement.span)

    def recipe(self, statement: syntax.Train, written: Iterable[str], fields: Mapping[str, Any]) -> None:
        """Note the defaults of `train` that affect the training and are not among the options `written`."""
        recipe, written = Recipe.from_dict(fields), set(written)
        in_effect = option_schemas.recipe_settings(recipe)
        shapes = {"milestones": ["gamma"], "one-cycle": ["pct-start", "div", "final-div"]}
        kinds = {
            name: option_schemas.TRAIN_OPTIONS[name]
            for name in ("lr", "batch", "momentum", *shapes.get(recipe.schedule, ()))
        }
        left_out = {
            name: kind
            for name, kind in kinds.items()
            if name not in written and kind.reason_for_no_effect(in_effect, written) is None
        }
        length = [format_moment(recipe.length)] if statement.length is None else []
        values = unparse.options(unparse.recipe_options(recipe, left_out), left_out)
        self._note("TD902", "train", length + values, statement.span)

    def ranking(self, statement: syntax.Prune, resolved: model.Prune) -> None:
        """Note the default scope and criterion of a `prune`."""
        scope = [resolved.scope] if statement.scope is None else []
        by = [f"by {resolved.by}"] if statement.by is None else []
        self._note("TD906", "prune", [*scope, *by], statement.span, separator=" … ")

    def refill(self, statement: syntax.Refill, by: str) -> None:
        """Note the default criterion of a `refill`."""
        if statement.by is None:
            self._note("TD907", "refill", [f"by {by}"], statement.span)

    def rewind(self, statement: syntax.Rewind, resolved: model.Rewind) -> None:
        """Note the default target of `rewind weights`; `rewind lr` always goes back to the start of its schedule."""
        if statement.to is None and resolved.what == "weights":
            self._note("TD907", "rewind weights", ["to init"], statement.span)

    def retraining(self, statement: syntax.Retrain, resolved: model.Retrain) -> None:
        """Note the default length and schedule options of a `retrain`."""
        recipe = Recipe.from_dict(resolved.recipe)
        written = {option.key.text for option in statement.options}
        shape = {
            name: value for name, value in unparse.schedule_options(resolved, recipe).items() if name not in written
        }
        if "lr" in written:
            shape.pop("max-lr", None)
        length = [format_moment(recipe.length)] if statement.length is None else []
        values = unparse.options(shape, option_schemas.RETRAIN_OPTIONS)
        self._note("TD907", f"retrain {resolved.schedule}", length + values, statement.span)

    def measuring(self, statement: syntax.Report, plan: model.Plan) -> None:
        """Note the defaults of `report` that its metrics use."""
        written = tuple(f"{option.key.text}=" for option in statement.options)
        values = unparse.report_options(plan.metrics, plan.measuring)
        self._note("TD907", "report", [value for value in values if not value.startswith(written)], statement.span)

    def options(
        self,
        statement: syntax.Regroup | syntax.Distill | syntax.Evolve | syntax.Elastic | syntax.Transfer | syntax.Compare,
        values: Mapping[str, Any],
        kinds: Mapping[str, OptionType],
    ) -> None:
        """Note those of `values` that the statement does not set."""
        written = {option.key.text for option in statement.options}
        left_out = {name: value for name, value in values.items() if name not in written}
        keyword = statement.verb if isinstance(statement, syntax.Elastic) else type(statement).__name__.lower()
        self._note("TD907", keyword, unparse.options(left_out, kinds), statement.span)

    def _note(
        self, code: str, statement: str, defaults: Sequence[str], span: syntax.Span, separator: str = " "
    ) -> None:
        if not defaults:
            return
        text = _LONG.sub(lambda number: f"{float(number[0]):g}", separator.join(defaults))
        self.report(Diagnostic(code, f"`{statement}` uses the {agreeing(len(defaults), 'default')} `{text}`", span))


def comparison_options(plan: model.Plan) -> dict[str, Any]:
    """The options of `compare` that affect this comparison."""
    controls = set(plan.rivals) - {"dense"}
    levels: dict[str, Any] = {"levels": plan.rival_levels} if controls else {}
    matched: dict[str, Any] = {"at": plan.matched_by} if len(plan.arms) > 1 else {}
    return {**levels, "within": plan.within, **matched}
