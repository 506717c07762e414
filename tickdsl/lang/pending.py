"""Mistakes in the statements that are read but not carried out yet: retraining, distillation, transfer, matching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.diagnostics import Diagnostic, did_you_mean, listing
from tickdsl.lang.settings import Scope
from tickdsl.lang.values import Reader, Unreadable
from tickdsl.training import catalogue

#: Schedules that end at a rate of zero.
_END_AT_ZERO = ("cosine", "one-cycle", "linear")


def check(
    statements: Iterable[syntax.Statement], arm: str, arms: Sequence[str], scope: Scope | None, reader: Reader
) -> None:
    """Report the mistakes; `scope` holds the settings in force, where they could be read."""
    for statement in statements:
        with contextlib.suppress(Unreadable):
            match statement:
                case syntax.Retrain():
                    _retrain(statement, scope, reader)
                case syntax.Distill():
                    reader.options(statement.options, vocabulary.DISTILL_OPTIONS, "distill")
                    _teacher(statement.teacher, arm, arms, reader)
                case syntax.Transfer():
                    _transfer(statement, scope, reader)
                case syntax.Prune(amount=syntax.Matching(other)):
                    _known_arm(other, "matching", arms, reader)
                case syntax.Cycle():
                    check(statement.body, arm, arms, scope, reader)


def _retrain(statement: syntax.Retrain, scope: Scope | None, reader: Reader) -> None:
    given = reader.options(statement.options, vocabulary.TRAIN_OPTIONS, "retrain")
    if statement.length is not None:
        reader.moment(statement.length, "the training's length")
    schedule = reader.word(statement.schedule, vocabulary.SCHEDULES, "schedule")
    if schedule != "fine-tune" or scope is None:
        return
    first = float(scope.recipe.get("lr", 0.1))
    if "lr" not in given and scope.recipe.get("schedule") in _END_AT_ZERO:
        reader.report(
            Diagnostic(
                "TD307",
                f"`retrain fine-tune` goes on at the recipe's last rate, and schedule={scope.recipe['schedule']} "
                "ends at 0",
                statement.span,
                help=f"give one: `lr={first / 100:g}`",
            )
        )
    elif given.get("lr", 0) >= first:
        option = next(option for option in statement.options if option.key.text == "lr")
        message = f"fine-tuning at lr={given['lr']:g}: the recipe begins with lr={first:g}"
        reader.wrong("TD308", message, option.value, help=f"take less, e.g. `lr={first / 100:g}`, or write `rewind lr`")


def _teacher(teacher: syntax.Value, arm: str, arms: Sequence[str], reader: Reader) -> None:
    if _known_arm(teacher, "distill from", ["dense", *arms], reader) == arm:
        help = "distil from `dense`, or from another arm"
        reader.wrong("TD510", f"arm `{arm}` cannot be its own teacher", teacher, help=help)


def _known_arm(value: syntax.Value, what: str, arms: Sequence[str], reader: Reader) -> str:
    found = reader.follow(value)
    name: Any = getattr(found, "text", None)
    if name not in arms:
        near = did_you_mean(str(name), arms) or ""
        help = f"one of: {listing(arms)}"
        raise reader.wrong("TD511", f"`{what} {name}`: there is no such arm", value, label=near, help=help)
    return str(name)


def _transfer(statement: syntax.Transfer, scope: Scope | None, reader: Reader) -> None:
    given = reader.options(statement.options, vocabulary.TRANSFER_OPTIONS, "transfer")
    name = reader.word(statement.data, catalogue.DATASETS, "data set", "TD102")
    if given.get("head") != "keep" or scope is None:
        return
    before, after = catalogue.DATASETS[scope.data.name].classes, catalogue.DATASETS[name].classes
    before = scope.data.options.get("classes", before)
    if before is not None and after is not None and before != after:
        option = next(option for option in statement.options if option.key.text == "head")
        reader.wrong(
            "TD412",
            f"the head has {before} outputs for {scope.data.name}; {name} has {after} classes",
            option.value,
            help="write `head=reset`",
        )
