"""Forecast the evaluations of the searches that a run will make, and how many of them are stored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from tickdsl.engine.graph_cache import dense_graph
from tickdsl.engine.plan_tickets import base_structure
from tickdsl.engine.steps.result_files import STRUCTURE
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.plan.search_steps import candidate_step, is_search
from tickdsl.plan.study import Study
from tickdsl.plurals import plural
from tickdsl.pruning.search_budget import evaluations_of, probes, searched_parts
from tickdsl.records.store import Store


@attrs.frozen
class SearchForecast:
    """How many searches a run will make, with at most so many evaluations; `stored` of these have results."""

    searches: int
    evaluations: int
    stored: int

    def __str__(self) -> str:
        text = f"{plural(self.searches, 'search')}: at most {plural(self.evaluations, 'evaluation')} on validation data"
        return text + (f", {self.stored:,} of them stored" if self.stored else "")


def forecast_searches(study: Study, to_run: Iterable[str], store: Store | None, data: Path) -> SearchForecast | None:
    """The searches among the steps of a run; None if there are none, or their networks are not known.

    What they evaluate after earlier rounds depends on these, so it is counted for the network that the plan starts
    from until these are stored.
    """
    arms = {arm.id: arm for arm in (*study.plan.arms, *study.plan.helpers)}
    keys = [key for key in to_run if is_search(study.step(key))]
    evaluations = 0
    known: set[str] = set()
    for key in keys:
        step = study.step(key)
        arm = arms[next(iter(study.graph.nodes[key]["uses"]))[0]]
        try:
            graph = dense_graph(arm, data)
            structure = base_structure(arm.model, graph)
            above = step.parents.get("structure")
            if store is not None and above is not None and above in store:
                structure = Structure.load(store.get(above).folder / STRUCTURE)
            names, sizes = searched_parts(graph, structure, step.args)
        except TickdslError:
            return None
        total = evaluations_of(sizes, step.args.get("evaluations"))
        evaluations += total
        alone = [{}, *({names[part]: count} for part, count in probes(sizes, total))]
        known.update(candidate_step(step, removed).key for removed in alone)
    if not keys:
        return None
    return SearchForecast(len(keys), evaluations, 0 if store is None else sum(key in store for key in known))
