"""Text to AST. A broken statement is reported, blanked out and the rest is read on: one pass, all errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lark.exceptions import UnexpectedInput

from tickdsl.errors import TickdslError
from tickdsl.grammar import parser
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.reading.build import build
from tickdsl.lang.reading.statements import Piece, pieces, too_deep
from tickdsl.lang.reading.syntax_errors import explain
from tickdsl.lang.syntax import File, Source, Span, Statement

#: How many broken statements are reported before the reader gives up.
LIMIT = 200
#: The same for one statement at the top level, whose block is read anew after each of them.
_PIECE_LIMIT = 20


def read(path: str | Path) -> Source:
    """Read a plan file (UTF-8, a byte-order mark is skipped). Raises TickdslError where that fails."""
    try:
        return Source(str(path), Path(path).read_text("utf-8-sig"))
    except FileNotFoundError:
        raise TickdslError(f"{path}: there is no such file", "name a .plan file, e.g. plans/card.plan") from None
    except UnicodeDecodeError as error:
        raise TickdslError(f"{path}: not UTF-8 text (byte {error.start})", "save the plan as UTF-8") from None
    except OSError as error:
        raise TickdslError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise TickdslError(f"{str(path)!r} is no path") from None


def parse(source: Source) -> tuple[File, tuple[Diagnostic, ...]]:
    """The AST of what can be read, and one finding for each statement that cannot."""
    if not too_deep(source.text):
        try:
            return build(parser().parse(source.text), source), ()
        except UnexpectedInput:
            pass
    statements: list[Statement] = []
    findings: list[Diagnostic] = []
    lost: list[Span] = []
    for piece in pieces(source):
        if len(findings) > LIMIT:
            lost.append(Span(source, piece.start, len(source.text)))
            break
        statements += _read(piece, findings, lost)
    return File(tuple(statements), source, tuple(lost)), tuple(findings)


def _read(piece: Piece, findings: list[Diagnostic], lost: list[Span]) -> Iterator[Statement]:
    """The statements of one piece that can be read; the others are reported and noted as lost."""
    whole, first, unread = piece, len(findings), len(lost)
    mended: set[int] = set()
    place = too_deep(piece.text)
    if place:
        span = piece.span(place, place + 1)
        findings.append(Diagnostic("TD016", "blocks or lists are nested too deep here", span, help="`cycle N` repeats"))
        lost.append(piece.span(0, len(piece.text)))
        return
    for _ in range(_PIECE_LIMIT):
        try:
            tree = parser().parse(piece.text)
        except UnexpectedInput as error:
            finding, broken = explain(error, piece)
            findings.append(finding)
            headed = piece.headed(broken[0], finding.span.start - piece.start) if broken[0] not in mended else None
            if headed is not None:
                mended.add(broken[0])
                lost.append(piece.span(broken[0], headed[1]))
                piece = headed[0]
            else:
                lost.append(piece.span(*broken))
                piece = piece.without(*broken)
        else:
            yield from build(tree, piece.source, piece.start).statements
            break
    else:
        lost.append(piece.span(0, len(piece.text)))
    if whole.unclosed is not None:
        opener = whole.start + whole.unclosed
        # A statement that is wrong before its brace is told once.
        if not any(span.start <= opener < span.end for span in lost[unread:]):
            findings.insert(first, _never_closed(whole, whole.unclosed))


def _never_closed(piece: Piece, opener: int) -> Diagnostic:
    source = piece.source
    span = piece.span(piece.statement(opener)[0], opener + 1)
    end = min(piece.start + len(piece.written), len(source.text))
    last = "the file ends here" if end == len(source.text) else "this stands at the top level"
    secondary = (Label(Span(source, end, end), last),) if end > span.end else ()
    return Diagnostic(
        "TD003",
        f"`{span.text.strip()}` is never closed",
        span,
        label="opened here",
        secondary=secondary,
        help="close the block with `}`",
    )
