"""Studies on several inputs: run, rewound, pruned, compared, exported in every format, verified and evaluated."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from named_data import DATA, NETWORK, arrays, write_pairs
from safetensors.numpy import save_file

import tickdsl
from tickdsl.cli import main
from tickdsl.errors import TickdslError
from tickdsl.plugins import permission
from tickdsl.tickets.named_preprocessing import NamedPreprocessing
from tickdsl.tickets.preprocessing import preprocessing_from_json
from tickdsl.tickets.ticket_file import open_ticket
from tickdsl.training.catalogue.input_shapes import NamedInput, NamedShapes
from tickdsl.training.data.preprocess import make_preprocess

PLAN = """\
model "pair:network"
data arrays path="pairs.npz" inputs=[image, meta] test=25% validation=10% load={load}
train 2ep lr=0.05 batch=16 augment=[flip]
seeds 1
arm filters {{ prune filters 30% by l2; rewind weights to 1ep }}
arm weights {{ prune weights 40% by snip; rewind lr }}
compare random-init
report accuracy, memory
"""
#: The same data, once more as briefly as can be.
SHORT = "\n".join([*PLAN.splitlines()[:4], "prune filters 30% by l2; rewind weights to 1ep\n"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(permission, "_allowed", True)
    (tmp_path / "pair.py").write_text(NETWORK + DATA)
    write_pairs(tmp_path / "pairs.npz")
    return tmp_path


def results() -> dict[str, dict[str, float]]:
    """The score of the ticket of the last round by arm."""
    found = json.loads(Path("runs/latest/results.json").read_text())
    levels = {arm["id"]: arm["levels"][1]["contestants"] for arm in found["arms"]}
    return {
        arm: {name: contestant["seeds"][0]["score"] for name, contestant in contestants.items()}
        for arm, contestants in levels.items()
    }


@pytest.mark.slow
def test_a_study_on_an_image_and_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.plan").write_text(PLAN.format(load="resident"))
    assert main(["run", "a.plan", "--plain", "--allow-code"]) == 0, capsys.readouterr().err
    scores = results()
    assert scores.keys() == {"filters", "weights"}
    assert all({"ticket", "random-init"} <= each.keys() for each in scores.values())
    on = "arrays path=pairs.npz inputs=[image, meta] test=25% validation=10%"
    held = arrays()
    for form, path in (("ticket", "t.safetensors"), ("pt2", "t.pt2"), ("onnx", "t.onnx")):
        export = ["export", "--allow-code", "--arm", "filters", "--level", "1", "--format", form, "--to", path]
        assert main(export) == 0, capsys.readouterr().err
        assert "verified in a fresh process" in capsys.readouterr().out
        assert main(["evaluate", path, "--on", on, "--json", "--allow-code"]) == 0
        assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(scores["filters"]["ticket"], abs=1e-4)
    ticket = open_ticket("t.safetensors")
    network = ticket.network()
    image = torch.from_numpy(held["image"].transpose(0, 3, 1, 2)[:9].copy())
    meta = torch.from_numpy(held["meta"][:9]).float()
    with torch.no_grad():
        expected = network(**ticket.preprocess({"image": image, "meta": meta}))
        program = torch.export.load("t.pt2").module()
        torch.testing.assert_close(program(image=image / 255, meta=meta), expected, atol=1e-4, rtol=1e-4)
    onnxruntime = pytest.importorskip("onnxruntime")
    given = {"image": (image / 255).numpy(), "meta": meta.numpy()}
    (found,) = onnxruntime.InferenceSession("t.onnx").run(None, given)
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
    assert tickdsl.load("t.safetensors")(image=image.float(), meta=meta).shape == (9, 3)
    assert main([*export[:6], "--format", "state-dict", "--to", "s"]) == 2
    assert main(["evaluate", "t.pt2", "--on", "digits"]) == 2
    assert "t.pt2 takes image 3×6×6 and meta 4, and digits has 1×8×8" in capsys.readouterr().err
    assert main(["graph", "pair:network", "--on", on, "--allow-code"]) == 0
    assert "image 3×6×6 and meta 4" in capsys.readouterr().out


@pytest.mark.slow
def test_streamed_inputs_give_the_results_of_resident_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And `load=` is no part of a step's key: a second run with the other one computes nothing."""
    for load in ("stream", "resident"):
        (folder / "a.plan").write_text(SHORT.format(load=load))
        assert main(["run", "a.plan", "--plain", "--allow-code", "--store", load]) == 0, capsys.readouterr().err
        found = results()
        if load == "stream":
            streamed = found
    assert found == streamed
    assert main(["run", "a.plan", "--plain", "--allow-code", "--store", "stream"]) == 0
    assert re.search(r"(\d+) steps \(\1 already stored\)", capsys.readouterr().err)


@pytest.mark.slow
def test_a_network_of_transformers_takes_tokens_and_a_mask(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    held = arrays()
    named = {"input_ids": held["tokens"], "attention_mask": held["mask"].astype(np.int64), "y": held["y"]}
    save_file({name: np.ascontiguousarray(each) for name, each in named.items()}, "texts.safetensors")
    data = "arrays path=texts.safetensors inputs=[input_ids, attention_mask] test=25%"
    (folder / "a.plan").write_text(
        f"model hf.bert\ndata {data.replace('texts.safetensors', chr(34) + 'texts.safetensors' + chr(34))}\n"
        "train 1ep lr=0.001 opt=adam batch=32\nseeds 1\nprune heads 25% by l2; rewind lr\n"
    )
    assert main(["run", "a.plan", "--plain"]) == 0, capsys.readouterr().err
    for form, path in (("ticket", "t.safetensors"), ("pt2", "t.pt2")):
        assert main(["export", "--level", "1", "--format", form, "--to", path]) == 0, capsys.readouterr().err
        assert "verified in a fresh process" in capsys.readouterr().out
    assert main(["evaluate", "t.pt2", "--on", data, "--json"]) == 0
    (folder / "b.plan").write_text((folder / "a.plan").read_text().replace("attention_mask]", "words]"))
    everything = {"words": named["attention_mask"], **named}
    save_file({name: np.ascontiguousarray(each) for name, each in everything.items()}, "texts.safetensors")
    assert main(["check", "b.plan"]) == 1
    assert "TD443" in capsys.readouterr().out


SHAPES = NamedShapes((
    NamedInput("image", "image", (1, 2, 2)), NamedInput("meta", "numbers", (3,)),
    NamedInput("ids", "integers", (4,), 9), NamedInput("mask", "flags", (4,)),
))  # fmt: skip


@given(st.floats(-10, 10), st.floats(0.1, 5))
def test_inputs_are_prepared_as_in_training(mean: float, std: float) -> None:
    known = NamedPreprocessing(SHAPES, [0.5, mean, mean, mean], [0.25, std, std, std])
    assert preprocessing_from_json(json.loads(json.dumps(known.as_json()))) == known
    stored = known.random(5)
    expected = make_preprocess(SHAPES, torch.tensor(known.mean), torch.tensor(known.std))(stored)  # type: ignore[arg-type]
    for prepared in (known(stored), known(dict(stored.tensors)), known({n: stored[n].numpy() for n in SHAPES})):
        assert all(torch.equal(prepared[name], expected[name]) for name in SHAPES)  # type: ignore[call-overload]
    in_file = known.normalize(known.file_input(stored))
    assert all(torch.allclose(in_file[name].float(), prepared[name].float(), atol=1e-5) for name in SHAPES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": None}, "takes the inputs image, meta, ids, mask; these are meta, ids, mask"),
        ({"other": torch.zeros(2)}, "these are image, meta, ids, mask, other"),
        ({"meta": torch.zeros(2, 5)}, r"takes numbers as `meta`; these are float32 \[2, 5\]"),
        ({"ids": torch.full((2, 4), 9)}, "takes integers as `ids`; these are from 9 to 9"),
        ({"meta": torch.zeros(3, 3)}, "different numbers of samples: image 2, meta 3"),
    ],
)
def test_wrong_inputs_are_one_error(change: dict[str, torch.Tensor | None], said: str) -> None:
    known = NamedPreprocessing(SHAPES, [0.5, 0, 0, 0], [0.25, 1, 1, 1])
    right = {**known.random(2).tensors, **change}
    with pytest.raises(TickdslError, match=said):
        known({name: tensor for name, tensor in right.items() if tensor is not None})
    with pytest.raises(TickdslError, match="by name, not one Tensor"):
        known(torch.zeros(2))  # type: ignore[arg-type]
    fewer = NamedShapes((*SHAPES.inputs[:2], NamedInput("ids", "integers", (4,), 5), SHAPES.inputs[3]))
    assert known.takes(fewer) and known.takes(SHAPES) and not known.takes((3, 4, 4))
