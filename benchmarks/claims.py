"""Which claims of the papers hold: the tables of docs/explanation/papers/index.md.

    python benchmarks/claims.py            rewrites the tables in index.md
    python benchmarks/claims.py --print    prints them

They are made of docs/explanation/papers/claims.toml, where each claim names a plan and quotes the outcome in its head,
and of the plans: their data, seeds and questions. The power of a test is the smallest difference that it would have
decided in 4 of 5 cases, from the spread of its seeds (`tickdsl.results.needed_seeds`).
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.reading.parse import read_source
from tickdsl.plan.model import Plan
from tickdsl.plurals import plural
from tickdsl.results.needed_seeds import detectable_difference, spread_of_interval

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "explanation" / "papers"
CLAIMS, INDEX = FOLDER / "claims.toml", FOLDER / "index.md"
START, END = "<!-- claims: python benchmarks/claims.py -->", "<!-- end of claims -->"
VERDICTS = ("holds", "in part", "fails", "undecided", "not tested")
#: The data of plans that read images from an archive, in words.
_ARCHIVES = {"cifar10-jpeg.tar.gz": "CIFAR-10 (JPEG)"}


@attrs.frozen
class Claim:
    """A claim of a paper; see the head of claims.toml for its fields."""

    claim: str
    verdict: str
    plan: str = ""
    outcome: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    half_width: str = ""
    rounds: int = 1
    unit: str = "points"
    needs: str = ""

    @property
    def path(self) -> Path:
        """The plan that tests the claim."""
        return ROOT / "plans" / f"{self.plan}.plan"

    @property
    def command(self) -> str:
        """What runs the test again."""
        return f"tickdsl run plans/{self.plan}.plan"

    @property
    def power(self) -> float | None:
        """The smallest difference that the test would have decided in 4 of 5 cases; None if no interval says it."""
        if not self.half_width:
            return None
        seeds = len(plan_of(self.path).seeds)
        spread = spread_of_interval(float(self.half_width), seeds, self.rounds)
        return detectable_difference(spread, seeds, self.rounds)


@attrs.frozen
class Paper:
    """A page on one or more papers, the plans of its full-size experiments, and its claims."""

    page: str
    title: str
    source: str
    full: tuple[str, ...] = attrs.field(converter=tuple)
    claims: tuple[Claim, ...] = attrs.field(converter=lambda claims: tuple(Claim(**claim) for claim in claims))


def papers() -> list[Paper]:
    """All papers, in the order of claims.toml."""
    return [Paper(**paper) for paper in tomllib.loads(CLAIMS.read_text("utf-8"))["papers"]]


@cache
def plan_of(path: Path) -> Plan:
    """A plan that ships, without its network being traced."""
    plan = resolve(load_source(read_source(path))).plan
    if plan is None:
        raise SystemExit(f"{path} has errors")
    return plan


def data_in_words(plan: Plan) -> str:
    """The data sets of a plan, and how many of their training samples it takes."""
    described = dict.fromkeys(_data_set(arm.data.name, arm.data.options) for arm in plan.arms)
    described |= dict.fromkeys(
        _data_set(arm.transfer.data.name, arm.transfer.data.options) for arm in plan.arms if arm.transfer
    )
    return ", ".join(described)


def _data_set(name: str, options: Mapping[str, Any]) -> str:
    path = str(options.get("path", ""))
    words = _ARCHIVES.get(path, path) if name == "folder" else name
    words += f" at {options['size']} pixels" if options.get("size") else ""
    taken = options.get("samples") or options.get("train")
    return f"{words}, {taken:,} samples" if taken else words


def tables() -> str:
    """How many claims have which verdict, and a table for each paper."""
    found = papers()
    verdicts = Counter(claim.verdict for paper in found for claim in paper.claims)
    total = sum(verdicts.values())
    counted = ", ".join(f"{verdicts[verdict]} {_MEANINGS[verdict]}" for verdict in VERDICTS)
    return "\n".join([f"Of {total} claims, {counted}.", *(line for paper in found for line in _section(paper))])


_MEANINGS = {
    "holds": "hold at this scale",
    "in part": "hold in part",
    "fails": "fail at this scale",
    "undecided": "are undecided",
    "not tested": "are not tested",
}


def _section(paper: Paper) -> Iterator[str]:
    full = ", ".join(f"[{name}](../../../plans/papers/{name}.plan)" for name in paper.full)
    yield f"\n### {paper.title}\n"
    yield f"[{paper.source}]({paper.page}.md); full size, not run yet: {full}.\n"
    yield "| claim | our test | outcome | verdict | power |"
    yield "|---|---|---|---|---|"
    yield from map(_row, paper.claims)


def _row(claim: Claim) -> str:
    if claim.verdict == "not tested":
        return f"| {claim.claim} | – | needs {claim.needs} | not tested | – |"
    plan = plan_of(claim.path)
    link = f"[`{claim.command}`](../../../plans/{claim.plan}.plan)"
    test = f"{link}: {data_in_words(plan)}; {plural(len(plan.seeds), 'seed')}"
    power = "–" if claim.power is None else f"{_two_digits(claim.power)} {claim.unit}"
    quoted = "; ".join(claim.outcome)
    return f"| {claim.claim} | {test} | {quoted} | **{claim.verdict}** | {power} |"


def _two_digits(number: float) -> str:
    """A number with two significant digits: 0.0021, 0.35, 1.8, 37."""
    return f"{float(f'{number:.2g}'):g}"


def with_tables(text: str) -> str:
    """The index with its tables made anew."""
    before, rest = text.split(START)
    return f"{before}{START}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


def words(text: str) -> str:
    """A text with all white space as single blanks, to find quotations in."""
    return re.sub(r"\s+", " ", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables instead of writing them")
    if parser.parse_args().print:
        print(tables())
    else:
        INDEX.write_text(with_tables(INDEX.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
