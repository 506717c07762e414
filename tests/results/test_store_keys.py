"""results.json fits its schema and says where every network of the run is in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
from command_line import harness
from finished_runs import finished_run
from recorded_run import recorded_events
from written_runs import write_run

from tickdsl.records import Store, read_events
from tickdsl.results import RunState
from tickdsl.results.export import results_dict
from tickdsl.results.state_builder import build_state
from tickdsl.results.store_keys import store_keys

__all__ = ["harness"]
SCHEMA: dict[str, Any] = json.loads(files("tickdsl.results").joinpath("results.schema.json").read_text("utf-8"))

#: All contestants, a prune that chooses its weights too, one that adds to another, a split and requested metrics.
PLANS = {
    "rounds": "prune filters 30%; rewind lr\ncompare random-init, random-structure, early, dense\nreport pruned\n",
    "early-bird": "prune filters 30% by bn-scale until mask-distance < 0.9; rewind lr\nprune filters 20%; rewind lr\n",
    "masks": "prune weights 30% x 2; rewind weights to init\ncompare random-init\nseeds 2\n",
    "overlap": "split classes 2\nprune weights 30% except fc; overlap; rewind weights to init\ncompare random-init\n",
    "untrained": "prune filters 30%\ncompare random-init\n",
}


def strict(schema: Any) -> Any:
    """The schema without room for fields that it does not describe."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(value) for name, value in schema.items()}
    if "properties" in closed and "type" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def assert_fits(content: Any) -> None:
    jsonschema.Draft202012Validator(strict(SCHEMA)).validate(json.loads(json.dumps(content)))


def networks(content: Any) -> Iterator[tuple[str, Any]]:
    """Every contestant's name and each of its seeds."""
    for arm in content["arms"]:
        for level in arm["levels"]:
            for name, contestant in level["contestants"].items():
                for seed in contestant["seeds"]:
                    yield name, seed


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_made_up_and_recorded_runs_fit_the_schema(tmp_path: Path) -> None:
    written = build_state(read_events(write_run(tmp_path, arms=4, until=60, end="stopped").events))
    recorded = build_state(recorded_events())
    halves = [build_state(recorded_events()[:number]) for number in (1, 3, 100, 300)]
    for state in (finished_run(), RunState(), written, recorded, *halves):
        assert_fits(results_dict(state))


@pytest.mark.parametrize("broken", ["verdict", "keys", "surprise"])
def test_the_schema_refuses_what_is_wrong(broken: str) -> None:
    content = results_dict(finished_run())
    content["arms"][0]["levels"][1]["contestants"]["ticket"][broken] = "colt"
    content["arms"][0]["levels"][1]["contestants"]["ticket"]["seeds"][0][broken] = 7
    with pytest.raises(jsonschema.ValidationError):
        assert_fits(content)


def test_events_of_earlier_versions_name_the_same_structures() -> None:
    state = build_state(recorded_events())
    keys = store_keys(state)
    assert {key[1] for key, found in keys.items() if found.structure is None} == {"dense"}
    by_key = {step.info.key: step.info for step in state.steps.values()}
    for (_, contestant, level, _), found in keys.items():
        if contestant != "dense":
            structure = by_key[found.structure or ""]
            assert structure.operation in ("prune", "overlap") and level > 0


def test_keys_that_are_none_are_left_out() -> None:
    state = finished_run()
    assert store_keys(state) == {}  # its steps are unknown
    assert all(seed["keys"] is None for _, seed in networks(results_dict(state)))


@pytest.mark.parametrize("name", PLANS)
def test_the_keys_lead_to_what_was_measured(harness: Any, name: str) -> None:
    harness.write(PLANS[name])
    assert harness.run().exit == 0
    assert_fits(harness.results)
    store = Store(harness.store)
    state = build_state(harness.events)
    without_roles = attrs.evolve(
        state,
        steps={key: attrs.evolve(step, info=attrs.evolve(step.info, roles=())) for key, step in state.steps.items()},
    )
    assert store_keys(without_roles) == store_keys(state)
    found = list(networks(harness.results))
    assert found
    for contestant, seed in found:
        keys = seed["keys"]
        assert store.get(keys["evaluation"]).metrics["accuracy"] == seed["accuracy"]
        assert (store.get(keys["weights"]).folder / "weights.safetensors").is_file()
        assert (keys["structure"] is None) == (contestant in ("dense", "early"))
        if keys["structure"] is not None:
            structure = store.get(keys["structure"])
            assert (structure.folder / "structure.safetensors").is_file()
            assert structure.metrics["params"] == seed["params"]


def test_the_command_line_prints_and_saves_the_schema(harness: Any) -> None:
    assert json.loads(harness.call("schema", "results").out) == SCHEMA
    assert harness.call("schema", "results", "--to", harness.folder / "s.json").exit == 0
    assert json.loads((harness.folder / "s.json").read_text()) == SCHEMA
    assert harness.call("schema", "results", "--to", harness.folder / "none" / "s.json").exit == 2
