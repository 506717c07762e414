"""Text to AST. A broken statement is reported, blanked out and the rest is read on: one pass, all errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lark.exceptions import UnexpectedInput

from tickdsl.errors import TickdslError
from tickdsl.grammar import plan_parser
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.reading.ast_builder import build
from tickdsl.lang.reading.statements import StatementText, find_excess_depth, split_statements
from tickdsl.lang.reading.syntax_errors import diagnose_syntax_error
from tickdsl.lang.syntax import File, Source, Span, Statement

#: How many broken statements are reported before the reader gives up.
MAX_BROKEN_STATEMENTS = 200
#: The same for one statement at the top level, whose block is read anew after each of them.
_MAX_BROKEN_PER_STATEMENT = 20


def read_source(path: str | Path) -> Source:
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
    if not find_excess_depth(source.text):
        try:
            return build(plan_parser().parse(source.text), source), ()
        except UnexpectedInput:
            pass
    statements: list[Statement] = []
    diagnostics: list[Diagnostic] = []
    unparsed: list[Span] = []
    for piece in split_statements(source):
        if len(diagnostics) > MAX_BROKEN_STATEMENTS:
            unparsed.append(Span(source, piece.start, len(source.text)))
            break
        statements += _parse_statement(piece, diagnostics, unparsed)
    return File(tuple(statements), source, tuple(unparsed)), tuple(diagnostics)


def _parse_statement(piece: StatementText, diagnostics: list[Diagnostic], unparsed: list[Span]) -> Iterator[Statement]:
    """The statements of one piece that can be read; the others are reported and noted as lost."""
    whole, first, unread = piece, len(diagnostics), len(unparsed)
    mended: set[int] = set()
    place = find_excess_depth(piece.text)
    if place:
        span = piece.span(place, place + 1)
        diagnostics.append(
            Diagnostic("TD016", "blocks or lists are nested too deep here", span, help="`cycle N` repeats")
        )
        unparsed.append(piece.span(0, len(piece.text)))
        return
    for _ in range(_MAX_BROKEN_PER_STATEMENT):
        try:
            tree = plan_parser().parse(piece.text)
        except UnexpectedInput as error:
            diagnostic, broken = diagnose_syntax_error(error, piece)
            diagnostics.append(diagnostic)
            with_repaired_header = (
                piece.with_repaired_header(broken[0], diagnostic.span.start - piece.start)
                if broken[0] not in mended
                else None
            )
            if with_repaired_header is not None:
                mended.add(broken[0])
                unparsed.append(piece.span(broken[0], with_repaired_header[1]))
                piece = with_repaired_header[0]
            else:
                unparsed.append(piece.span(*broken))
                piece = piece.blanked(*broken)
        else:
            yield from build(tree, piece.source, piece.start).statements
            break
    else:
        unparsed.append(piece.span(0, len(piece.text)))
    if whole.unclosed is not None:
        opener = whole.start + whole.unclosed
        # A statement that is wrong before its brace is told once.
        if not any(span.start <= opener < span.end for span in unparsed[unread:]):
            diagnostics.insert(first, _unclosed_block(whole, whole.unclosed))


def _unclosed_block(piece: StatementText, opener: int) -> Diagnostic:
    source = piece.source
    span = piece.span(piece.statement_range(opener)[0], opener + 1)
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
