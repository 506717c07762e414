"""Formats the results of `zoo.py` as the tables in docs/explanation/model-graph.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: The comparisons with all groups pruned at once, and their column titles.
TOGETHER = {
    "evaluation": "together",
    "gradients": "gradients",
    "training": "training",
    "layers": "half of the layers too",
}
Result = dict[str, Any]


def row(result: Result) -> str:
    """A network's row of the table."""
    name = result["name"]
    if "failed" in result:
        return f"| {name} | | | | | | | | | | | | {result['failed']} |"
    groups, blocks = (f"{free} of {count}" for free, count in (result["groups"], result["blocks"]))
    params = " → ".join(f"{count / 1e6:.1f}" for count in result["params"])
    macs = " → ".join(f"{count / 1e9:.2f}" for count in result["macs"])
    seconds = f"{result['trace_seconds']:.2f} | {_seconds(result.get('compact_seconds'))}"
    errors = " | ".join(_error(result.get(key, {}).get("error")) for key in TOGETHER)
    alone = " | ".join(_alone(result[key]) for key in ("groups_alone", "blocks_alone"))
    layers = _layers(result.get("layer_classes", {}))
    cells = (name, groups, blocks, layers, params, macs, seconds, errors, alone, _verdict(result))
    return f"| {' | '.join(cells)} |"


def _layers(classes: dict[str, int]) -> str:
    """The units of `prune layers`: how many of each class."""
    return ", ".join(f"{count} {name}" for name, count in classes.items()) or "none"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}" if value else "0"


def _alone(part: Result) -> str:
    """The cell of groups or blocks removed one by one: how many agree, the largest error, and how many were not run."""
    if not part["done"]:
        return f"none of {part['of']} run" if part["of"] else "none"
    not_run = f" ({part['of']} in all)" if part["done"] < part["of"] else ""
    if part["fit"]:
        return f"{part['fit']} of {part['done']} by shape{not_run}"
    idle = f", {len(part['idle'])} without effect" if part.get("idle") else ""
    return f"{part['exact']} of {part['done']}{idle}, {_error(part['error'])}{not_run}"


def _verdict(result: Result) -> str:
    """Whether all results are exact, and if not, why."""
    parts = {words: result.get(key, {}) for key, words in TOGETHER.items()}
    alone = result["groups_alone"], result["blocks_alone"]
    problems = [f"{words}: {part['failed']}" for words, part in parts.items() if "failed" in part]
    problems += [f"{words} differs" for words, part in parts.items() if not part.get("exact", True)]
    problems += [f"no rule for {op}" for op in result["unknown"]]
    problems += [failure for part in alone for failure in part["failures"]]
    exact = "exact over LayerNorm" if result["over_norms"] else "exact"
    whole = all(part["done"] == part["of"] for part in alone)
    return "; ".join(problems) if problems else exact if whole else f"{exact} as far as run"


def table(results: dict[str, Result], kinds: Iterable[Iterable[str]], refused: Iterable[str]) -> str:
    """The tables in docs/explanation/model-graph.md, and a list of the networks that `trace` refuses."""
    head = (
        "| network | groups | blocks | layers | parameters, M | MACs, G | trace s | compact s "
        f"| {' | '.join(TOGETHER.values())} | each group alone | each block alone | |"
    )
    lines = []
    for kind in kinds:
        measured = [results[name] for name in kind if name in results]
        lines += [head, "|---" * (head.count("|") - 1) + "|", *map(row, measured), ""]
        missing = [name for name in kind if name not in results]
        lines += [f"Not run: {', '.join(missing)}.", ""] if missing else []
    lines += [f"- `{name}`: {results[name]['refused']}" for name in refused if name in results]
    return "\n".join(lines)
