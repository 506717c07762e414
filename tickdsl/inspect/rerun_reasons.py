"""Why a step will run again: how its key differs from those of stored results."""

from __future__ import annotations

from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.plan.steps import Step, differences
from tickdsl.plan.study import Study
from tickdsl.records.store import Store


def explain_rerun(study: Study, name: str, store: Store | None) -> str:
    """Explain why the step whose key starts with `name` will run, or that it is stored.

    Raises TickdslError if no step, or more than one, has such a key.
    """
    matches = [key for key in study.graph if key.startswith(name)]
    if len(matches) != 1:
        count = "no step" if not matches else f"{len(matches)} steps"
        raise TickdslError(
            f"--why {name}: {count} of this plan {'starts' if not matches else 'start'} with `{name}`",
            "list the steps with `tickdsl plan FILE --steps`",
        )
    if store is None:
        return f"{name}: no results are stored yet"
    return "\n".join(_explain(study, matches[0], store, set()))


def _explain(study: Study, key: str, store: Store, visited: set[str]) -> list[str]:
    step = study.step(key)
    label = f"{key[:8]} ({study.graph.nodes[key]['label']})"
    if key in store:
        return [f"{label}: stored, will not run"]
    nearest = _nearest_stored(step, store)
    if nearest is None:
        return [f"{label}: no {step.operation} step is stored"]
    own_changes = [line for line in differences(step.parts, nearest) if not line.startswith("parents.")]
    lines = [f"{label}: not stored; differs from the most similar stored {step.operation} step in:"]
    lines += [f"  {line}" for line in own_changes]
    visited.add(key)
    for role, parent in step.parents.items():
        if parent != nearest["parents"].get(role):
            lines.append(f"  {role}: from another step")
            if parent not in store and parent not in visited:
                lines += [f"    {line}" for line in _explain(study, parent, store, visited)]
    return lines


def _nearest_stored(step: Step, store: Store) -> dict[str, Any] | None:
    """The parts of the stored result of the same operation with the fewest differences; None if there is none."""
    best: tuple[int, dict[str, Any]] | None = None
    for result in store.results(step.operation):
        parts = result.data.get("parts", {})
        distance = len(differences(step.parts, parts))
        if best is None or distance < best[0]:
            best = (distance, parts)
    return best[1] if best else None
