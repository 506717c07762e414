"""Plans on tokens: what needs images is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from text_data import network_for, sentences

from tickdsl.engine.graph_cache import image_shape_and_classes, task_of
from tickdsl.engine.task_fit import require_fit
from tickdsl.errors import TickdslError
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.reading.parse import Source
from tickdsl.metrics.robustness import measure_robustness
from tickdsl.plan.model import Plan

GPT = "model gpt\ndata corpus length=16\n"
BERT = "model bert\ndata sentences\n"


def planned(text: str) -> Plan:
    plan = resolve(load_source(Source("tokens.plan", text))).plan
    assert plan is not None
    return plan


def check(text: str, root: Path) -> None:
    require_fit(planned(text), lambda model, data: task_of(model, data, root))


@pytest.mark.parametrize("head", [GPT, BERT])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prune weights 50%; rewind lr\nreport robustness", "`report robustness` changes test images, but .* tokens"),
        ("train 2ep lr=0.1 augment=flip\nprune weights 50%; rewind lr", "`augment=` changes images, but .* tokens"),
    ],
)
def test_what_needs_images_is_refused(head: str, text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(TickdslError, match=problem):
        check(head + text, tmp_path)


@pytest.mark.parametrize("head", [GPT, BERT])
def test_what_needs_none_is_not(head: str, tmp_path: Path) -> None:
    check(f"{head}prune neurons 20%; rewind lr\nreport barrier, memory, latency", tmp_path)


def test_language_has_no_classes_to_split(tmp_path: Path) -> None:
    text = "split classes 2; prune weights 50%; overlap; rewind weights to init"
    with pytest.raises(TickdslError, match="`split classes`: corpus has no classes"):
        check(GPT + text, tmp_path)
    check(BERT + text, tmp_path)


def test_the_length_of_generated_data_is_known_without_drawing_them(tmp_path: Path) -> None:
    for head, expected in ((GPT, ((16, 256), 256)), ("model gpt\ndata corpus\n", ((64, 256), 256))):
        assert image_shape_and_classes(planned(f"{head}prune weights 50%").arms[0].data, tmp_path) == expected


def test_robustness_is_refused_from_python_too() -> None:
    with pytest.raises(TickdslError, match="the inputs of sentences are tokens"):
        measure_robustness(network_for(sentences()), sentences(), device=torch.device("cpu"))
