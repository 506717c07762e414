"""One plan from its files: includes spliced in at AST level, `--set` applied to the lets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.grammar import plan_parser
from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.suggestions import did_you_mean, join_or, suggest
from tickdsl.lang.reading.ast_builder import build
from tickdsl.lang.reading.parse import parse, read_source

#: Where the text of an included file comes from: the disk, or what an editor holds of it.
SourceReader = Callable[[Path], syntax.Source]


@attrs.frozen
class LoadedPlan:
    """A plan's statements with includes spliced in, and what was wrong with its text."""

    source: syntax.Source
    statements: tuple[syntax.Statement, ...]
    diagnostics: tuple[Diagnostic, ...]
    #: Text that could not be read.
    unparsed: tuple[syntax.Span, ...] = ()
    #: Every file, with the includes that led to it.
    files: Mapping[syntax.Source, tuple[syntax.Include, ...]] = attrs.field(factory=dict)

    def with_include_chain(self, diagnostic: Diagnostic) -> Diagnostic:
        """The finding with the includes that led to its file, where it stands in an included one."""
        chain = self.files.get(diagnostic.span.source, ())
        return (
            attrs.evolve(diagnostic, secondary=(*diagnostic.secondary, *_include_labels(chain)))
            if chain
            else diagnostic
        )


def load_plan(path: str | Path, overrides: Mapping[str, str] | None = None) -> LoadedPlan:
    """Read a plan file and all it includes. Raises TickdslError where the file itself cannot be read."""
    return load_source(read_source(path), overrides)


def load_source(
    source: syntax.Source, overrides: Mapping[str, str] | None = None, read_plan: SourceReader = read_source
) -> LoadedPlan:
    """The same for a text already at hand; includes are looked up beside `source.path` and read by `read_plan`."""
    loader = _Loader(read_plan)
    statements = loader.splice(source, ())
    for name, text in (overrides or {}).items():
        statements = _apply_override(statements, name, text, source, loader.diagnostics)
    return LoadedPlan(source, statements, tuple(loader.diagnostics), tuple(loader.unparsed), loader.files)


def _include_labels(chain: tuple[syntax.Include, ...]) -> tuple[Label, ...]:
    return tuple(Label(link.span, "included here") for link in reversed(chain))


class _Loader:
    """Reads a plan and what it includes; findings and lost text gather beside it."""

    def __init__(self, read_plan: SourceReader) -> None:
        self.read_plan = read_plan
        self.diagnostics: list[Diagnostic] = []
        self.unparsed: list[syntax.Span] = []
        self.files: dict[syntax.Source, tuple[syntax.Include, ...]] = {}

    def splice(self, source: syntax.Source, chain: tuple[syntax.Include, ...]) -> tuple[syntax.Statement, ...]:
        """The statements of a file, those of its includes in their place."""
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
                        "an included file holds settings, lets, sweeps and arms only",
                        statement.span,
                        help="move this statement into the plan itself",
                    )
                )
            else:
                statements.append(statement)
        return tuple(statements)

    def _splice_include(
        self, include: syntax.Include, chain: tuple[syntax.Include, ...]
    ) -> tuple[syntax.Statement, ...]:
        here = Path(include.span.source.path)
        if "\0" in include.path.text:
            self._report_missing(
                include, Diagnostic("TD113", "cannot include a path with a NUL in it", include.path.span)
            )
            return ()
        path = here.parent / include.path.text
        try:
            above = [Path(link.span.source.path).resolve() for link in (*chain, include)]
            cycle = path.resolve() in above
        except OSError as error:
            message = f"cannot include {include.path.text}: {error.strerror}"
            self._report_missing(include, Diagnostic("TD113", message, include.path.span))
            return ()
        if cycle:
            through = f" through {here}" if path.resolve() != here.resolve() else ""
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
                label=_suggest_file(path),
                help=f"paths are relative to the plan that includes them: {path.resolve()}",
            )
            self._report_missing(include, diagnostic)
            return ()
        return self.splice(source, (*chain, include))

    def _report_missing(self, include: syntax.Include, diagnostic: Diagnostic) -> None:
        """What an included file would have said is lost."""
        self.diagnostics.append(diagnostic)
        self.unparsed.append(include.span)


def _suggest_file(path: Path) -> str:
    """The plan beside a missing one that may have been meant."""
    try:
        stems = sorted(other.stem for other in path.parent.glob("*.plan"))
    except (OSError, ValueError):
        return ""
    near = suggest(path.stem, stems)
    return f"did you mean `{near}.plan`?" if near else ""


def _apply_override(
    statements: tuple[syntax.Statement, ...],
    name: str,
    text: str,
    plan: syntax.Source,
    diagnostics: list[Diagnostic],
) -> tuple[syntax.Statement, ...]:
    """`--set name=text`: the let's value replaced; a sweep narrowed to that value."""
    # The value stands at the same column in what was written and in what is parsed.
    written, read_as = syntax.Source("--set", f"--set {name}={text}"), f"let {name} = {text}"
    start = syntax.Span(written, 0, len(written.text))
    file, syntax_errors = parse(syntax.Source("--set", read_as))
    if not syntax_errors:
        file = build(plan_parser().parse(read_as), written)
    if syntax_errors or len(file.statements) != 1 or not isinstance(let := file.statements[0], syntax.Let):
        diagnostics.append(Diagnostic("TD105", f"`{text}` is not a value", start, help="write e.g. --set budget=40ep"))
        return statements
    defined = {s.name.text: s for s in statements if isinstance(s, syntax.Let | syntax.Sweep) and s.name.text == name}
    if name not in defined:
        known = [s.name.text for s in statements if isinstance(s, syntax.Let | syntax.Sweep)]
        help = did_you_mean(name, known) or f"the plan defines {join_or(known)}"
        message = f"--set {name}={text}: {plan.path} has no `let {name}`"
        diagnostics.append(Diagnostic("TD115", message, start, help=help))
        return statements
    return tuple(
        attrs.evolve(s, value=let.value)
        if isinstance(s, syntax.Let) and s.name.text == name
        else attrs.evolve(s, values=let.value)
        if isinstance(s, syntax.Sweep) and s.name.text == name
        else s
        for s in statements
    )
