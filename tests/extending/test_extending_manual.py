"""The package in docs/how-to/extending.md can be installed by pip, and its plans run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tickdsl.records import find_run
from tickdsl.records.store import Store

MANUAL = Path(__file__).parents[2] / "docs" / "how-to" / "extending.md"
BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {name: text for _, name, text in BLOCK.findall(MANUAL.read_text("utf-8"))}


def tickdsl(folder: Path, *words: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    found = os.pathsep.join(filter(None, [str(path or ""), os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": found, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "120"}
    command = [sys.executable, "-m", "tickdsl.cli", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True)


def run_plan(folder: Path, plan: str, *flags: object, path: Path | None = None) -> tuple[Any, list[Any], str]:
    """Run a plan. Returns its results, its steps and its output."""
    done = tickdsl(folder, "run", plan, "--plain", "--device", "cpu", *flags, path=path)
    assert done.returncode == 0, done.stderr
    run = find_run(folder / "runs")
    return json.loads(run.results_json.read_text()), json.loads(run.plan_json.read_text())["steps"], done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in {**FILES, "lotterybox/__init__.py": ""}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def installed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", target, project], check=True, capture_output=True)
    return target


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".py")])
def test_every_module_has_at_most_twenty_five_lines(name: str) -> None:
    assert FILES[name].count("\n") <= 25


@pytest.mark.slow
def test_a_loss_and_an_optimiser_of_an_installed_package_train(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes.plan").write_text(FILES["recipes.plan"])
    results, steps, _ = run_plan(tmp_path, "recipes.plan", path=installed)
    codes = [set(step["args"].get("code", {})) for step in steps if step["operation"] == "train"]
    speckle = "augmentation speckle"
    assert codes.count({"model", "loss", "optimiser", speckle}) == 2 and codes.count({"model", speckle}) == 1
    assert {arm["id"] for arm in results["arms"]} == {"lion", "adam"}


@pytest.mark.slow
def test_plugins_of_an_installed_package_are_named_like_built_ins(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "own.plan").write_text(FILES["own.plan"])
    results, steps, said = run_plan(tmp_path, "own.plan", "--jobs", 2, path=installed)
    levels = [level for arm in results["arms"] for level in arm["levels"]]
    assert {"worst.accuracy", "worst.class"} <= set(levels[-1]["contestants"]["ticket"]["figures"])
    assert "worst.accuracy" in said
    named = {kind for step in steps for kind in step["args"].get("code", {})}
    assert named == {"model", "criterion", "schedule", "metric"}
    assert {step["args"]["data"]["name"] for step in steps} == {"bars"}
    prunes = [step["args"] for step in steps if step["operation"] == "prune"]
    assert {args["by"] for args in prunes} == {"spread", "steepness"}
    assert all(args["code"]["criterion"].startswith("lotterybox.") for args in prunes)
    assert all("lotterybox 1.0" in args["code"]["criterion"] for args in prunes)


@pytest.mark.slow
def test_a_task_of_an_installed_package_trains_and_judges(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "numbers.plan").write_text(FILES["numbers.plan"])
    _, steps, _ = run_plan(tmp_path, "numbers.plan", path=installed)
    assert {step["args"]["data"]["task"] for step in steps} == {"huber"}
    assert all("lotterybox 1.0" in step["args"]["code"]["task"] for step in steps)
    store = Store(tmp_path / ".tick" / "store")
    found = [store.get(step["key"]).metrics for step in steps if step["operation"] == "train"]
    judged = [metrics for metrics in found if "score" in metrics]
    assert judged and all(metrics["metric"] == "mae" and 0 < metrics["score"] < 1 for metrics in judged)
    assert all(metrics["figures"].keys() == {"mae", "rmse", "r2", "loss"} for metrics in judged)


@pytest.mark.slow
def test_data_of_several_inputs_train_a_network_that_takes_them(project: Path) -> None:
    results, steps, _ = run_plan(project, "inputs.plan", "--allow-code")
    assert [len(arm["levels"]) for arm in results["arms"]] == [3]
    assert {step["args"]["model"]["name"] for step in steps} == {"lotterybox.joined:joined"}


@pytest.mark.slow
def test_quoted_names_run_with_allow_code(project: Path) -> None:
    """With a detached engine, so that the workers are separate processes."""
    refused = tickdsl(project, "run", "quoted.plan", "--plain", "--device", "cpu")
    assert refused.returncode == 1 and refused.stderr.count("TD117") == 5
    assert not (project / "runs").exists()
    begun = tickdsl(project, "run", "quoted.plan", "--detach", "--device", "cpu", "--allow-code", "--jobs", 2)
    assert begun.returncode == 0, begun.stderr
    assert tickdsl(project, "watch", "--plain").returncode == 0
    run = find_run(project / "runs")
    levels = json.loads(run.results_json.read_text())["arms"][0]["levels"]
    assert "lotterybox.worst:worst.accuracy" in levels[-1]["contestants"]["ticket"]["figures"]
    steps = json.loads(run.plan_json.read_text())["steps"]
    assert {step["args"]["model"]["name"] for step in steps} == {"lotterybox.nets:narrow"}

    assert missing(project) == {}
    assert missing(project, "spread", "std", "var") == {"prune": 2, "train": 2, "metric": 2}
    assert missing(project, "worst", "min(accuracies)", "min(accuracies, default=0)") == {"metric": 3}
    assert missing(project, "rates", "recipe.lr *", "0.9 * recipe.lr *") == {"train": 3, "prune": 2, "metric": 3}
    assert missing(project, "images", "+= 150", "+= 1 + 149") == {}
    assert missing(project, "images", "+= 150", "+= 151")["init"] == 1


def missing(project: Path, module: str = "", old: str = "", new: str = "") -> dict[str, int]:
    """The number of steps to run, by operation, if `old` is replaced by `new` in a module. Restores the module."""
    path = project / "lotterybox" / f"{module or '__init__'}.py"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    said = tickdsl(project, "plan", "quoted.plan", "--json", "--allow-code")
    path.write_text(text, "utf-8")
    assert said.returncode == 0, said.stderr
    return dict(Counter(step["operation"] for step in json.loads(said.stdout)["steps"] if not step["stored"]))
