"""Validation data: a fixed share of every class, chosen by content, that everything which chooses looks at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import plain, write_folder
from torch import Tensor

from tickdsl.errors import TooFewSamplesError
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import take_part
from tickdsl.training.data.held_out import validation_mask

SYNTHETIC = {"size": 8, "channels": 1, "train": 200, "test": 40, "classes": 4}


def rows(inputs: Tensor) -> Counter[bytes]:
    return Counter(image.numpy().tobytes() for image in inputs)


@given(share=st.floats(0.01, 0.9))
@settings(max_examples=20, deadline=None)
def test_training_and_validation_are_the_training_data_divided_class_by_class(share: float) -> None:
    whole = datasets.load("synthetic", options=SYNTHETIC)
    data = datasets.load("synthetic", options={**SYNTHETIC, "validation": share})
    assert data.validation_set is not None
    assert rows(data.train_inputs) + rows(data.validation_set[0]) == rows(whole.train_inputs)
    assert torch.equal(data.test_inputs, whole.test_inputs)
    wanted = min(max(int(share * 50 + 0.5), 1), 49)
    assert data.validation_set[1].bincount().tolist() == [wanted] * 4
    kept = datasets._channel_statistics(data.train_inputs.numpy())
    assert torch.equal(data.mean, kept[0]) and torch.equal(data.std, kept[1])


def test_the_choice_depends_on_the_content_and_not_on_the_order() -> None:
    whole = datasets.load("synthetic", options=SYNTHETIC)
    inputs, labels = whole.train_inputs.numpy(), whole.train_targets.numpy()
    chosen = validation_mask(inputs, labels.tolist(), whole.class_names, 0.2)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3)).numpy()
    again = validation_mask(inputs[order], labels[order].tolist(), whole.class_names, 0.2)
    assert (again == chosen[order]).all()


def test_samples_are_chosen_first_and_sizes_change_nothing() -> None:
    few = datasets.load("digits", options={"samples": 300, "validation": 0.1})
    assert len(few.train_targets) + len(few.validation_targets if few.validation_targets is not None else []) == 300
    small, large = (datasets.load("digits", options={"validation": 0.1, "size": size}) for size in (4, 12))
    assert torch.equal(small.train_targets, large.train_targets)
    assert small.validation_inputs is not None and small.validation_inputs.shape[1:] == (1, 4, 4)


def test_copies_of_an_image_are_never_on_both_sides(tmp_path: Path) -> None:
    files = {
        f"train/{label}/{n}.png": plain(n // 2 + 50 * (label == "dog")) for label in ("cat", "dog") for n in range(12)
    }
    files |= {f"test/{label}/0.png": plain(200 + (label == "dog")) for label in ("cat", "dog")}
    data = datasets.load(
        "folder", root=tmp_path, options={"path": str(write_folder(tmp_path / "pets", files)), "validation": 0.25}
    )
    assert data.validation_inputs is not None and len(data.validation_inputs) >= 4
    assert not rows(data.train_inputs).keys() & rows(data.validation_inputs).keys()


def test_parts_divide_the_validation_set_as_they_divide_the_test_set() -> None:
    data = datasets.load("synthetic", options={**SYNTHETIC, "validation": 0.2})
    half = take_part(data, by="classes", parts=2, index=1)
    assert half.validation_targets is not None
    assert half.validation_targets.bincount().tolist() == [10, 10]
    samples = take_part(data, by="samples", parts=2, index=1)
    assert samples.validation_inputs is data.validation_inputs


def test_without_a_validation_share_nothing_changes() -> None:
    assert datasets.load("digits").validation_set is None
    assert datasets.fingerprint("digits") != datasets.fingerprint("digits", options={"validation": 0.1})


def test_a_class_that_cannot_be_divided_is_named() -> None:
    with pytest.raises(TooFewSamplesError, match=r"class \d needs two different images") as raised:
        datasets.load("digits", options={"samples": 22, "validation": 0.1})
    assert raised.value.hint is not None and "`validation=`" in raised.value.hint
