"""The public API for plug-ins: models, data sets, criteria, recipes, metrics, tasks (see docs/how-to/extending.md).

- model: a `ModelFactory`, `(classes, shape) -> network`; entry-point group `tickdsl.models`
- data set: a `DataFactory`, `(root) -> RawDataset`; `tickdsl.datasets`
- criterion: a `Criterion`, or a `RowScore`, `(rows) -> scores`; `tickdsl.criteria`
- schedule: a `Schedule`, `(recipe, steps, per_epoch) -> rates`; `tickdsl.schedules`
- loss: `(outputs, targets) -> mean`, or a class of such callables; `tickdsl.losses`
- optimiser: `(parameters, lr) -> torch.optim.Optimizer`; `tickdsl.optimisers`
- augmentation: `(image) -> image`, or a class of such callables; `tickdsl.augmentations`
- metric: a `Metric`, `(trained) -> number`; `tickdsl.metrics`
- task: a `Task`, `() -> Task`; `tickdsl.tasks`
"""

from __future__ import annotations

from tickdsl.graph.model import Block, ChannelGroup
from tickdsl.metrics.plugin import Metric, TrainedModel
from tickdsl.pruning.criteria.plugin import RowScore
from tickdsl.pruning.criteria.protocol import Batch, Criterion, Sample, ScoringContext
from tickdsl.pruning.criteria.saliency import Saliency
from tickdsl.pruning.criteria.score_aggregation import average_scores, block_scores, flatten_rows, producer_slices
from tickdsl.training.data.readers.plugin import DataFactory
from tickdsl.training.data.readers.raw_dataset import RawDataset
from tickdsl.training.models.plugin import ModelFactory
from tickdsl.training.recipes.recipe import Recipe, Schedule
from tickdsl.training.tasks.classify import Classify
from tickdsl.training.tasks.protocol import BadTargets, Task, TaskMetric
from tickdsl.training.tasks.regress import Regress
from tickdsl.training.tasks.segment import Segment
from tickdsl.training.tasks.tag import Tag

__all__ = [
    "BadTargets",
    "Batch",
    "Block",
    "ChannelGroup",
    "Classify",
    "Criterion",
    "DataFactory",
    "Metric",
    "ModelFactory",
    "RawDataset",
    "Recipe",
    "Regress",
    "RowScore",
    "Saliency",
    "Sample",
    "Schedule",
    "ScoringContext",
    "Segment",
    "Tag",
    "Task",
    "TaskMetric",
    "TrainedModel",
    "average_scores",
    "block_scores",
    "flatten_rows",
    "producer_slices",
]
