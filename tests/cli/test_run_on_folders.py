"""Runs on a folder of classes without a test set: one split for all seeds, and only changed images run anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from image_files import encoded, write_folder

from tickdsl.cli import main


def _images() -> dict[str, bytes]:
    """Grey images of 16 bits, brighter in each class."""
    rng = np.random.default_rng(0)
    return {
        f"photos/{label}/{n}.png": encoded((rng.integers(0, 9000, (8, 8)) + 20_000 * k).astype(np.uint16))
        for k, label in enumerate(("ant", "bee", "cow"))
        for n in range(10)
    }


@pytest.mark.slow
def test_a_folder_without_a_split_is_run_and_only_changed_images_run_anew(harness: Any) -> None:
    path = write_folder(harness.folder / "images", _images())
    harness.write(
        f'model small-cnn width=0.5\ndata folder path="{path}" test=20%\ntrain 3ep lr=0.05 batch=8\nseeds 2\n'
        "prune filters 30%; rewind lr\n",
        head="",
    )
    assert harness.run().exit == 0
    trained = len(harness.steps_ended("done"))
    assert trained and harness.results["arms"][0]["levels"]
    (path / "photos" / ".DS_Store").write_bytes(b"made by a file manager")
    assert harness.run().exit == 0
    assert harness.steps_ended("done") == []
    (path / "photos/ant/0.png").write_bytes(encoded(np.full((8, 8), 700, np.uint16)))
    assert harness.run().exit == 0
    assert len(harness.steps_ended("done")) == trained


def test_check_offers_a_share_for_a_folder_without_a_split(harness: Any) -> None:
    path = write_folder(harness.folder / "images", _images())
    plan = harness.write(f'model small-cnn\ndata folder path="{path}"\nprune filters 30%; rewind lr\n', head="")
    assert main(["check", str(plan)]) == 1
    assert "add test=20% to `data`" in " ".join(harness.capture.readouterr().out.split())


def test_graph_takes_a_share(harness: Any) -> None:
    path = write_folder(harness.folder / "images", _images())
    for share, code in (("20%", 0), ("120%", 2)):
        arguments = ["graph", "small-cnn", "--data", str(harness.folder / "data")]
        assert main([*arguments, "--on", f"folder path={path} test={share}"]) == code
        captured = harness.capture.readouterr()
        assert ("test=" in captured.err) == (code != 0)
