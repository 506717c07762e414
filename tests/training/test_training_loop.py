"""The training loop learns, starts and stops at any step of the recipe, and keeps pruned weights at zero."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training import devices, models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import EpochReport
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.masks import MaskError, Masks

SHORT = Recipe(length="3ep", lr=0.05, batch=32, decay=5e-4, schedule="cosine", augment=("crop", "flip"))


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


def _model(data: Dataset, name: str = "small-cnn") -> nn.Module:
    return models.create(name, classes=data.classes, shape=data.shape, seed=0)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


class _Recorder(nn.Module):
    """Records the images of every training batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x.clone())
        scores: Tensor = self.model(x)
        return scores


def test_small_cnn_learns_digits() -> None:
    digits = datasets.load("digits")
    model = models.create("small-cnn", classes=10, shape=digits.shape, seed=0)
    reports: list[EpochReport] = []
    recipe = Recipe(length="6ep", lr=0.1, batch=64, schedule="cosine")
    history = train(model, digits, recipe, seed=0, on_epoch=reports.append)
    assert history.last is not None
    assert history.last.test_accuracy > 0.95
    assert history.epochs == tuple(reports)
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert reports[-1].step == history.stop == 6 * history.steps_per_epoch


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_equal_arguments_give_equal_bits_and_leave_the_global_generator(tiny: Dataset, optimizer: str) -> None:
    recipe = attrs.evolve(SHORT, optimizer=optimizer, lr=0.01)
    before = torch.random.get_rng_state()
    first, second, other = _model(tiny), _model(tiny), _model(tiny)
    train(first, tiny, recipe, seed=1)
    torch.rand(3)
    torch.random.set_rng_state(before)
    train(second, tiny, recipe, seed=1)
    train(other, tiny, recipe, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert _same(_state(first), _state(second))
    assert not _same(_state(first), _state(other))


@pytest.mark.parametrize("start", [1, 4, 6])
def test_a_rewound_training_repeats_the_batches(tiny: Dataset, start: int) -> None:
    whole, rewound = _Recorder(_model(tiny)), _Recorder(_model(tiny))
    train(whole, tiny, SHORT, seed=1)
    train(rewound, tiny, SHORT, seed=1, start=start)
    assert len(whole.seen) == 12
    assert all(torch.equal(a, b) for a, b in zip(whole.seen[start:], rewound.seen, strict=True))


@pytest.mark.parametrize("step", [0, 2, 4, 5, 12])
def test_a_step_callback_gets_the_weights_of_a_training_that_stops_there(tiny: Dataset, step: int) -> None:
    kept: dict[str, Tensor] = {}

    def keep(state: object) -> None:
        kept.update({name: tensor.clone() for name, tensor in state.items()})  # type: ignore[attr-defined]

    train(_model(tiny), tiny, SHORT, seed=1, step_callbacks={step: keep})
    stopped = _model(tiny)
    history = train(stopped, tiny, SHORT, seed=1, stop=step)
    assert history.stop == step
    assert _same(kept, _state(stopped))


@pytest.mark.parametrize("name", ["small-cnn", "lenet-300-100"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_masked_weights_stay_exactly_zero(tiny: Dataset, name: str, optimizer: str) -> None:
    model = _model(tiny, name)
    draw = torch.Generator().manual_seed(0)
    masks = {key: torch.rand(p.shape, generator=draw) < 0.3 for key, p in model.named_parameters() if p.dim() > 1}
    zero_after_step: list[bool] = []

    def check_zeros() -> None:
        zero_after_step.append(all(not p[~masks[k]].any() for k, p in model.named_parameters() if k in masks))

    train(model, tiny, attrs.evolve(SHORT, optimizer=optimizer, lr=0.01), seed=1, masks=masks, before_step=check_zeros)
    assert zero_after_step == [True] * 12
    for key, parameter in model.named_parameters():
        if key in masks:
            assert not parameter[~masks[key]].any()
            assert parameter[masks[key]].any()


def test_a_pruned_weight_that_is_not_zero_is_an_internal_error(tiny: Dataset) -> None:
    model = _model(tiny)
    masks = Masks(model, {"fc.weight": torch.zeros(4, 32, dtype=torch.bool)})
    with pytest.raises(MaskError, match="128 pruned weights"):
        masks.check()
    with pytest.raises(MaskError, match="matches no parameter"):
        Masks(model, {"fc.weight": torch.zeros(4, 31, dtype=torch.bool)})


def test_divergence_names_the_epoch_and_the_rate(tiny: Dataset) -> None:
    recipe = Recipe(length="3ep", lr=1e20, batch=32)
    with pytest.raises(TickdslError, match=r"epoch 1 \(lr 1e\+20\)"):
        train(_model(tiny, "lenet-300-100"), tiny, recipe, seed=0)


def test_a_recipe_that_does_not_fit_the_data_is_a_users_error(tiny: Dataset) -> None:
    recipe = Recipe(length="1ep", schedule="milestones", milestones=("500it",))
    with pytest.raises(TickdslError, match="milestone 500it"):
        train(_model(tiny), tiny, recipe, seed=0)


def test_dropout_does_not_depend_on_where_a_training_starts(tiny: Dataset) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), _Recorder(nn.Identity()), nn.Linear(64, 4))

    whole, rewound = network(), network()
    recipe = attrs.evolve(SHORT, augment=())
    train(whole, tiny, recipe, seed=1)
    train(rewound, tiny, recipe, seed=1, start=5)
    seen = [model[2].seen for model in (whole, rewound)]  # type: ignore[index]
    assert all(torch.equal(a, b) for a, b in zip(seen[0][5:], seen[1], strict=True))
    assert not torch.equal(seen[0][0] == 0, seen[0][1] == 0)


def test_a_training_without_steps_changes_nothing(tiny: Dataset) -> None:
    model = _model(tiny)
    before = _state(model)
    assert train(model, tiny, SHORT, seed=0, start=3, stop=3).epochs == ()
    assert _same(before, _state(model))


def test_devices_are_selected_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.resolve_device("auto") == devices.resolve_device("cpu") == torch.device("cpu")
    for wrong in ("cuda", "tpu", "mps"):
        with pytest.raises(TickdslError):
            devices.resolve_device(wrong)
    monkeypatch.setattr(devices, "has_fast_bf16", lambda device: False)
    with pytest.raises(TickdslError, match="bf16"):
        devices.autocast_type("bf16", torch.device("cpu"))
    assert devices.autocast_type("auto", torch.device("cpu")) is None


def test_tf32_needs_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TickdslError, match="this cpu does not support tf32"):
        devices.autocast_type("tf32", torch.device("cpu"))
    for capability, has_it in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert devices.has_tf32(torch.device("cuda")) == has_it


@pytest.mark.parametrize(("precision", "expected"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_float32_on_cuda_is_what_the_recipe_says(precision: str, expected: str) -> None:
    products = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [product.fp32_precision for product in products]
    with pytest.raises(InterruptedError), devices.float32_format(precision, torch.device("cuda", 1)):
        assert [product.fp32_precision for product in products] == [expected] * 3
        raise InterruptedError
    assert [product.fp32_precision for product in products] == before
    with devices.float32_format(precision, torch.device("cpu")):
        assert [product.fp32_precision for product in products] == before
