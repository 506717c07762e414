"""MLflow: a run per run, in the experiment that its own settings name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from tickdsl.trackers.backend_protocol import Axis

#: MLflow takes no longer values of parameters and tags.
_LONGEST_VALUE = 500


class MlflowBackend:
    """Settings are MLflow's own: `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME` (default: tickdsl), …"""

    def start(self, name: str, settings: Mapping[str, Any], folder: Path) -> None:
        self._client = MlflowClient()
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "tickdsl"
        experiment = self._client.get_experiment_by_name(title)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(title)
        self._run: str = self._client.create_run(number, run_name=name).info.run_id
        params = [Param(key, _cut(_text(value))) for key, value in settings.items()]
        self._client.log_batch(self._run, params=params)

    def log(self, values: Mapping[str, float], axis: Axis, place: float, t: float) -> None:
        metrics = [Metric(_key(key), value, round(1000 * t), round(place)) for key, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def finish(self, succeeded: bool, texts: Mapping[str, str], files: Sequence[Path], figure: Path | None) -> None:
        tags = [RunTag(_key(name), _cut(text)) for name, text in texts.items()]
        self._client.log_batch(self._run, tags=tags)
        for file in (*files, *([figure] if figure is not None else ())):
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, "FINISHED" if succeeded else "FAILED")


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _key(name: str) -> str:
    """A name with the characters that MLflow allows: an arm may be called `imp[scope=local]`."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "-" for letter in name)[:250]
