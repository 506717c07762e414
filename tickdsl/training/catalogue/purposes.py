"""What models and data sets are for, in words, and whether they fit each other, as far as the catalogue knows."""

from __future__ import annotations

from tickdsl.plurals import plural
from tickdsl.training.catalogue.datasets import DatasetInfo
from tickdsl.training.catalogue.input_shapes import is_tokens, shape_in_words
from tickdsl.training.catalogue.models import VECTOR_TASKS, ModelInfo


def model_purpose(info: ModelInfo) -> str:
    """The inputs and the tasks of a model: `images: classify, tag, regress`; empty if any will do."""
    tasks = (info.task,) if info.task else info.tasks
    if info.inputs == "any" and not tasks:
        return ""
    return ": ".join(filter(None, ("" if info.inputs == "any" else info.inputs, ", ".join(tasks))))


def is_usual(info: ModelInfo) -> bool:
    """Whether a model takes images and returns one vector for each, as most do."""
    return info.inputs in ("images", "any") and not info.task and info.tasks in (VECTOR_TASKS, ())


def data_purpose(info: DatasetInfo) -> str:
    """The task, the inputs and the outputs of a data set: `classify: 3×32×32, 10 classes`; empty if not known."""
    known = [shape_in_words(info.shape)] if info.shape else []
    if info.classes:
        known.append(plural(info.classes, "class" if info.task == "classify" else "output"))
    return ": ".join(filter(None, (info.task or "", ", ".join(known))))


def fits(model: ModelInfo, data: DatasetInfo) -> bool:
    """Whether nothing that the catalogue knows keeps a model from learning from a data set."""
    if data.shape is not None and model.inputs not in ("tokens" if is_tokens(data.shape) else "images", "any"):
        return False
    return bool(model.task) or not model.tasks or data.task is None or data.task in model.tasks
