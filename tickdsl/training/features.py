"""Features that generated images are judged in: those of a classifier trained on the labels of the same data.

They take the place of Inception's features in the FID, which need downloaded weights and photographs. A distance in
them is comparable between networks that generate images of one data set, and with nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import TrainingHistory
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.tasks import Features

#: The classifier, whose features are the means of its last channels: 32 of them.
CLASSIFIER = "small-cnn"
#: How it is trained: to about 95% of the small MNIST, in seconds on a CPU.
RECIPE = Recipe(length="600it", lr=0.02, batch=64, optimizer="adam", schedule="one-cycle")
_SEED = 0


def train_classifier(
    data: Dataset, device: torch.device | str = "cpu", before_step: Callable[[], None] | None = None
) -> tuple[nn.Module, TrainingHistory]:
    """Train the classifier that `classifier_features` needs; equal data give equal weights on a CPU.

    Raises TickdslError if the data have no labels.
    """
    if not data.task.has_classes:
        raise TickdslError(
            f"generated images are judged in the features of a classifier, but {data.name} has no labels: its task is "
            f"`{data.task.name}`",
            "use labelled data; a folder of images needs a subfolder for each of two classes or more",
        )
    model = models.create(CLASSIFIER, classes=data.classes, shape=data.shape, seed=_SEED)
    history = train(model, data, RECIPE, seed=_SEED, device=device, before_step=before_step)
    return model, history


def classifier_features(data: Dataset, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> Features:
    """The features of images by the classifier with the weights `state`, computed in float32, in eval mode.

    data: the data set that it was trained on, for the task of classification.
    """
    model = models.create(CLASSIFIER, classes=data.classes, shape=data.shape, seed=_SEED)
    model.load_state_dict(dict(state))
    body = nn.Sequential(*list(model.children())[:-1]).to(device).eval().requires_grad_(False)
    preprocess = data.preprocess(device)
    target = torch.device(device)

    def features(images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(target.type, enabled=False):
            values: Tensor = body(preprocess(images.to(target)))
        return values

    return features
