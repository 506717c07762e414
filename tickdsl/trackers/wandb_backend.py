"""Weights & Biases: a run per run, whose values are drawn over rounds and epochs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from tickdsl.trackers.backend_protocol import Axis

_OFFLINE_MODES = ("offline", "disabled", "dryrun")


class WandbBackend:
    """Settings are wandb's own: `WANDB_PROJECT` (default: tickdsl), `WANDB_MODE`, `WANDB_ENTITY`, …"""

    def start(self, name: str, settings: Mapping[str, Any], folder: Path) -> None:
        if wandb.setup().settings.mode not in _OFFLINE_MODES and not wandb.login(prompt=False):
            # `init` would ask for the key on the terminal.
            raise RuntimeError("you are not logged in: run `wandb login`, or set WANDB_MODE=offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "tickdsl",
            name=name,
            group=str(settings.get("plan", "")) or None,
            config=dict(settings),
            dir=str(folder),
            settings=wandb.Settings(console="off", silent=True),
        )
        for axis, prefix in (("round", "rounds"), ("epoch", "training")):
            self._run.define_metric(axis)
            self._run.define_metric(f"{prefix}/*", step_metric=axis)

    def log(self, values: Mapping[str, float], axis: Axis, place: float, t: float) -> None:
        self._run.log({**values, axis: place})

    def finish(self, succeeded: bool, texts: Mapping[str, str], files: Sequence[Path], figure: Path | None) -> None:
        self._run.summary.update(dict(texts))
        if figure is not None:
            self._run.log({figure.stem: wandb.Image(str(figure))})
        results = wandb.Artifact(f"results-{self._run.id}", type="results")
        for file in files:
            results.add_file(str(file), name=file.name)
        self._run.log_artifact(results)
        self._run.finish(exit_code=0 if succeeded else 1)
