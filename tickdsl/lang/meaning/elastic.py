"""Resolve `stretch` and `squeeze`: the network that every level is measured as, and where its blocks come from."""

from __future__ import annotations

from tickdsl.lang import option_schemas, syntax
from tickdsl.lang.meaning import settings
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.values import InvalidValueError
from tickdsl.lang.option_schemas import option_schema
from tickdsl.plan import model
from tickdsl.training import catalogue

#: Defaults of `order=` and `drop=`.
DEFAULT_ORDER, DEFAULT_DROP = "append", "last"


def elastic(statement: syntax.Elastic, context: ArmContext) -> model.Elastic:
    """Resolve a `stretch` or `squeeze`. Raises InvalidValueError, after reporting it, if the statement is wrong.

    Options of the network that are not set are those of the arm's network.
    """
    reader = context.reader
    name = reader.table_name(statement.model, catalogue.MODELS, "TD101")
    known = catalogue.architecture_options(catalogue.MODELS[name].options)
    own = option_schemas.STRETCH_OPTIONS if statement.verb == "stretch" else option_schemas.SQUEEZE_OPTIONS
    written = reader.options(statement.options, {**option_schema(known), **own}, f"{statement.verb} to {name}")
    if len(written) < len(statement.options) or context.settings is None:
        raise InvalidValueError
    order, drop = written.pop("order", None), written.pop("drop", None)
    rule = {"order": order or DEFAULT_ORDER} if statement.verb == "stretch" else {"drop": drop or DEFAULT_DROP}
    source = catalogue.architecture_options(context.settings.model.options)
    inherited = {option: value for option, value in source.items() if option in known}
    target = model.Model(name, settings.non_default({**inherited, **written}, known), span=statement.model.span)
    DefaultsReporter(reader.report).options(statement, rule, own)
    if statement.verb == "stretch":
        return model.Elastic(target, order=rule["order"], span=statement.span)
    chosen = rule["drop"]
    return model.Elastic(target, drop=chosen if isinstance(chosen, str) else tuple(chosen), span=statement.span)
