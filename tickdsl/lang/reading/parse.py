"""Parse plan text into an AST. Each invalid statement is reported and skipped, so one run reports all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lark.exceptions import UnexpectedInput, VisitError

from tickdsl.grammar import plan_parser
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.internal_errors import internal_error
from tickdsl.lang.reading.ast_builder import build
from tickdsl.lang.reading.plan_files import decode_plan, read_plan_bytes
from tickdsl.lang.reading.statements import StatementText, find_excess_depth, split_statements
from tickdsl.lang.reading.syntax_errors import diagnose_syntax_error
from tickdsl.lang.syntax import File, Source, Span, Statement

#: Number of invalid statements after which the rest of the file is skipped.
MAX_BROKEN_STATEMENTS = 200
#: Number of parse attempts per top-level statement: its block is parsed again after each error.
_MAX_BROKEN_PER_STATEMENT = 20


def read_source(path: str | Path) -> Source:
    """Read a plan file that the user names. Raises TickdslError if it cannot be read."""
    return source_of(read_plan_bytes(path), path)


def source_of(content: bytes, path: str | Path) -> Source:
    """The source of a plan file with this content. Raises TickdslError if it is not UTF-8."""
    return Source(str(path), decode_plan(content, path).replace("\r\n", "\n").replace("\r", "\n"))


def parse(source: Source) -> tuple[File, tuple[Diagnostic, ...]]:
    """Parse a plan. Returns the AST of its valid statements, and one diagnostic per invalid statement."""
    failure: Exception | None = None
    if not find_excess_depth(source.text):
        try:
            return build(plan_parser().parse(source.text), source), ()
        except UnexpectedInput:
            pass
        except Exception as error:
            failure = error
    statements: list[Statement] = []
    diagnostics: list[Diagnostic] = []
    unparsed: list[Span] = []
    for piece in split_statements(source):
        if len(diagnostics) > MAX_BROKEN_STATEMENTS:
            rest = Span(source, piece.start, len(source.text))
            unparsed.append(rest)
            diagnostics.append(_not_read(rest, "file", MAX_BROKEN_STATEMENTS))
            break
        try:
            statements += _parse_statement(piece, diagnostics, unparsed)
        except Exception as error:
            unparsed.append(piece.span(0, len(piece.text)))
            diagnostics.append(_internal_error(error, piece.span(0, len(piece.written))))
    if failure is not None and not diagnostics:
        diagnostics.append(_internal_error(failure, Span(source, 0, 0)))
    return File(tuple(statements), source, tuple(unparsed)), tuple(diagnostics)


def _internal_error(error: Exception, span: Span) -> Diagnostic:
    return internal_error(error.orig_exc if isinstance(error, VisitError) else error, span)


def _parse_statement(piece: StatementText, diagnostics: list[Diagnostic], unparsed: list[Span]) -> Iterator[Statement]:
    """Yield the valid statements of a piece; append the others to `diagnostics` and `unparsed`."""
    original, first_diagnostic, first_unparsed = piece, len(diagnostics), len(unparsed)
    repaired: set[int] = set()
    offset = find_excess_depth(piece.text)
    if offset:
        span = piece.span(offset, offset + 1)
        diagnostics.append(
            Diagnostic(
                "TD016", "blocks or lists are nested too deeply", span, help="repeat rounds with `cycle N { … }`"
            )
        )
        unparsed.append(piece.span(0, len(piece.text)))
        return
    for _ in range(_MAX_BROKEN_PER_STATEMENT):
        try:
            tree = plan_parser().parse(piece.text)
        except UnexpectedInput as error:
            diagnostic, broken = diagnose_syntax_error(error, piece)
            diagnostics.append(diagnostic)
            repair = (
                piece.with_repaired_header(broken[0], diagnostic.span.start - piece.start)
                if broken[0] not in repaired
                else None
            )
            if repair is not None:
                repaired.add(broken[0])
                unparsed.append(piece.span(broken[0], repair[1]))
                piece = repair[0]
            else:
                unparsed.append(piece.span(*broken))
                piece = piece.blanked(*broken)
        else:
            yield from build(tree, piece.source, piece.start).statements
            break
    else:
        rest = piece.span(0, len(piece.text))
        unparsed.append(rest)
        diagnostics.append(_not_read(rest, "statement", _MAX_BROKEN_PER_STATEMENT))
    if original.unclosed is not None:
        opener = original.start + original.unclosed
        # One diagnostic is enough for a statement that has an error before its brace.
        if not any(span.start <= opener < span.end for span in unparsed[first_unparsed:]):
            diagnostics.insert(first_diagnostic, _unclosed_block(original, original.unclosed))


def _not_read(rest: Span, what: str, limit: int) -> Diagnostic:
    message = f"the rest of this {what} is not read: it has {limit} syntax errors or more"
    return Diagnostic("TD018", message, Span(rest.source, rest.start, rest.start), help="fix the ones shown first")


def _unclosed_block(piece: StatementText, opener: int) -> Diagnostic:
    source = piece.source
    span = piece.span(piece.statement_range(opener)[0], opener + 1)
    end = min(piece.start + len(piece.written), len(source.text))
    label = "the file ends here" if end == len(source.text) else "a top-level statement starts here"
    secondary = (Label(Span(source, end, end), label),) if end > span.end else ()
    return Diagnostic(
        "TD003",
        f"`{span.text.strip()}` is never closed",
        span,
        label="opened here",
        secondary=secondary,
        help="add a `}` at the end of the block",
    )
