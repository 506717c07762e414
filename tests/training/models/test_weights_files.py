"""Files that take the place of weights: each is refused with what it is, and no code in them is run."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from tickdsl.errors import TickdslError, UnreadableWeightsError
from tickdsl.training import models, weights_files

SHAPE = (1, 8, 8)


def network(seed: int, **options: Any) -> torch.nn.Module:
    return models.create("small-cnn", classes=10, shape=SHAPE, seed=seed, options=options)


def pickled(value: object) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


class MaliciousCode:
    def __reduce__(self) -> Any:
        return (Path("harmed").touch, ())


STATE = {"weight": torch.arange(12.0).reshape(3, 4)}
PICKLE, SAFE = pickled(STATE), save(STATE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"these are not weights", "is not a file of weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (PICKLE[:-40], "cut short: its end is missing"),
        (PICKLE[: len(PICKLE) // 2], "cut short"),
        (SAFE[:-1], "cut short: it has 1[0-9][0-9] bytes and should have"),
        (SAFE + b"\0", "is damaged"),
        (SAFE[:20], "cut short"),
        (SAFE[:8] + b"{" + b"x" * (len(SAFE) - 9), "its header is not valid"),
        (zipped(a=b"1"), "a zip archive without weights"),
        (pickled({"x": MaliciousCode()}), "more than weights: it refers to the code"),
        (pickled(torch.nn.Linear(2, 2)), r"refers to the code `torch\.nn\.modules\.linear\.Linear`"),
        (pickle.dumps({"x": MaliciousCode()}), "does not contain a state dict"),
        (pickled([torch.zeros(2)]), "does not contain a state dict"),
        (pickled({"epoch": 3}), "does not contain a state dict"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_not_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.pth", "w.safetensors"):
        Path(name).write_bytes(content)
        with pytest.raises(UnreadableWeightsError, match=message) as caught:
            network(1, weights=name)
        text = str(caught.value)
        assert name in text and caught.value.hint
        assert "weights_only" not in text and "safe_globals" not in text and "\x1b" not in text
    assert not Path("harmed").exists()


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    state = dict(network(5).state_dict())
    save_file(state, tmp_path / "w.pth")
    torch.save(state, tmp_path / "w.safetensors")
    for path in tmp_path.iterdir():
        loaded = network(1, weights=str(path)).state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in state.items())


@given(whole=st.sampled_from([PICKLE, SAFE]), cut=st.floats(0, 0.9999))
def test_a_file_that_was_cut_is_found_without_loading_it(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, cut: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.pth"
    path.write_bytes(whole)
    weights_files.inspect(path)
    path.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(UnreadableWeightsError):
        weights_files.inspect(path)


def _without_last_filters(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[: tensor.shape[0] // 2, : tensor.shape[1] // 2] if tensor.dim() > 1 else tensor[: len(tensor) // 2]


@pytest.mark.parametrize(
    ("shrink", "message", "is_ticket"),
    [
        (_without_last_filters, "are those of a smaller small-cnn", True),
        (lambda tensor: tensor.repeat(2, *[1] * (tensor.dim() - 1)), "do not fit small-cnn", False),
    ],
)
def test_weights_of_a_ticket_are_told_from_those_of_other_networks(
    tmp_path: Path, shrink: Callable[[torch.Tensor], torch.Tensor], message: str, is_ticket: bool
) -> None:
    state = {name: shrink(tensor).contiguous() if tensor.dim() else tensor
             for name, tensor in network(5).state_dict().items()}  # fmt: skip
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(TickdslError, match=message) as caught:
        network(1, weights=str(tmp_path / "w.safetensors"))
    assert ("name a ticket that `tickdsl export` wrote" in (caught.value.hint or "")) == is_ticket
