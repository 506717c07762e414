"""One structure for every finding; text, JSON and annotations are views of it (see `render`)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

import attrs

from tickdsl.errors import TickdslError
from tickdsl.lang.synonyms import SYNONYMS
from tickdsl.lang.syntax import Span

Severity = Literal["error", "warning", "note"]

#: code -> (slug, severity). The stable names of all findings; tests/invalid holds a plan for each.
CODES: dict[str, tuple[str, Severity]] = {
    # syntax
    "TD001": ("unexpected-token", "error"),
    "TD002": ("empty-plan", "error"),
    "TD003": ("unclosed-block", "error"),
    "TD004": ("bad-character", "error"),
    "TD005": ("unsupported-version", "error"),
    "TD006": ("not-carried-out-yet", "error"),
    "TD007": ("misplaced-statement", "error"),
    "TD008": ("repeated-clause", "error"),
    "TD010": ("unknown-statement", "error"),
    "TD011": ("wrong-case", "error"),
    "TD012": ("missing-separator", "error"),
    "TD013": ("comma-for-semicolon", "error"),
    "TD014": ("unused-silence", "warning"),
    "TD015": ("unknown-silence", "warning"),
    "TD016": ("nested-too-deep", "error"),
    # names
    "TD101": ("unknown-model", "error"),
    "TD102": ("unknown-dataset", "error"),
    "TD103": ("unknown-criterion", "error"),
    "TD104": ("unknown-option", "error"),
    "TD105": ("bad-option-type", "error"),
    "TD106": ("undefined-variable", "error"),
    "TD107": ("unused-variable", "warning"),
    "TD108": ("duplicate-setting", "error"),
    "TD109": ("duplicate-arm", "error"),
    "TD110": ("unknown-arm", "error"),
    "TD111": ("arm-shadows-builtin", "error"),
    "TD112": ("include-cycle", "error"),
    "TD113": ("include-not-found", "error"),
    "TD114": ("unknown-metric", "error"),
    "TD115": ("override-unknown", "error"),
    "TD116": ("unknown-word", "error"),
    "TD117": ("code-not-allowed", "error"),
    "TD118": ("unusable-plugin", "error"),
    # amounts
    "TD201": ("percent-range", "error"),
    "TD202": ("zero-effect", "error"),
    "TD203": ("count-needs-unit", "error"),
    "TD204": ("sum-over-100", "error"),
    "TD205": ("until-unreachable", "error"),
    "TD206": ("target-below-current", "error"),
    "TD207": ("rounds-range", "error"),
    "TD208": ("too-many-rounds", "warning"),
    "TD209": ("amount-and-target", "error"),
    "TD210": ("rounds-and-until", "warning"),
    "TD211": ("stage-count", "error"),
    # schedules
    "TD301": ("rewind-before-train", "error"),
    "TD302": ("rewind-beyond-recipe", "error"),
    "TD303": ("rewind-useless", "warning"),
    "TD304": ("two-rewinds", "error"),
    "TD305": ("bad-recipe", "error"),
    "TD306": ("late-milestone", "error"),
    "TD307": ("lr-not-set", "error"),
    "TD308": ("fine-tune-lr-high", "warning"),
    "TD309": ("init-rewind-deep", "warning"),
    "TD310": ("no-tail", "warning"),
    "TD311": ("criterion-needs-training", "error"),
    "TD312": ("criterion-unit", "error"),
    # the network
    "TD401": ("unit-absent", "error"),
    "TD402": ("pattern-no-match", "error"),
    "TD403": ("pattern-matches-all", "error"),
    "TD404": ("protected-ceiling", "error"),
    "TD405": ("layer-collapse", "error"),
    "TD406": ("coupled-conflict", "error"),
    "TD407": ("not-removable", "error"),
    "TD408": ("too-many-layers", "error"),
    "TD409": ("output-layer", "error"),
    "TD410": ("coupled-alone", "error"),
    "TD411": ("global-raw-norm", "warning"),
    "TD412": ("head-mismatch", "error"),
    "TD413": ("input-mismatch", "error"),
    # the experiment
    "TD501": ("overlap-without-split", "error"),
    "TD502": ("overlap-k-range", "error"),
    "TD503": ("split-too-fine", "error"),
    "TD504": ("seeds-duplicate", "error"),
    "TD505": ("single-seed", "warning"),
    "TD506": ("compare-nothing", "error"),
    "TD507": ("arm-unused", "warning"),
    "TD508": ("no-baseline", "warning"),
    "TD509": ("unfair-budget", "warning"),
    "TD510": ("distill-self", "error"),
    "TD511": ("teacher-missing", "error"),
    "TD512": ("sweep-unused", "error"),
    "TD513": ("sweep-explosion", "warning"),
    "TD514": ("stop-never", "error"),
    "TD515": ("random-against-itself", "warning"),
    "TD516": ("mixed-datasets", "warning"),
    "TD517": ("split-keeps-no-weights", "error"),
    "TD518": ("too-many-arms", "error"),
    # notes
    "TD901": ("default-model", "note"),
    "TD902": ("default-recipe", "note"),
    "TD903": ("rounds-resolved", "note"),
    "TD904": ("shared-steps", "note"),
    "TD905": ("default-data", "note"),
    "TD906": ("default-ranking", "note"),
    "TD907": ("default-options", "note"),
}

#: What the codes' first digits stand for.
GROUPS: dict[str, str] = {
    "TD0": "Syntax and silences",
    "TD1": "Names and values",
    "TD2": "Amounts and rounds",
    "TD3": "Recipes, rewinding and criteria",
    "TD4": "The network",
    "TD5": "The design of the experiment",
    "TD9": "Notes",
}


@attrs.frozen
class Label:
    """A second place that belongs to a finding."""

    span: Span
    text: str


@attrs.frozen
class Diagnostic:
    """One finding: what, where, why and the cure."""

    code: str = attrs.field(validator=attrs.validators.in_(CODES))
    message: str
    span: Span
    label: str = ""
    secondary: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None

    @property
    def slug(self) -> str:
        return CODES[self.code][0]

    @property
    def severity(self) -> Severity:
        return CODES[self.code][1]


class PlanError(TickdslError):
    """A plan has errors; `diagnostics` holds all findings."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        errors = sum(d.severity == "error" for d in self.diagnostics)
        super().__init__(f"the plan has {errors} error{'s' * (errors != 1)}")


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to a misspelt one, or to what others call it, if any is near."""
    word, known = word.lower(), list(known)
    if SYNONYMS.get(word) in known:
        return SYNONYMS[word]
    found = difflib.get_close_matches(word, known, n=5, cutoff=0.6)
    # Swapped letters are the commonest slip; difflib rates them no better than wrong ones.
    swapped = [near for near in found if sorted(near) == sorted(word)]
    # Words cut short (`acc`), and words with more to them (`l1-norm`, `optimizer`).
    begun = [near for near in known if len(near) > 1 < len(word) and (near.startswith(word) or word.startswith(near))]
    return next(iter(swapped or found or begun), None)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """``did you mean `x`?``, or None."""
    near = suggest(word, known)
    return f"did you mean `{near}`?" if near else None


def join_or(words: Iterable[str], limit: int = 12) -> str:
    """`a, b or c`, cut where it grows long."""
    items = list(words)
    if len(items) > limit:
        return ", ".join(items[:limit]) + f" … ({len(items)} in all)"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}" if items else "nothing"
