"""`# ok TD505`: findings that a person has seen and means to keep."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

import attrs

from tickdsl.lang.findings.diagnostics import CODES, Diagnostic
from tickdsl.lang.findings.explain import closest_code
from tickdsl.lang.reading.statements import comment_ranges
from tickdsl.lang.syntax import Source, Span
from tickdsl.lang.vocabulary import SILENCE_COMMENT

_CODE = re.compile(r"[A-Za-z]+\d+|[^\s,]+")


@attrs.frozen
class _Silence:
    """One code of an `# ok` comment."""

    code: str
    span: Span

    def covers(self, diagnostic: Diagnostic) -> bool:
        """A warning or note of that code on the comment's line; errors cannot be silenced."""
        return (
            diagnostic.severity != "error"
            and diagnostic.code == self.code
            and diagnostic.span.source is self.span.source
            and diagnostic.span.line == self.span.line
        )


def apply_silences(
    diagnostics: Collection[Diagnostic], sources: Iterable[Source], *, complete: bool, unseen: Collection[str] = ()
) -> list[Diagnostic]:
    """The findings that nobody silenced, and those about the silences themselves.

    `complete`: every check was made, so that a silence without a finding is one too many; `unseen` are the
    codes of checks that were left out.
    """
    written = [found for source in sources for found in _silences(source)]
    silences = [found for found in written if isinstance(found, _Silence)]
    mistakes = [found for found in written if isinstance(found, Diagnostic)]
    by_code: dict[str, list[_Silence]] = {}
    for one in silences:
        by_code.setdefault(one.code, []).append(one)
    used: set[_Silence] = set()
    kept = []
    for diagnostic in diagnostics:
        covering = [one for one in by_code.get(diagnostic.code, ()) if one.covers(diagnostic)]
        used.update(covering)
        if not covering:
            kept.append(diagnostic)
    if complete:
        mistakes += [_unused(one) for one in silences if one not in used and one.code not in unseen]
    return [*kept, *mistakes]


def _silences(source: Source) -> Iterator[_Silence | Diagnostic]:
    if "ok" not in source.text:
        return
    for start, end in comment_ranges(source.text):
        found = SILENCE_COMMENT.match(source.text, start, end)
        if found is None:
            continue
        codes = _CODE.finditer(source.text, found.start(1), found.end(1))
        named = [match for match in codes if re.fullmatch(r"[A-Za-z]*\d+", match[0])]
        if not named:
            continue  # a comment that happens to begin with "ok"
        for match in named:
            span = Span(source, *match.span())
            if match[0] not in CODES:
                near = closest_code(match[0])
                label = f"did you mean `{near}`?" if near else ""
                yield Diagnostic("TD015", f"there is no finding `{match[0]}`", span, label, help="`tickdsl explain`")
            elif CODES[match[0]][1] == "error":
                message = f"{match[0]} ({CODES[match[0]][0]}) is an error; errors cannot be silenced"
                yield Diagnostic("TD015", message, span, help="mend the plan, and remove the comment")
            else:
                yield _Silence(match[0], span)


def _unused(one: _Silence) -> Diagnostic:
    slug = CODES[one.code][0]
    return Diagnostic("TD014", f"this line has no {one.code} ({slug}) to silence", one.span, help="remove it")
