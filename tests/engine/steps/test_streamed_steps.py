"""Studies on streamed images: the same steps and results as on those that are held in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, write_folder
from step_runner import equal_states, step_runner

from tickdsl.metrics.training_metrics import training_figures
from tickdsl.plan.model import MeasurementOptions

PLAN = "seeds 1\nprune filters 30% by taylor; recalibrate; rewind lr\ncompare dense\nreport data, pruned\n"


def test_a_study_has_the_same_keys_and_results(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    files = {
        f"{split}/{label}/{n}.png": encoded(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        for split, count in (("train", 24), ("test", 6))
        for label in ("cat", "dog")
        for n in range(count)
    }
    path = write_folder(tmp_path / "pets", files)

    def runner(how: str):  # type: ignore[no-untyped-def]
        head = f'model small-cnn width=0.5\ndata folder path="{path}" load={how} validation=25%\ntrain 2ep batch=8\n'
        return step_runner(tmp_path / how, PLAN, head=head)

    streamed, resident = runner("stream"), runner("resident")
    assert {*streamed.study.graph} == {*resident.study.graph}
    (level,) = streamed.levels("ticket")
    assert equal_states(streamed.weights(level.ticket), resident.weights(level.ticket))
    ours, theirs = streamed.metrics(level.ticket), resident.metrics(level.ticket)
    for name in ("accuracy", "loss", "validation", "epochs", "correct"):
        assert ours[name] == theirs[name]
    held = 4 * 8 * 8 * 3 * 60 // 4
    assert theirs["data"] == {"bytes": held + 60 * 8, "wait_seconds": 0.0}
    for each in (streamed, resident):
        result = training_figures("data", each.context.store.get(level.ticket).data, MeasurementOptions())
        assert result is not None and result[0].keys() == {"data", "data.wait"}
        assert 0 <= result[0]["data.wait"] < 1


@pytest.mark.parametrize("how", ["lazy", "Stream"])
def test_other_words_for_load_are_errors(how: str) -> None:
    from tickdsl.lang.meaning.resolve import resolve
    from tickdsl.lang.reading.include import load_source
    from tickdsl.lang.syntax import Source

    text = f'model small-cnn\ndata folder path="x" load={how}\nprune filters 30%; rewind lr\n'
    found = resolve(load_source(Source("test.plan", text))).diagnostics
    assert [d.code for d in found if d.severity == "error"] == ["TD105"]
