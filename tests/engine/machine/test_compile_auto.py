"""`compile=auto`: decided by times that are measured once, stored and logged."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from step_runner import StepRunner, step_runner
from torch import Tensor, nn

from tickdsl.engine.machine import auto_compile
from tickdsl.errors import TickdslError
from tickdsl.training.step import optimiser_step

#: 3 epochs of 6 steps.
HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=192 test=64\ntrain 3ep lr=0.1 batch=32 compile={}\n"
ROUND = "prune filters 50%; rewind lr"


@attrs.define
class FixedAnswers:
    """Answers questions by their prefix, and records them."""

    figures: dict[str, float]
    asked: list[str] = attrs.field(factory=list)

    def settle(self, question: str, measure: Callable[[], float]) -> float:
        self.asked.append(question)
        return next((figure for words, figure in self.figures.items() if question.startswith(words)), False)


@pytest.fixture(autouse=True)
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that would be compiled; compilation is replaced by a stub."""
    found: list[nn.Module] = []

    def compile_model(model: nn.Module) -> Callable[[Tensor], Tensor]:
        found.append(model)
        return model

    monkeypatch.setattr(optimiser_step, "compile_model", compile_model)
    return found


def make_runner(
    folder: Path, step: float, needed: float, word: str = "auto"
) -> tuple[StepRunner, FixedAnswers, list[str]]:
    runner, messages = step_runner(folder, ROUND, HEAD.format(word)), []
    choices = FixedAnswers({"seconds of a step": step, "steps that pay back": needed})
    runner.context.choices, runner.context.hooks.log = choices, messages.append  # type: ignore[assignment]
    return runner, choices, messages


def test_a_training_is_compiled_where_its_steps_pay_that_back(tmp_path: Path, compilations: list[nn.Module]) -> None:
    runner, choices, messages = make_runner(tmp_path, step=100, needed=17.5)
    assert runner.metrics(runner.measured_step("dense", 0))["compiled"] is True
    assert "compiled: 18 steps" in messages[-1] and "compilation pays off after 18 dense steps" in messages[-1]
    asked = "steps that pay back a compilation of small-cnn"
    assert any(question.startswith(asked) and "32 pictures" in question for question in choices.asked)
    # The same number of steps with half of the filters saves a quarter of that.
    assert runner.metrics(runner.measured_step("ticket", 1))["compiled"] is False
    assert "not compiled: 18 steps" in messages[-1]
    assert len(compilations) == 1


def test_a_network_that_is_hardly_faster_compiled_never_is(tmp_path: Path, compilations: list[nn.Module]) -> None:
    runner, _, messages = make_runner(tmp_path, step=100, needed=math.inf)
    assert runner.metrics(runner.measured_step("dense", 0))["compiled"] is False
    assert "compilation is not faster" in messages[-1] and not compilations


def test_short_trainings_do_not_even_try(tmp_path: Path, compilations: list[nn.Module]) -> None:
    runner, choices, messages = make_runner(tmp_path, step=0.1, needed=1)
    assert runner.metrics(runner.measured_step("dense", 0))["compiled"] is False
    assert "too short" in messages[-1] and not compilations
    assert not any("pay back" in question for question in choices.asked)


@pytest.mark.parametrize("word", ["on", "off"])
def test_what_a_plan_says_is_not_asked_about(tmp_path: Path, word: str, compilations: list[nn.Module]) -> None:
    runner, choices, messages = make_runner(tmp_path, step=100, needed=1, word=word)
    assert runner.metrics(runner.measured_step("dense", 0))["compiled"] is (word == "on")
    assert len(compilations) == (word == "on") and not messages
    assert all("channels_last" in question for question in choices.asked)


def test_where_torch_cannot_compile_trainings_go_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(images: Tensor) -> Tensor:
        raise TickdslError("torch cannot compile this network here: no compiler")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(auto_compile, "compile_model", lambda model: refused)
    monkeypatch.setattr(auto_compile, "_MIN_SAVED_SECONDS", 0.0)
    runner, warned = step_runner(tmp_path, ROUND, HEAD.format("auto")), []
    runner.context.hooks.warn = warned.append
    assert runner.metrics(runner.measured_step("dense", 0))["compiled"] is False
    assert warned == ["compile=auto: trainings are not compiled: torch cannot compile this network here: no compiler"]


@pytest.mark.slow
def test_the_figures_are_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(auto_compile, "_MIN_SAVED_SECONDS", 0.0)
    monkeypatch.setattr(auto_compile, "MIN_SPEEDUP", 0.0)  # the speedup depends on the machine
    monkeypatch.setattr(optimiser_step, "compile_model", auto_compile.compile_model)
    seen: list[set[str]] = []
    for _ in range(2):
        runner, messages = step_runner(tmp_path, ROUND + "\nseeds 2", HEAD.format("auto")), []
        runner.context.hooks.log = messages.append
        metrics = runner.metrics(runner.measured_step("dense", 0, seed=1 + len(seen)))
        (figure,) = (line for line in messages if line.startswith("compilation "))
        (word,) = (line for line in messages if line.startswith("compile=auto"))
        assert ("not compiled" not in word) is metrics["compiled"]
        seen.append({figure})
    assert seen[0] == seen[1], "measured once"
