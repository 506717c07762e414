"""What a statement that could not be read may have said: findings that follow from its loss are not shown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.reading.include import Loaded
from tickdsl.lang.reading.statements import TOP_LEVEL

#: About a name that may have been defined, or read, in the text that was lost.
_NAMES = {"TD106", "TD107", "TD110", "TD115", "TD507", "TD511", "TD512"}
#: About the name of an arm, where that could not be read.
_OF_ARMS = {"TD109", "TD111", "TD507"}
#: About something missing that may have stood there.
_MISSING = {"TD002", "TD301", "TD310", "TD501", "TD506", "TD517", "TD901", "TD902", "TD905"}
_WORD = re.compile(r"[A-Za-z_][\w.-]*")


class Lost:
    """The text of a plan that could not be read."""

    def __init__(self, loaded: Loaded) -> None:
        self.spans = loaded.lost
        self.words = {word for span in loaded.lost for word in _WORD.findall(span.text)}
        self.included = any(span.text.lstrip().startswith("include") for span in loaded.lost)
        self.arms = [s.span for s in loaded.statements if isinstance(s, syntax.Arm)]

    def explains(self, finding: Diagnostic) -> bool:
        """Whether a finding may be a mere consequence of what was lost."""
        if not self.spans:
            return False
        if finding.code in _OF_ARMS and any(self._overlap(finding.span, span) for span in self.spans):
            return True  # its name is a guess
        if finding.code in _NAMES:
            return self.included or finding.span.text.lstrip("$") in self.words or self._is("compare", finding)
        return finding.code in _MISSING and self.touches(finding.span)

    @staticmethod
    def _overlap(one: syntax.Span, other: syntax.Span) -> bool:
        return one.source is other.source and one.start < other.end and other.start < one.end

    def _is(self, statement: str, finding: Diagnostic) -> bool:
        return finding.code == "TD507" and any(span.text.lstrip().startswith(statement) for span in self.spans)

    def touches(self, place: syntax.Span) -> bool:
        """Whether what was lost may have belonged to the pipeline at a place: to its arm, or to all arms."""
        return self.touched_by(self.spans, place)

    def touched_by(self, spans: Iterable[syntax.Span], place: syntax.Span) -> bool:
        """Whether one of the spans belongs to the pipeline at a place."""
        here = self._arm(place)
        return any((arm := self._arm(span)) == here or (arm is None and not self._question(span)) for span in spans)

    def _arm(self, place: syntax.Span) -> syntax.Span | None:
        return next((a for a in self.arms if a.source is place.source and a.start <= place.start < a.end), None)

    def _question(self, span: syntax.Span) -> bool:
        """Whether a statement of the top level speaks of no pipeline."""
        word = _WORD.match(span.text.lstrip())
        return word is not None and word[0] in TOP_LEVEL and word[0] not in ("include", "arm")
