"""IDX files: what is declared bounds what is read, and every cut or flipped byte is found."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.errors import TickdslError
from tickdsl.training.data.readers import idx

IMAGES = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def content(shape: tuple[int, ...] = IMAGES.shape, payload: bytes = IMAGES.tobytes()) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + payload


@given(cut=st.integers(0, len(content())), name=st.sampled_from(["x", "x.gz"]))
def test_a_cut_file_is_found(tmp_path_factory: pytest.TempPathFactory, cut: int, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / name
    whole = gzip.compress(content()) if name.endswith(".gz") else content()
    path.write_bytes(whole[:cut])
    if cut >= len(whole):
        np.testing.assert_array_equal(idx.parse(path), IMAGES)
    else:
        with pytest.raises(TickdslError, match="is damaged"):
            idx.parse(path)


@pytest.mark.parametrize(
    "damaged",
    [
        content() + b"more",
        content(shape=(2**31, 2**31, 2**31)),
        content(shape=(255,) * 255),
        gzip.compress(content())[:-8] + bytes(8),  # a wrong checksum
    ],
)
def test_damage_is_found(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / ("x.gz" if damaged[:2] == b"\x1f\x8b" else "x")
    path.write_bytes(damaged)
    with pytest.raises(TickdslError, match="is damaged"):
        idx.parse(path)


def test_no_more_is_unpacked_than_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content(payload=IMAGES.tobytes() + bytes(1 << 24)), 1))
    tracemalloc.start()
    try:
        with pytest.raises(TickdslError, match="is damaged"):
            idx.parse(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22
