"""What the statements of a pipeline are resolved in: the settings and the names of the plan's arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from tickdsl.lang import syntax
from tickdsl.lang.findings.suggestions import did_you_mean, join_or
from tickdsl.lang.meaning.settings import ArmSettings
from tickdsl.lang.meaning.values import ValueReader
from tickdsl.plan import model


@attrs.frozen
class ArmContext:
    """The context of a pipeline: its settings (None if they could not be read), its arm, and the names of all arms."""

    settings: ArmSettings | None
    arm: str
    arms: Sequence[str]
    reader: ValueReader

    @property
    def split(self) -> model.Split | None:
        return self.settings.split if self.settings else None

    def arm_name(self, value: syntax.Value, clause: str, known: Sequence[str]) -> str:
        """Read the name of an arm, or another of the `known` words.

        Raises InvalidValueError, after reporting TD511, if the name is unknown.
        """
        name: Any = getattr(self.reader.dereference(value), "text", None)
        if name not in known:
            suggestion = did_you_mean(str(name), known) or ""
            message = f"unknown arm `{name}` in `{clause}`"
            raise self.reader.report_error("TD511", message, value, label=suggestion, help=f"use {join_or(known)}")
        return str(name)
