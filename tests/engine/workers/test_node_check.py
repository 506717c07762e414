"""A node that would not run the steps as the machine of the run does says why, by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import torch

from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.steps.surroundings import chip_name
from tickdsl.engine.workers import node_check, ray_start
from tickdsl.engine.workers.node_check import NodeNeeds, StoreProof, needs_of, problems_here, versions_here
from tickdsl.engine.workers.ray_options import RayOptions, parse_workers, ray_options
from tickdsl.engine.workers.ray_start import cluster_device
from tickdsl.errors import TickdslError
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.training.devices import RemoteDevice

PROOF = StoreProof("store", ".shared")


@pytest.fixture
def needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeNeeds]:
    monkeypatch.setattr(node_check, "VISIBILITY_SECONDS", 0.3)
    folder = Path.cwd()
    (tmp_path / "images.npz").write_bytes(b"1234")
    (tmp_path / "data").mkdir()
    proof = StoreProof(str(tmp_path / "store"), ".shared")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".shared").touch()
    yield NodeNeeds(
        versions_here(),
        tmp_path,
        {tmp_path / "images.npz": 4, tmp_path / "data": None},
        {},
        proof,
        "cpu",
        False,
    )
    os.chdir(folder)


def test_a_node_like_the_machine_of_the_run_has_no_problem(needs: NodeNeeds) -> None:
    assert problems_here(needs) == []
    assert Path.cwd() == needs.folder


def test_other_versions_are_named(needs: NodeNeeds) -> None:
    theirs = {**needs.versions, "torch": "2.99", "Python": "3.99"}
    assert problems_here(attrs.evolve(needs, versions=theirs)) == [
        f"it has torch {needs.versions['torch']}, the run has 2.99",
        f"it has Python {needs.versions['Python']}, the run has 3.99",
    ]


def test_a_working_folder_that_nothing_is_read_from_may_be_missing(needs: NodeNeeds, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert problems_here(attrs.evolve(needs, folder=nowhere)) == []
    missing = attrs.evolve(needs, folder=nowhere, files={nowhere / "images.npz": 4})
    assert f"it has no folder {nowhere}, where the run was started" in problems_here(missing)


def test_what_is_missing_or_different_is_named(needs: NodeNeeds, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "missing.npz"
    files = {missing: 3, tmp_path / "images.npz": 5}
    changed = attrs.evolve(
        needs, files=files, folder=tmp_path / "nowhere", proof=StoreProof(str(tmp_path / "other"), ".shared")
    )
    assert problems_here(changed) == [
        f"it has no folder {tmp_path / 'nowhere'}, where the run was started",
        f"it has no {missing}",
        f"its {tmp_path / 'images.npz'} has 4 bytes, that of the run has 5",
        f"it does not share the store {tmp_path / 'other'}",
    ]


def test_own_code_that_differs_is_named(needs: NodeNeeds, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "networks_of_this_test.py").write_text("def build(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    name = "networks_of_this_test:build"
    changed = attrs.evolve(needs, code={("model", name): "another digest"}, allow_code=True)
    assert problems_here(changed) == [f"its code of `{name}` differs from that of the run"]
    absent = attrs.evolve(needs, code={("model", "absent_networks:build"): "a digest"}, allow_code=True)
    (problem,) = problems_here(absent)
    assert "absent_networks" in problem


def test_what_the_steps_read_is_found_in_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "start.safetensors"
    weights.write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    text = 'plan 1\nmodel small-cnn weights="start.safetensors"\ntrain 1ep\nprune weights 20%; rewind lr\n'
    plan = resolve(load_source(Source("test.plan", text))).plan
    assert plan is not None
    study = lower(plan, fingerprint=lambda spec: "digest", rounds=lambda arm, prune: 1)
    needs = needs_of(study, tmp_path, PROOF, torch.device("cpu"), code_allowed=False)
    assert needs.files == {tmp_path: None, weights: 5}
    weights.write_bytes(b"1234567")  # before a second run of the same program
    assert needs_of(study, tmp_path, PROOF, torch.device("cpu"), code_allowed=False).files[weights] == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local", None),
        ("slurm", "slurm"),
        ("ray", RayOptions()),
        ("ray:auto", RayOptions("auto")),
        ("ray:head:6379", RayOptions("head:6379")),
    ],
)
def test_workers_by_name(text: str, expected: RayOptions | None) -> None:
    assert parse_workers(text) == expected


@pytest.mark.parametrize("text", ["", "ray:", "dask", "local:2"])
def test_no_workers(text: str) -> None:
    with pytest.raises(ValueError, match="names no workers: use local, ray, ray:ADDRESS or slurm"):
        parse_workers(text)


def test_a_cluster_cannot_be_used_from_outside() -> None:
    with pytest.raises(ValueError, match="start it on one of its nodes"):
        parse_workers("ray:ray://head:10001")


def test_shares_of_a_node() -> None:
    assert ray_options(RayOptions("head:1"), 0.5, None) == RayOptions("head:1", 0.5, 1.0)
    with pytest.raises(TickdslError, match=r"--cpus-per-step has no effect"):
        ray_options(None, None, 2.0)
    with pytest.raises(TickdslError, match="a step trains on one GPU"):
        ray_options(RayOptions(), 2.0, None)


def test_a_precision_that_a_node_lacks_is_named(needs: NodeNeeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tickdsl.training.devices.has_fast_bf16", lambda device: False)
    assert problems_here(attrs.evolve(needs, precisions=("bf16", "fp32"))) == [
        "precision=bf16: this cpu does not support bf16"
    ]


def test_times_are_measured_on_nodes_with_one_chip(needs: NodeNeeds) -> None:
    chip = chip_name(torch.device("cpu"))
    assert problems_here(attrs.evolve(needs, chip=chip)) == []
    assert problems_here(attrs.evolve(needs, chip="a faster one")) == [
        f"its chip is {chip}, and the plan measures times or memory on a faster one"
    ]


PLAN = """model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 1ep precision=auto
prune filters 20%
"""
GPU = RemoteDevice("cuda", fast_bf16=True, tf32=True, chip="H200")


def test_keys_and_precision_follow_the_gpus_of_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = PLAN + "report latency\n"
    resolved = resolve(load_source(Source("x", text))).plan
    assert resolved is not None
    study = prepare_study(resolved, device=GPU)
    steps = [study.step(key) for key in study.graph]
    assert {step.args["recipe"]["precision"] for step in steps if step.operation == "train"} == {"bf16"}
    machines = [step.args["machine"] for step in steps if step.operation == "latency"]
    assert machines and all(each["chip"] == "H200" and each["host"] == "cluster" for each in machines)
    needs = needs_of(study, Path("data"), PROOF, GPU, code_allowed=False)
    assert (needs.device, needs.precisions, needs.chip) == ("cuda", ("bf16", "fp32"), "H200")


@pytest.mark.parametrize(
    ("device", "gpus", "node", "found"),
    [
        ("cpu", None, GPU, "cpu"),
        ("auto", 0.0, GPU, "cpu"),
        ("auto", None, GPU, "cuda"),
        ("cuda", 0.5, GPU, "cuda"),
        ("auto", None, None, "cpu"),
    ],
)
def test_a_machine_without_a_gpu_asks_the_nodes(
    device: str, gpus: float | None, node: RemoteDevice | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ray_start, "connect", lambda options: None)
    monkeypatch.setattr(ray_start, "ask_for_gpu", lambda announce: node)
    assert cluster_device(RayOptions(gpus=gpus), device, lambda doing: None).type == found


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("cuda", None, "--device cuda needs a GPU, and no node"),
        ("auto", 0.5, "--gpus-per-step needs a GPU, and no node"),
        ("cpu", 0.5, "--gpus-per-step needs a run on GPUs, and --device is cpu"),
        ("cuda:1", None, "Ray chooses the GPUs of each node"),
    ],
)
def test_a_gpu_that_no_node_has_is_asked_for_in_vain(
    device: str, gpus: float | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ray_start, "connect", lambda options: None)
    monkeypatch.setattr(ray_start, "ask_for_gpu", lambda announce: None)
    with pytest.raises(TickdslError, match=message):
        cluster_device(RayOptions(gpus=gpus), device, lambda doing: None)
