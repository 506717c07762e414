"""Load a plan: read its file, splice in its includes and apply `--set` overrides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.grammar import plan_parser
from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.suggestions import did_you_mean, join_or, suggest
from tickdsl.lang.reading.ast_builder import build
from tickdsl.lang.reading.parse import parse, read_source, source_of
from tickdsl.lang.reading.plan_files import MAX_PLAN_BYTES, NoSuchPlanError, read_included_bytes, real_path

#: Reads the source of an included file: from disk, or from an editor's buffer.
SourceReader = Callable[[Path], syntax.Source]
#: The largest number of files that a plan includes, each counted as often as it is included.
MAX_INCLUDES = 100


@attrs.frozen
class LoadedPlan:
    """A plan's statements with its includes spliced in, and the syntax errors of all its files."""

    source: syntax.Source
    statements: tuple[syntax.Statement, ...]
    diagnostics: tuple[Diagnostic, ...]
    #: Text that could not be parsed.
    unparsed: tuple[syntax.Span, ...] = ()
    #: Each source file -> the `include` statements that led to it.
    files: Mapping[syntax.Source, tuple[syntax.Include, ...]] = attrs.field(factory=dict)

    def with_include_chain(self, diagnostic: Diagnostic) -> Diagnostic:
        """Add the `include` statements that led to the file of `diagnostic`, if it is in an included file."""
        chain = self.files.get(diagnostic.span.source, ())
        return (
            attrs.evolve(diagnostic, secondary=(*diagnostic.secondary, *_include_labels(chain)))
            if chain
            else diagnostic
        )


def load_plan(path: str | Path, overrides: Mapping[str, str] | None = None) -> LoadedPlan:
    """Read a plan file and everything it includes. Raises TickdslError if the file itself cannot be read."""
    return load_source(read_source(path), overrides)


def read_included(path: Path) -> syntax.Source:
    """Read an included file. Raises TickdslError if it cannot be read, or is no `.plan` file of a plan's size."""
    return source_of(read_included_bytes(path), path)


def load_source(
    source: syntax.Source, overrides: Mapping[str, str] | None = None, read_plan: SourceReader = read_included
) -> LoadedPlan:
    """Load a plan from text. Paths of includes are relative to `source.path` and are read by `read_plan`."""
    loader = _Loader(read_plan)
    statements = loader.splice(source, ())
    for name, text in (overrides or {}).items():
        statements = _apply_override(statements, name, text, source, loader.diagnostics)
    return LoadedPlan(source, statements, tuple(loader.diagnostics), tuple(loader.unparsed), loader.files)


def _include_labels(chain: tuple[syntax.Include, ...]) -> tuple[Label, ...]:
    return tuple(Label(link.span, "included here") for link in reversed(chain))


class _Loader:
    """Reads a plan and its includes, and collects the diagnostics and the unparsed text."""

    def __init__(self, read_plan: SourceReader) -> None:
        self.read_plan = read_plan
        self.diagnostics: list[Diagnostic] = []
        self.unparsed: list[syntax.Span] = []
        self.files: dict[syntax.Source, tuple[syntax.Include, ...]] = {}
        self.included, self.size = 0, 0
        #: Whether an include was refused because there are too many: further ones are skipped.
        self.is_full = False

    def splice(self, source: syntax.Source, chain: tuple[syntax.Include, ...]) -> tuple[syntax.Statement, ...]:
        """Parse a file and replace each `include` by the statements of its file. `chain` holds the includes so far."""
        self.files[source] = chain
        file, syntax_errors = parse(source)
        self.diagnostics += syntax_errors
        self.unparsed += file.unparsed
        statements: list[syntax.Statement] = []
        for statement in file.statements:
            if isinstance(statement, syntax.Include):
                statements += self._splice_include(statement, chain)
            elif chain and not isinstance(
                statement, (*syntax.SETTINGS, syntax.Let, syntax.Arm, syntax.Version, syntax.Sweep, syntax.Seeds)
            ):
                self.diagnostics.append(
                    Diagnostic(
                        "TD007",
                        "an included file can only contain settings, `let`, `sweep`, `seeds` and `arm`",
                        statement.span,
                        help="move this statement to the plan that includes the file",
                    )
                )
            else:
                statements.append(statement)
        return tuple(statements)

    def _splice_include(
        self, include: syntax.Include, chain: tuple[syntax.Include, ...]
    ) -> tuple[syntax.Statement, ...]:
        if self.is_full:
            self.unparsed.append(include.span)
            return ()
        including_path = Path(include.span.source.path)
        if "\0" in include.path.text:
            self._report_missing(
                include, Diagnostic("TD113", "cannot include a path that contains a NUL character", include.path.span)
            )
            return ()
        path = including_path.parent / include.path.text
        target = real_path(path)
        cycle = target in [real_path(link.span.source.path) for link in (*chain, include)]
        if cycle:
            through = f" through {including_path}" if target != real_path(including_path) else ""
            diagnostic = Diagnostic(
                "TD112", f"{path} includes itself{through}", include.span, help="remove one of the includes"
            )
            self._report_missing(include, diagnostic)
            return ()
        try:
            source = self.read_plan(path)
        except TickdslError as error:
            diagnostic = Diagnostic(
                "TD113",
                f"cannot include {include.path.text}: {error.message.removeprefix(f'{path}: ')}",
                include.path.span,
                label=_suggest_file(path) if isinstance(error, NoSuchPlanError) else "",
                help=_help_for_missing(include, target) if isinstance(error, NoSuchPlanError) else error.hint,
            )
            self._report_missing(include, diagnostic)
            return ()
        if excess := self._count(source):
            self.is_full = True
            self._report_missing(include, Diagnostic("TD113", excess, include.path.span, help="include each file once"))
            return ()
        return self.splice(source, (*chain, include))

    def _count(self, source: syntax.Source) -> str:
        """Count an included file. Returns what is wrong if it is one too many, else ""."""
        self.included += 1
        self.size += len(source.text)
        if self.included > MAX_INCLUDES:
            return f"a plan can include at most {MAX_INCLUDES} files; a file counts each time it is included"
        if self.size > MAX_PLAN_BYTES:
            return f"the included files hold more than {MAX_PLAN_BYTES // 2**20} MiB"
        return ""

    def _report_missing(self, include: syntax.Include, diagnostic: Diagnostic) -> None:
        """Report the diagnostic, and count the statements of the file as unparsed."""
        self.diagnostics.append(diagnostic)
        self.unparsed.append(include.span)


def _help_for_missing(include: syntax.Include, target: Path) -> str:
    written = include.path.span.text
    if "\\" in written:
        path = re.sub(r"\\+", "/", written)
        return f"write the path with `/`: `include {path}`"
    return f"the path is relative to the including file: {target}"


def _suggest_file(path: Path) -> str:
    """``did you mean `x.plan`?``: the plan in the same folder whose name is closest, or ""."""
    try:
        stems = sorted(other.stem for other in path.parent.glob("*.plan"))
    except (OSError, ValueError):
        return ""
    suggestion = suggest(path.stem, stems)
    return f"did you mean `{suggestion}.plan`?" if suggestion else ""


def _apply_override(
    statements: tuple[syntax.Statement, ...],
    name: str,
    text: str,
    plan: syntax.Source,
    diagnostics: list[Diagnostic],
) -> tuple[syntax.Statement, ...]:
    """Apply `--set name=text`: replace the value of a `let`, or all values of a `sweep`."""
    # The value is at the same offset in `--set NAME=VALUE` and `let NAME = VALUE`, so its span fits both.
    source, let_text = syntax.Source("--set", f"--set {name}={text}"), f"let {name} = {text}"
    whole = syntax.Span(source, 0, len(source.text))
    file, syntax_errors = parse(syntax.Source("--set", let_text))
    if not syntax_errors:
        file = build(plan_parser().parse(let_text), source)
    if syntax_errors or len(file.statements) != 1 or not isinstance(let := file.statements[0], syntax.Let):
        diagnostics.append(Diagnostic("TD105", f"`{text}` is not a value", whole, help="for example --set budget=40ep"))
        return statements
    defined = {s.name.text: s for s in statements if isinstance(s, syntax.Let | syntax.Sweep) and s.name.text == name}
    if name not in defined:
        known = [s.name.text for s in statements if isinstance(s, syntax.Let | syntax.Sweep)]
        help = did_you_mean(name, known) or f"the plan defines {join_or(known)}"
        message = f"--set {name}={text}: {plan.path} has no `let {name}`"
        diagnostics.append(Diagnostic("TD115", message, whole, help=help))
        return statements
    return tuple(
        attrs.evolve(s, value=let.value)
        if isinstance(s, syntax.Let) and s.name.text == name
        else attrs.evolve(s, values=let.value)
        if isinstance(s, syntax.Sweep) and s.name.text == name
        else s
        for s in statements
    )
