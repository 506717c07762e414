"""Defaults that a statement is completed by: each is told once, where the statement stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning.values import DiagnosticSink
from tickdsl.lang.vocabulary import OptionType
from tickdsl.lang.writing import unparse
from tickdsl.lang.writing.literals import format_moment
from tickdsl.plan import model
from tickdsl.training.recipes.recipe import Recipe

#: Numbers that nobody wrote so: 0.010000000000000002.
_LONG = re.compile(r"\d+\.\d{7,}")


@attrs.frozen
class DefaultsReporter:
    """Tells what was assumed."""

    report: DiagnosticSink

    def data(self, statement: syntax.Model, data: str) -> None:
        """No data set."""
        self._note("TD905", "model", [f"on {data}"], statement.span)

    def recipe(self, statement: syntax.Train, written: Iterable[str], fields: Mapping[str, Any]) -> None:
        """Options of `train` that shape a training and are not among those `written`."""
        recipe = Recipe.from_dict(fields)
        shapes = {"milestones": ["gamma"], "one-cycle": ["pct-start", "div", "final-div"]}
        names = ["lr", "batch", *(["momentum"] if recipe.optimizer == "sgd" else []), *shapes.get(recipe.schedule, ())]
        if recipe.schedule == "one-cycle" and recipe.max_lr is not None:
            names.remove("lr")  # which one-cycle does not read
        left_out = {name: vocabulary.TRAIN_OPTIONS[name] for name in names if name not in set(written)}
        length = [format_moment(recipe.length)] if statement.length is None else []
        values = unparse.options(unparse.recipe_options(recipe, left_out), left_out)
        self._note("TD902", "train", length + values, statement.span)

    def ranking(self, statement: syntax.Prune, resolved: model.Prune) -> None:
        """No scope, no criterion."""
        scope = [resolved.scope] if statement.scope is None else []
        by = [f"by {resolved.by}"] if statement.by is None else []
        self._note("TD906", "prune", [" … ".join(scope + by)], statement.span)

    def rewind(self, statement: syntax.Rewind, resolved: model.Rewind) -> None:
        """No format_moment. That the rate begins anew at its beginning is what rewinding it says."""
        if statement.to is None and resolved.what == "weights":
            self._note("TD907", "rewind weights", ["to init"], statement.span)

    def retraining(self, statement: syntax.Retrain, resolved: model.Retrain) -> None:
        """No length, or no option that shapes the schedule."""
        recipe = Recipe.from_dict(resolved.recipe)
        written = {option.key.text for option in statement.options}
        shape = {
            name: value for name, value in unparse.schedule_options(resolved, recipe).items() if name not in written
        }
        if "lr" in written:
            shape.pop("max-lr", None)
        length = [format_moment(recipe.length)] if statement.length is None else []
        values = unparse.options(shape, vocabulary.RETRAIN_OPTIONS)
        self._note("TD907", f"retrain {resolved.schedule}", length + values, statement.span)

    def measuring(self, statement: syntax.Report, plan: model.Plan) -> None:
        """Options of `report` that its metrics read."""
        written = tuple(f"{option.key.text}=" for option in statement.options)
        values = unparse.report_options(plan.metrics, plan.measuring)
        self._note("TD907", "report", [value for value in values if not value.startswith(written)], statement.span)

    def options(
        self,
        statement: syntax.Distill | syntax.Transfer | syntax.Compare,
        values: Mapping[str, Any],
        kinds: Mapping[str, OptionType],
    ) -> None:
        """Options that are not written, of all `values`."""
        written = {option.key.text for option in statement.options}
        left_out = {name: value for name, value in values.items() if name not in written}
        word = type(statement).__name__.lower()
        self._note("TD907", word, unparse.options(left_out, kinds), statement.span)

    def _note(self, code: str, what: str, defaults: Iterable[str], span: syntax.Span) -> None:
        said = _LONG.sub(lambda number: f"{float(number[0]):g}", " ".join(defaults))
        if said:
            self.report(Diagnostic(code, f"`{what}` is completed by `{said}`", span))


def comparison_options(plan: model.Plan) -> dict[str, Any]:
    """The options of `compare` that matter for what it compares."""
    rivals = set(plan.rivals) - {"dense"}
    found: dict[str, Any] = {"levels": plan.rival_levels} if rivals else {}
    return {**found, "within": plan.within}
