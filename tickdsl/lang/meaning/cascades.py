"""Hide the findings that may only follow from a statement that could not be parsed."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.reading.include import LoadedPlan
from tickdsl.lang.reading.statements import TOP_LEVEL_KEYWORDS

#: Codes about a name that the unparsed text may define or use.
_NAME_CODES = {"TD106", "TD107", "TD110", "TD115", "TD507", "TD511", "TD512"}
#: Codes about the name of an arm, which may itself be unparsed.
_ARM_NAME_CODES = {"TD109", "TD111", "TD507"}
#: Codes about something missing that the unparsed text may contain.
_MISSING_CODES = {"TD002", "TD301", "TD310", "TD501", "TD506", "TD517", "TD901", "TD902", "TD905"}
_WORD = re.compile(r"[A-Za-z_][\w.-]*")


class UnparsedText:
    """The text of a plan that could not be parsed."""

    def __init__(self, loaded: LoadedPlan) -> None:
        self.spans = loaded.unparsed
        self.words = {word for span in loaded.unparsed for word in _WORD.findall(span.text)}
        self.included = any(span.text.lstrip().startswith("include") for span in loaded.unparsed)
        #: The arms of each source, in order, and where they start.
        self.arms: dict[syntax.Source, list[syntax.Span]] = {}
        for statement in syntax.of_type(loaded.statements, syntax.Arm):
            self.arms.setdefault(statement.span.source, []).append(statement.span)
        for arms in self.arms.values():
            arms.sort(key=lambda arm: arm.start)  # an open buffer that is included twice is one source
        self.starts = {source: [arm.start for arm in arms] for source, arms in self.arms.items()}

    def may_explain(self, diagnostic: Diagnostic) -> bool:
        """Whether a finding may only follow from the unparsed text."""
        if not self.spans:
            return False
        if diagnostic.code in _ARM_NAME_CODES and any(self._overlap(diagnostic.span, span) for span in self.spans):
            return True  # the name is a guess
        if diagnostic.code in _NAME_CODES:
            return (
                self.included
                or diagnostic.span.text.lstrip("$") in self.words
                or self._lost_statement_is("compare", diagnostic)
            )
        return diagnostic.code in _MISSING_CODES and self.affects(diagnostic.span)

    @staticmethod
    def _overlap(first: syntax.Span, second: syntax.Span) -> bool:
        return first.source is second.source and first.start < second.end and second.start < first.end

    def _lost_statement_is(self, statement: str, diagnostic: Diagnostic) -> bool:
        return diagnostic.code == "TD507" and any(span.text.lstrip().startswith(statement) for span in self.spans)

    def affects(self, place: syntax.Span) -> bool:
        """Whether unparsed text may belong to the pipeline at `place`: to its arm, or to all arms."""
        return self.affected_by(self.spans, place)

    def affected_by(self, spans: Iterable[syntax.Span], place: syntax.Span) -> bool:
        """Whether one of the spans belongs to the pipeline at `place`."""
        here = self._enclosing_arm(place)
        return any(
            (arm := self._enclosing_arm(span)) == here or (arm is None and not self._is_question(span))
            for span in spans
        )

    def _enclosing_arm(self, place: syntax.Span) -> syntax.Span | None:
        index = bisect.bisect_right(self.starts.get(place.source, []), place.start) - 1
        arm = self.arms[place.source][index] if index >= 0 else None
        return arm if arm is not None and place.start < arm.end else None

    def _is_question(self, span: syntax.Span) -> bool:
        """Whether a top-level statement belongs to no pipeline."""
        word = _WORD.match(span.text.lstrip())
        return word is not None and word[0] in TOP_LEVEL_KEYWORDS and word[0] not in ("include", "arm")
