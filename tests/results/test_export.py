"""results.json and results.csv contain every measurement, and only documented fields."""

import csv
import io
import json
import re
from pathlib import Path

import attrs
import pytest
from finished_runs import finished_run

from tickdsl.errors import TickdslError
from tickdsl.records.paths import RunPaths
from tickdsl.results import RunState
from tickdsl.results.export import results_csv, results_dict, write_results

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "results.md"


def test_every_measurement_is_a_row() -> None:
    state = finished_run()
    rows = list(csv.DictReader(io.StringIO(results_csv(state))))
    assert len(rows) == len(state.metrics)
    for row in rows:
        metric = state.metrics[row["arm"], row["contestant"], int(row["level"]), int(row["seed"])]
        assert float(row["accuracy"]) == metric.accuracy
        assert int(row["params"]) == metric.params
        assert row["sweep.scope"] == ("local" if row["name"] == "imp" else "")


def test_json_holds_arms_levels_contestants_and_seeds(tmp_path: Path) -> None:
    state = finished_run()
    write_results(state, RunPaths(tmp_path))
    data = json.loads((tmp_path / "results.json").read_text())
    assert (data["v"], data["plan"], data["status"], data["seeds"]) == (1, "colt", "ok", [1, 2, 3])
    imp = data["arms"][1]
    assert (imp["id"], imp["sweep"]) == ("imp[scope=local]", {"scope": "local"})
    assert [level["level"] for level in imp["levels"]] == [0, 1, 2, 3, 4]
    assert list(imp["levels"][0]["contestants"]) == ["dense"]
    ticket = imp["levels"][3]["contestants"]["ticket"]
    accuracies = [seed["accuracy"] for seed in ticket["seeds"]]
    assert accuracies == [state.metrics["imp[scope=local]", "ticket", 3, seed].accuracy for seed in (1, 2, 3)]
    assert ticket["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 3)
    assert ticket["verdict"] in ("winning", "losing", "undecided")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.json"]


def test_every_field_is_documented() -> None:
    words = set(re.findall(r"[a-z_]+", DOCUMENT.read_text(encoding="utf-8")))

    def fields(value: object) -> set[str]:
        if isinstance(value, dict):
            names = {name for name in value if re.fullmatch(r"[a-z_]+", name)}
            return names.union(*map(fields, value.values()))
        return set().union(*map(fields, value)) if isinstance(value, list) else set()

    data = results_dict(attrs.evolve(finished_run(), run=None))
    assert fields(data) <= words


def test_a_run_without_anything_can_be_written(tmp_path: Path) -> None:
    write_results(RunState(), RunPaths(tmp_path))
    assert json.loads((tmp_path / "results.json").read_text())["arms"] == []


def test_a_folder_that_is_gone_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(TickdslError, match="gone"):
        write_results(finished_run(), RunPaths(tmp_path / "gone"))
