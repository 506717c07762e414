"""The models and data sets that a plan can name. It loads no torch, so that names are checked quickly."""

from __future__ import annotations

from tickdsl.training.catalogue.datasets import (
    DATASETS,
    DatasetInfo,
    holds_out_validation,
    known_classes,
    known_size,
    noun,
)
from tickdsl.training.catalogue.library_models import MODELS
from tickdsl.training.catalogue.models import (
    DEFAULT_WEIGHTS,
    HF_FAMILY,
    PLUGIN_FAMILY,
    TIMM_FAMILY,
    TORCHVISION_FAMILY,
    TORCHVISION_MODELS,
    TORCHVISION_PREFIX,
    TORCHVISION_SEGMENTATION,
    ModelInfo,
    architecture_options,
)
from tickdsl.training.catalogue.options import Option

__all__ = [
    "DATASETS",
    "DEFAULT_WEIGHTS",
    "HF_FAMILY",
    "MODELS",
    "PLUGIN_FAMILY",
    "TIMM_FAMILY",
    "TORCHVISION_FAMILY",
    "TORCHVISION_MODELS",
    "TORCHVISION_PREFIX",
    "TORCHVISION_SEGMENTATION",
    "DatasetInfo",
    "ModelInfo",
    "Option",
    "architecture_options",
    "holds_out_validation",
    "known_classes",
    "known_size",
    "noun",
]
