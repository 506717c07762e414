"""`check` compares the names and shapes of initial weights with the network, as the run does when it loads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tickdsl.checks import check_file
from tickdsl.checks.network import require_fitting_weights
from tickdsl.engine.graph_cache import dense_graph
from tickdsl.errors import TickdslError
from tickdsl.plan.model import Arm
from tickdsl.training.models import create

PLAN = 'model {model} on {data} weights="w.safetensors"\nprune {unit} 20% x 1; rewind lr\n'
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def errors(model: str = "small-cnn", data: str = "digits", unit: str = "filters") -> list[tuple[str, str]]:
    Path("p.plan").write_text(PLAN.format(model=model, data=data, unit=unit))
    report = check_file("p.plan")
    return [(found.code, f"{found.message}; {found.help}") for found in report.diagnostics if found.severity == "error"]


def saved(change: Callable[[State], State], model: str = "small-cnn", classes: int = 10) -> State:
    state = change(dict(create(model, classes=classes, shape=(1, 8, 8), seed=1).state_dict()))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, "w.safetensors")
    return state


def first_half(state: State) -> State:
    return {name: tensor[: max(1, len(tensor) // 2)] if tensor.dim() else tensor for name, tensor in state.items()}


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


#: What is saved -> what `check` says, or None if the run loads it.
SAVED: dict[str, tuple[Callable[[State], State], str | None]] = {
    "as it is": (dict, None),
    "under DataParallel": (lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, None),
    "without counters": (
        lambda state: {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}, None
    ),
    "pruned": (first_half, "are those of a smaller small-cnn"),
    "enlarged": (lambda state: {n: torch.cat([t, t]) if t.dim() else t for n, t in state.items()}, "do not fit"),
    "with more": (lambda state: {**state, "extra": torch.zeros(2)}, "the network has no extra"),
    "with less": (without("fc.weight"), "they lack fc.weight"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAVED)
def test_check_finds_what_the_run_would_refuse(kind: str) -> None:
    change, message = SAVED[kind]
    saved(change)
    found = errors()
    options = {"weights": "w.safetensors"}
    if message is None:
        assert found == []
        create("small-cnn", classes=10, shape=(1, 8, 8), seed=2, options=options)
        return
    ((code, text),) = found
    assert code == "TD131" and message in text
    with pytest.raises(TickdslError) as refused:
        create("small-cnn", classes=10, shape=(1, 8, 8), seed=2, options=options)
    assert text == f"{refused.value.message}; {refused.value.hint}"


def test_another_classifier_keeps_its_initial_weights() -> None:
    saved(dict, classes=7)
    assert errors() == []


def test_another_network_is_named() -> None:
    saved(dict, "lenet-300-100")
    ((code, text),) = errors()
    assert code == "TD131" and "are not those of small-cnn" in text


@pytest.mark.parametrize("model", ["resnet20", "conv2", "vgg11"])
def test_networks_take_their_own_weights(model: str) -> None:
    state = create(model, classes=10, shape=(3, 32, 32), seed=1).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, "w.safetensors")
    arm: Arm = check_plan_arm(model)
    require_fitting_weights(arm, dense_graph(arm, None))


def check_plan_arm(model: str) -> Arm:
    Path("p.plan").write_text(PLAN.format(model=model, data="cifar10", unit="filters"))
    plan = check_file("p.plan").plan
    assert plan is not None
    return plan.arms[0]
