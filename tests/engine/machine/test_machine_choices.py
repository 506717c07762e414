"""Choices that depend on the machine: memory layout and precision."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import torch
from step_runner import step_runner

from tickdsl.engine.machine.machine_choices import describe_choice
from tickdsl.engine.prepare_study import prepare_study
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.study import Study
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe


@attrs.define
class Always:
    """Gives the same answer to every question, and records the questions."""

    answer: bool
    asked: list[str] = attrs.field(factory=list)

    def settle(self, question: str, measure: Callable[[], bool]) -> bool:
        self.asked.append(question)
        return self.answer


@pytest.mark.parametrize(("faster", "layout"), [(True, "contiguous"), (False, "channels_last")])
def test_a_training_has_the_layout_that_was_measured_to_be_faster(tmp_path: Path, faster: bool, layout: str) -> None:
    runner = step_runner(tmp_path, "prune filters 30%; rewind lr")
    choices = Always(faster)
    runner.context.choices = choices  # type: ignore[assignment]
    assert runner.metrics(runner.measured_step("ticket", 1))["layout"] == layout
    assert runner.metrics(runner.measured_step("dense", 0))["layout"] == layout
    assert len(set(choices.asked)) == 1, "one choice for the dense and the pruned network"
    assert "small-cnn" in choices.asked[0] and "32 pictures" in choices.asked[0]


def test_what_was_measured_is_asked_once_a_store_and_said(tmp_path: Path) -> None:
    messages: list[str] = []
    for _ in range(2):
        runner = step_runner(tmp_path, "prune filters 30%; rewind lr\nseeds 2")
        runner.context.hooks.log = messages.append
        runner.run_step(runner.measured_step("dense", 0, seed=1 + len(messages)))
    assert len(list((tmp_path / "store" / "choices").iterdir())) == 1
    assert len(messages) == 2 and messages[0] == messages[1]
    assert re.match(r"memory layout (contiguous|channels_last): small-cnn .*, 32 images, ", messages[0])
    assert messages[0].endswith("(measured on this machine)")


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        ("contiguous instead of channels_last for vgg16", True, "memory layout contiguous: vgg16"),
        ("contiguous instead of channels_last for vgg16", False, "memory layout channels_last: vgg16"),
        ("seconds of a step of vgg16, 8 pictures, 1 threads", 0.5, "0.5 s per step: vgg16, 8 images, 1 thread"),
        ("steps that pay back a compilation of vgg16", 0.5, "compilation pays off after 1 step: vgg16"),
        ("steps that pay back a compilation of vgg16", math.inf, "compilation never pays off: vgg16"),
        (
            "times that a step of 3 trainings in one is faster than of one by one, on the processor, vgg16",
            2.0,
            "3 trainings stacked are 2.00 times as fast: the processor, vgg16",
        ),
        ("sparse linear 4 to 2, 8 rows", False, "sparse kernel not faster: sparse linear 4 to 2, 8 rows"),
        ("anything else", True, "anything else: yes"),
        ("anything else", 0.25, "anything else: 0.25"),
    ],
)
def test_the_log_describes_each_choice(question: str, answer: bool | float, message: str) -> None:
    assert describe_choice(question, answer) == f"{message} (measured on this machine)"


def test_perceptrons_have_no_layout_to_choose(tmp_path: Path) -> None:
    head = "model lenet-300-100\ndata synthetic size=8 train=64 test=32\ntrain 1ep batch=32\n"
    runner = step_runner(tmp_path, "prune weights 20%; rewind lr", head)
    runner.context.choices = choices = Always(True)  # type: ignore[assignment]
    assert runner.metrics(runner.measured_step("dense", 0))["layout"] == "contiguous"
    assert not choices.asked


@pytest.mark.parametrize("first", ["contiguous", "channels_last"])
def test_a_continued_training_keeps_its_layout(tmp_path: Path, first: str) -> None:
    tiny = datasets.load("synthetic", options={"size": 8, "channels": 3, "train": 96, "test": 32})
    recipe = Recipe(length="2ep", batch=32)

    def model() -> torch.nn.Module:
        return models.create("small-cnn", classes=tiny.classes, shape=tiny.shape, seed=1)

    whole, cut = model(), model()
    train(whole, tiny, recipe, seed=2, layout=first)
    calls = iter(range(100))

    def break_off() -> None:
        if next(calls) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(cut, tiny, recipe, seed=2, layout=first, checkpoint=Checkpointer(tmp_path, 0), before_step=break_off)
    other = "contiguous" if first == "channels_last" else "channels_last"
    cut = model()
    history = train(cut, tiny, recipe, seed=2, layout=other, checkpoint=Checkpointer(tmp_path, 0))
    assert history.layout == first
    theirs = whole.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in cut.state_dict().items())


def studied(text: str, device: str, monkeypatch: pytest.MonkeyPatch, fast: bool = True) -> Study:
    monkeypatch.setattr("tickdsl.engine.machine.precision.has_fast_bf16", lambda device: fast)
    found = resolve(
        load_source(Source("test.plan", "model small-cnn\ndata synthetic size=8 train=64 test=32\n" + text))
    )
    assert found.plan is not None, found.diagnostics
    return prepare_study(found.plan, device=torch.device(device))


PLAN = "train 2ep precision={}\nprune weights 20%; retrain fine-tune 1ep lr=0.01\ncompare random-init"


def test_what_auto_precision_means_is_part_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(precision: str, device: str, fast: bool = True) -> list[str]:
        return list(studied(PLAN.format(precision), device, monkeypatch, fast).graph)

    assert keys("auto", "cpu") == keys("fp32", "cpu") == keys("fp32", "cuda")
    assert keys("auto", "cuda") == keys("bf16", "cuda") == keys("bf16", "cpu")
    assert keys("auto", "cuda", fast=False) == keys("fp32", "cuda")
    trained = [
        {key for key in found.graph if found.step(key).operation == "train"}
        for found in (studied(PLAN.format("auto"), device, monkeypatch) for device in ("cpu", "cuda"))
    ]
    assert not trained[0] & trained[1], "their results differ"


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp32"), ("cuda", "bf16")])
def test_no_step_says_auto(monkeypatch: pytest.MonkeyPatch, device: str, precision: str) -> None:
    found = studied(PLAN.format("auto"), device, monkeypatch)
    recipes = [found.step(key).args["recipe"] for key in found.graph if found.step(key).operation == "train"]
    assert {recipe.get("precision", "fp32") for recipe in recipes} == {precision}
