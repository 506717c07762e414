"""Apply `# ok TD505` comments, which silence findings of their line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

import attrs

from tickdsl.lang.findings.diagnostic_codes import CODES
from tickdsl.lang.findings.diagnostics import Diagnostic
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
        """Whether this silences a finding: a warning or note of its code on its line. Errors cannot be silenced."""
        return (
            diagnostic.severity != "error"
            and diagnostic.code == self.code
            and diagnostic.span.source is self.span.source
            and diagnostic.span.line == self.span.line
        )


def apply_silences(
    diagnostics: Collection[Diagnostic],
    sources: Iterable[Source],
    *,
    complete: bool,
    skipped_codes: Collection[str] = (),
) -> list[Diagnostic]:
    """Drop the silenced findings, and add findings about wrong or unused `# ok` comments.

    `complete`: the checks ran to the end, so silences without a finding are unused, except those of `skipped_codes`,
    whose checks did not run.
    """
    parsed = [item for source in sources for item in _silences(source)]
    silences = [item for item in parsed if isinstance(item, _Silence)]
    mistakes = [item for item in parsed if isinstance(item, Diagnostic)]
    by_code: dict[str, list[_Silence]] = {}
    for silence in silences:
        by_code.setdefault(silence.code, []).append(silence)
    used: set[_Silence] = set()
    kept = []
    for diagnostic in diagnostics:
        covering = [silence for silence in by_code.get(diagnostic.code, ()) if silence.covers(diagnostic)]
        used.update(covering)
        if not covering:
            kept.append(diagnostic)
    if complete:
        mistakes += [_unused(s) for s in silences if s not in used and s.code not in skipped_codes]
    return [*kept, *mistakes]


def _silences(source: Source) -> Iterator[_Silence | Diagnostic]:
    if "ok" not in source.text:
        return
    for start, end in comment_ranges(source.text):
        comment = SILENCE_COMMENT.match(source.text, start, end)
        if comment is None:
            continue
        codes = _CODE.finditer(source.text, comment.start(1), comment.end(1))
        named = [match for match in codes if re.fullmatch(r"[A-Za-z]*\d+", match[0])]
        if not named:
            continue  # a comment that happens to begin with "ok"
        for match in named:
            span = Span(source, *match.span())
            if match[0] not in CODES:
                suggestion = closest_code(match[0])
                label = f"did you mean `{suggestion}`?" if suggestion else ""
                help = "`tickdsl explain` lists all codes"
                yield Diagnostic("TD015", f"unknown code `{match[0]}`", span, label, help=help)
            elif CODES[match[0]][1] == "error":
                message = f"{match[0]} ({CODES[match[0]][0]}) is an error, and errors cannot be silenced"
                yield Diagnostic("TD015", message, span, help="fix the plan and remove the comment")
            else:
                yield _Silence(match[0], span)


def _unused(silence: _Silence) -> Diagnostic:
    slug = CODES[silence.code][0]
    message = f"unused `# ok {silence.code}`: this line has no {slug} finding"
    return Diagnostic("TD014", message, silence.span, help="remove it")
