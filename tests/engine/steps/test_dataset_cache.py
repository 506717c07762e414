"""The data sets of a process: one copy of each, and never others than those in the steps' keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import plain, two_classes, write_folder

from tickdsl.engine.steps import dataset_cache
from tickdsl.engine.steps.dataset_cache import DatasetCache
from tickdsl.errors import TickdslError
from tickdsl.training.data import datasets


def spec(name: str, root: Path, part: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    fingerprint = datasets.fingerprint(name, root=root, options=options)
    return {"name": name, "options": options, "fingerprint": fingerprint, **({"part": part} if part else {})}


def test_files_that_changed_after_the_plan_was_read_are_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "images", two_classes())
    read = spec("folder", tmp_path, path=str(path))
    assert DatasetCache(tmp_path).get(read, 1).fingerprint == read["fingerprint"]
    (path / "train/cat/0.png").write_bytes(plain(77))
    with pytest.raises(TickdslError, match="`folder` changed after the plan was read") as caught:
        DatasetCache(tmp_path).get(read, 1)
    assert "run the plan again" in (caught.value.hint or "")
    (path / "train/cat/0.png").write_bytes(two_classes()["train/cat/0.png"])
    assert DatasetCache(tmp_path).get(read, 1).fingerprint == read["fingerprint"]


def _bytes_held(cache: DatasetCache) -> int:
    """The memory of all tensors that a cache holds, each counted once."""
    held = [*cache._whole.values(), *cache._parts.values()]
    tensors = [tensor for each in held for tensor in (each.train_inputs, each.test_inputs)]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


@pytest.mark.parametrize("by", ["classes", "samples"])
def test_seeds_and_parts_add_no_copies(tmp_path: Path, by: str) -> None:
    cache = DatasetCache(tmp_path)
    whole = cache.get(spec("digits", tmp_path), None)
    limit = 2 * (whole.train_inputs.numel() + whole.test_inputs.numel())
    for seed in range(6):
        for index in range(2):
            part = spec("digits", tmp_path, {"by": by, "parts": 2, "index": index})
            data = cache.get(part, seed)
            expected = datasets.take_part(whole, by=by, parts=2, index=index, seed=seed)
            assert data.fingerprint == expected.fingerprint
            assert torch.equal(data.train_inputs, expected.train_inputs)
            assert _bytes_held(cache) <= limit
            if by == "classes":
                assert cache.get(part, seed + 1) is data


def test_data_sets_beyond_the_limit_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [spec("synthetic", tmp_path, train=100, test=10, size=size) for size in (4, 5, 6)]
    cache = DatasetCache(tmp_path)
    monkeypatch.setattr(dataset_cache, "_MAX_BYTES", 3 * 110 * (16 + 25) + 1)
    first, second = (cache.get(each, 1) for each in specs[:2])
    assert cache.get(specs[0], 1) is first
    cache.get(specs[2], 1)
    assert [data.shape[1] for data in cache._whole.values()] == [6]
    assert cache.get(specs[1], 1) is not second
