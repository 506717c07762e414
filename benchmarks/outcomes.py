"""The numbers of the small plans: what their heads (`# Outcome:`) and the pages in docs/explanation/papers state.

    python benchmarks/outcomes.py PLAN … [--store DIR] [--out DIR] [--data DIR] [--jobs N]
                                          e.g. `structured criteria`: runs plans/PLAN.plan, then prints its numbers
    python benchmarks/outcomes.py --folder RUN …      prints the numbers of runs that exist

For each arm, it prints its levels with their differences from dense and from the controls, as in the report. Below,
it prints what the report has not: differences between two arms, paired by seed, by the same rule
(docs/reference/verdicts.md), where the levels of a pair of arms are one family.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tickdsl.plan.model import Arm
from tickdsl.records import RunPaths, read_events
from tickdsl.records.events import ArmInfo, Metric
from tickdsl.results import formatting, scores
from tickdsl.results.paired_tests import THRESHOLD, PairedLevel, holm, paired_tests
from tickdsl.results.resolution import resolutions
from tickdsl.results.standings import compute_standings
from tickdsl.results.state import RunState
from tickdsl.results.state_builder import build_state

#: The arms that the pages compare with each other; a variable of `sweep` in braces stands for each of its values.
#: `ARM/CONTROL` is a control of an arm.
PAIRS: dict[str, tuple[str, ...]] = {
    "structured": (
        "lr-rewind[scope={scope}] - weight-rewind[scope={scope}]",
        "lr-rewind[scope=local] - lr-rewind[scope=global]",
        "weight-rewind[scope=local] - weight-rewind[scope=global]",
    ),
    "criteria": ("filters[criterion={criterion}] - filters[criterion=random]",),
    "retraining": (
        *(f"{arm}[criterion=l2] - {arm}[criterion=random]"
          for arm in ("fine-tune", "lr-rewind", "scaled", "one-cycle", "cyclic", "linear", "scratch")),
        "lr-rewind[criterion=l2] - fine-tune[criterion=l2]",
        "scaled[criterion=l2] - lr-rewind[criterion=l2]",
        "one-cycle[criterion=l2] - lr-rewind[criterion=l2]",
        "one-cycle[criterion=random] - fine-tune[criterion=l2]",
        "one-cycle[criterion=l2] - scratch[criterion=l2]",
    ),
    "rethinking": (
        "scratch-e[gone={gone}]/random-init - scratch-e[gone={gone}]",
        "scratch-e[gone={gone}] - fine-tune[gone={gone}]",
    ),
    "distill": (
        "kd[start={start}, gone={gone}] - plain[start={start}, gone={gone}]",
        "kd[start=init, gone={gone}] - plain[start=1ep, gone={gone}]",
        "plain[start=1ep, gone={gone}] - plain[start=init, gone={gone}]",
    ),
    "super-tickets": tuple(f"winning[share={{share}}] - {other}[share={{share}}]" for other in ("random", "losing")),
    "late-rewinding": ("imp[moment=2ep] - imp[moment=init]",),
    "layers-trained": ("start - filters", "later - end"),
    "early-bird": ("early-bird - afterwards",),
    "transfer": ("colt - own", "imp - own"),
    "imp-mnist": ("late - init",),
    "at-init": (
        "flow[gone={gone}] - once[criterion={criterion}, gone={gone}]",
        "once[criterion={criterion}, gone={gone}] - once[criterion=random, gone={gone}]",
    ),
}  # fmt: skip
PAIRS["super-tickets-vision"] = PAIRS["super-tickets"]
PAIRS["cifar-structured"] = PAIRS["structured"]
PAIRS["cifar-retraining"] = tuple(pair for pair in PAIRS["retraining"] if not re.search("cyclic|linear|scratch", pair))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", nargs="*", metavar="PLAN")
    parser.add_argument("--folder", nargs="*", type=Path, default=[], help="run folders, instead of plans")
    parser.add_argument("--store", default=".tick/store")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--data", default=".tick/data")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(arguments)
    for folder in given.folder:
        print_numbers(folder)
    for plan in given.plans:
        print_numbers(run(plan, given))


def run(plan: str, given: argparse.Namespace) -> Path:
    """Run plans/PLAN.plan, with what is stored, and return its run folder."""
    before = set(given.out.glob(f"{plan}-*"))
    command = [sys.executable, "-m", "tickdsl", "run", f"plans/{plan}.plan", "--plain", "--no-tensorboard"]
    command += ["--jobs", str(given.jobs), "--store", given.store, "--out", str(given.out), "--data", given.data]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (folder,) = set(given.out.glob(f"{plan}-*")) - before
    return folder


def print_numbers(folder: Path) -> None:
    """Print the numbers of a run."""
    state = build_state(read_events(RunPaths(folder).events))
    plan = Path(state.run.plan).stem if state.run else ""
    trainings = sum(step.info.operation == "train" for step in state.steps.values())
    print(f"\n## {plan}: {len(state.seeds)} seeds, {trainings} trainings, within {100 * state.within:g}\n")
    for line in arm_lines(state):
        print(line)
    rows = [
        row
        for pattern in PAIRS.get(plan, ())
        for pair in expanded(pattern, state.arms)
        for row in pair_lines(state, pair)
    ]
    if rows:
        print("\n| pair | round | difference | verdict |\n|---|---|---|---|", *rows, sep="\n")


def arm_lines(state: RunState) -> Iterator[str]:
    """The rows of a table of all arms, contestants and levels."""
    best: dict[tuple[str, str, int], list[float]] = {}
    for (arm, contestant, level, _), measured in state.metrics.items():
        if (highest := scores.best_score_of(measured, state.primary_of(arm))) is not None:
            best.setdefault((arm, contestant, level), []).append(highest)
    yield "| arm | network | round | left | params | score | best epoch | minus dense | verdict | ticket ahead |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for (arm, contestant, level), standing in compute_standings(state).items():
        values, metric = best.get((arm, contestant, level), []), standing.metric
        cells = (
            arm, contestant, level or "", formatting.percent(standing.density), formatting.count(standing.params),
            scores.score(metric, standing.score), scores.number(metric, statistics.fmean(values)) if values else "",
            scores.difference(metric, standing.to_dense) if level else "",
            standing.verdict or standing.no_verdict or "",
            f"{scores.difference(metric, standing.lead)} {standing.lead_verdict or ''}" if standing.lead else "",
        )  # fmt: skip
        yield f"| {' | '.join(map(str, cells))} |"


def expanded(pattern: str, arms: Sequence[Arm] | Sequence[ArmInfo]) -> Iterator[tuple[str, str]]:
    """The pairs that a pattern of `PAIRS` stands for."""
    names = list(dict.fromkeys(re.findall(r"\{(\w+)\}", pattern)))
    values = [list(dict.fromkeys(str(arm.sweep[name]) for arm in arms if name in arm.sweep)) for name in names]
    for chosen in itertools.product(*values):
        first, second = pattern.format(**dict(zip(names, chosen, strict=True))).split(" - ")
        if first != second:
            yield first, second


def pair_lines(state: RunState, pair: tuple[str, str]) -> Iterator[str]:
    """The rows of the differences between two arms, by level."""
    first, second = (networks(state, name) for name in pair)
    pairs = {level: (first[level], second[level]) for level in first if level in second}
    if not pairs:
        return
    found = resolutions(pairs)
    levels = [
        PairedLevel(
            {seed: (a[seed].accuracy or 0.0) - (b[seed].accuracy or 0.0) for seed in sorted(a.keys() & b.keys())},
            found[level],
        )
        for level, (a, b) in pairs.items()
    ]
    tests = paired_tests(levels)
    above, below = (
        holm([test.p_above(0.0) or 0.0 for test in tests]),
        holm([test.p_below(0.0) or 0.0 for test in tests]),
    )
    for level, test, ahead, behind in zip(pairs, tests, above, below, strict=True):
        verdict = "ahead" if ahead <= THRESHOLD else "behind" if behind <= THRESHOLD else "undecided"
        yield f"| {' - '.join(pair)} | {level} | {formatting.points(test.estimate)} | {verdict} |"


def networks(state: RunState, name: str) -> dict[int, Mapping[int, Metric]]:
    """The measurements of an arm's tickets, or of a control of it, by level and seed."""
    arm, _, control = name.partition("/")
    found: dict[int, dict[int, Metric]] = {}
    for (of_arm, contestant, level, seed), metric in state.metrics.items():
        if (of_arm, contestant) == (arm, control or "ticket") and metric.accuracy is not None:
            found.setdefault(level, {})[seed] = metric
    return dict(sorted(found.items()))


if __name__ == "__main__":
    main()
