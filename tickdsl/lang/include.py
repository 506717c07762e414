"""One plan from its files: includes spliced in at AST level, `--set` applied to the lets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.lang import syntax
from tickdsl.lang.diagnostics import Diagnostic, Label, did_you_mean, listing
from tickdsl.lang.parse import parse, read

#: Where the text of an included file comes from: the disk, or what an editor holds of it.
ReadPlan = Callable[[Path], syntax.Source]


@attrs.frozen
class Loaded:
    """A plan's statements with includes spliced in, and what was wrong with its text."""

    source: syntax.Source
    statements: tuple[syntax.Statement, ...]
    findings: tuple[Diagnostic, ...]


def load(path: str | Path, overrides: Mapping[str, str] | None = None) -> Loaded:
    """Read a plan file and all it includes. Raises TickdslError where the file itself cannot be read."""
    return load_source(read(path), overrides)


def load_source(
    source: syntax.Source, overrides: Mapping[str, str] | None = None, read_plan: ReadPlan = read
) -> Loaded:
    """The same for a text already at hand; includes are looked up beside `source.path` and read by `read_plan`."""
    file, findings = parse(source)
    collected = list(findings)
    statements = _splice(file, (), collected, read_plan)
    for name, text in (overrides or {}).items():
        statements = _override(statements, name, text, source, collected)
    return Loaded(source, statements, tuple(collected))


def _splice(
    file: syntax.File, chain: tuple[syntax.Include, ...], findings: list[Diagnostic], read_plan: ReadPlan
) -> tuple[syntax.Statement, ...]:
    statements: list[syntax.Statement] = []
    for statement in file.statements:
        if isinstance(statement, syntax.Include):
            statements += _included(statement, chain, findings, read_plan)
        elif chain and not isinstance(
            statement, (*syntax.SETTINGS, syntax.Let, syntax.Arm, syntax.Version, syntax.Sweep, syntax.Seeds)
        ):
            findings.append(
                Diagnostic(
                    "TD007",
                    "an included file holds settings, lets, sweeps and arms only",
                    statement.span,
                    secondary=tuple(Label(link.span, "included here") for link in chain),
                    help="move this statement into the plan itself",
                )
            )
        else:
            statements.append(statement)
    return tuple(statements)


def _included(
    include: syntax.Include, chain: tuple[syntax.Include, ...], findings: list[Diagnostic], read_plan: ReadPlan
) -> tuple[syntax.Statement, ...]:
    here = Path(include.span.source.path)
    if "\0" in include.path.text:
        findings.append(Diagnostic("TD113", "cannot include a path with a NUL in it", include.path.span))
        return ()
    path = here.parent / include.path.text
    above = [Path(link.span.source.path).resolve() for link in (*chain, include)]
    links = tuple(Label(link.span, "included here") for link in chain)
    if path.resolve() in above:
        findings.append(
            Diagnostic(
                "TD112",
                f"{path} includes itself" + (f" through {here}" if path.resolve() != here.resolve() else ""),
                include.span,
                secondary=links,
                help="remove one of the includes",
            )
        )
        return ()
    try:
        source = read_plan(path)
    except TickdslError as error:
        findings.append(
            Diagnostic(
                "TD113",
                f"cannot include {include.path.text}: {error.message}",
                include.path.span,
                secondary=links,
                help=f"paths are relative to the plan that includes them: {path.resolve()}",
            )
        )
        return ()
    file, broken = parse(source)
    findings += broken
    return _splice(file, (*chain, include), findings, read_plan)


def _override(
    statements: tuple[syntax.Statement, ...],
    name: str,
    text: str,
    plan: syntax.Source,
    findings: list[Diagnostic],
) -> tuple[syntax.Statement, ...]:
    """`--set name=text`: the let's value replaced; a sweep narrowed to that value."""
    source = syntax.Source(f"--set {name}={text}", f"let {name} = {text}")
    start = syntax.Span(source, 0, len(source.text))
    file, broken = parse(source)
    if broken or len(file.statements) != 1 or not isinstance(let := file.statements[0], syntax.Let):
        findings.append(Diagnostic("TD105", f"`{text}` is not a value", start, help="write e.g. --set budget=40ep"))
        return statements
    defined = {s.name.text: s for s in statements if isinstance(s, syntax.Let | syntax.Sweep) and s.name.text == name}
    if name not in defined:
        known = [s.name.text for s in statements if isinstance(s, syntax.Let | syntax.Sweep)]
        help = did_you_mean(name, known) or f"the plan defines {listing(known)}"
        message = f"--set {name}={text}: {plan.path} has no `let {name}`"
        findings.append(Diagnostic("TD115", message, start, help=help))
        return statements
    return tuple(
        attrs.evolve(s, value=let.value)
        if isinstance(s, syntax.Let) and s.name.text == name
        else attrs.evolve(s, values=let.value)
        if isinstance(s, syntax.Sweep) and s.name.text == name
        else s
        for s in statements
    )
