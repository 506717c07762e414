"""The step `features`: the classifier in whose features generated images are judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from tickdsl.engine.steps.context import Context, Metrics
from tickdsl.engine.steps.result_files import load_weights, save_weights
from tickdsl.plan.steps import Step
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.features import classifier_features, train_classifier
from tickdsl.training.tasks import Generate

#: The parent of the steps that judge generated images.
FEATURES = "features"


def features(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Train the classifier; its accuracy tells how much its features know of the images."""
    data = context.dataset(step.args["data"], None)
    model, history = train_classifier(data, context.device, lambda: context.hooks.between_steps(lambda: None))
    save_weights(folder, model.state_dict())
    return {"figures": {"features.accuracy": history.figures["accuracy"]}, "how": "measured"}


def judged_data(step: Step, context: Context) -> Dataset:
    """The data set of a step, with a task that knows the features to judge by if the step has such a parent."""
    data = context.dataset(step.args["data"], step.seed)
    if FEATURES not in step.parents or not isinstance(data.task, Generate):
        return data
    parts = context.step_parts(step.parents[FEATURES])
    # Its part of the key has no path: the data are those of this step, whole and for classification.
    spec = {name: value for name, value in step.args["data"].items() if name not in ("task", "part")}
    assert parts["operation"] == FEATURES
    state = load_weights(context.store.get(step.parents[FEATURES]).folder)
    known = classifier_features(context.dataset(spec, None), state, context.device)
    return attrs.evolve(data, task=data.task.with_features(known))
