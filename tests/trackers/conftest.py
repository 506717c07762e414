"""The harness that runs plans, and stand-ins for the packages of the trackers, which record what they are told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import harness

__all__ = ["harness", "stand_ins"]

_WANDB = """
from types import SimpleNamespace

told = []


def setup():
    return SimpleNamespace(settings=SimpleNamespace(mode="offline"))


def Settings(**settings):
    return settings


def Image(path):
    return open(path, "rb").read()


class Artifact:
    def __init__(self, name, type):
        self.files = []

    def add_file(self, path, name):
        self.files.append(name)


class Run:
    id = "1"
    summary = {}

    def define_metric(self, name, step_metric=None):
        told.append(("axis", name, step_metric))

    def log(self, values):
        told.append(("log", values))

    def log_artifact(self, artifact):
        told.append(("files", artifact.files))

    def finish(self, exit_code):
        told.append(("finish", exit_code, dict(self.summary)))


def init(**arguments):
    told.append(("init", arguments))
    return Run()
"""
_MLFLOW = """
from types import SimpleNamespace

told = []


class MlflowClient:
    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        told.append(("experiment", name))
        return "7"

    def create_run(self, experiment, run_name):
        told.append(("run", experiment, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run, metrics=(), params=(), tags=()):
        told.extend([*map(tuple, metrics), *map(tuple, params), *map(tuple, tags)])

    def log_artifact(self, run, path):
        told.append(("file", path.rpartition("/")[2]))

    def set_terminated(self, run, status):
        told.append(("end", status))
"""
_ENTITIES = """
from collections import namedtuple

Metric = namedtuple("Metric", "key value timestamp step")
Param = namedtuple("Param", "key value")
RunTag = namedtuple("RunTag", "key value")
"""


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with the packages `wandb` and `mlflow`."""
    folder = tmp_path / "stand-ins"
    files = {"wandb": _WANDB, "mlflow": "", "mlflow/tracking": _MLFLOW, "mlflow/entities": _ENTITIES}
    for name, text in files.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(text)
    for module in [*sys.modules]:
        if module.split(".")[0] in ("wandb", "mlflow") or module.startswith("tickdsl.trackers."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(folder)
    return folder
