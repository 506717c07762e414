"""The network of `tickdsl graph MODEL`: a model of the catalogue with options and a data set from the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, image_shape_and_classes, task_of
from tickdsl.engine.network_specs import NetworkSpec
from tickdsl.engine.task_fit import DataKnowledge, model_misfit
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.suggestions import did_you_mean, join_or, suggest
from tickdsl.plan.model import Data, Model
from tickdsl.plugins import is_quoted_target, library_of, require_plugin
from tickdsl.training.catalogue import (
    DATASETS,
    HF_FAMILY,
    MODELS,
    PLUGIN_FAMILY,
    TIMM_FAMILY,
    TORCHVISION_FAMILY,
    ModelInfo,
    Option,
)
from tickdsl.training.catalogue.input_shapes import InputShape
from tickdsl.training.catalogue.purposes import fits

#: The data set that the models of a family are usually trained on.
_DEFAULT_DATA_BY_FAMILY = {
    "lenet": "mnist",
    "convs": "cifar10",
    "vgg": "cifar10",
    "resnet": "cifar10",
    "unet": "shapes",
    "generative": "mnist-small",
    PLUGIN_FAMILY: "digits",
}
_DEFAULT_DATA_BY_MODEL = {
    "small-cnn": "digits",
    "conv3": "cifar10",
    "unet-encoder": "shapes-tags",
    "gpt": "corpus",
    "bert": "sentences",
}
#: A list, which is one word although it may have spaces.
_LIST = re.compile(r"(?<==)\[[^\]\"']*\]")
#: torchvision's networks are made for ImageNet, or for Pascal VOC.
_IMAGENET: tuple[InputShape, int] = ((3, 224, 224), 1000)
_PASCAL_VOC: tuple[InputShape, int] = ((3, 520, 520), 21)


def spec_of_model(name: str, options: Iterable[tuple[str, str]], data: str | None, root: Path | None) -> NetworkSpec:
    """A network of the catalogue; `data` is a data set with its options as in a plan, e.g. `digits size=32`.

    Raises TickdslError for an unknown name or option.
    """
    if is_quoted_target(name):
        require_plugin("model", name)
    library = library_of(name)
    if library is not None and not library.is_installed:
        raise library.missing
    if library is not None and name not in MODELS:
        close = suggest(library.base_name(name), library.names())
        raise TickdslError(
            f"{library.package} has no network `{name}`",
            f"did you mean `{library.prefix}.{close}`?"
            if close
            else f"list its networks with `tickdsl graph --list {library.prefix}`",
        )
    if name not in MODELS:
        suggestion = did_you_mean(name, MODELS)
        raise TickdslError(
            f"no model and no file named `{name}`", suggestion or "list all models with `tickdsl graph --list`"
        )
    parsed = _parse_options(name, options, MODELS[name].options)
    if data is not None:
        return _spec(name, parsed, data_of_text(data), data, root)
    if MODELS[name].family == TORCHVISION_FAMILY and "segment" in MODELS[name].tasks:
        return NetworkSpec(name, parsed, "Pascal VOC", *_PASCAL_VOC, task="segment")
    made_for = _made_for(name, MODELS[name])
    if made_for is not None:
        return NetworkSpec(name, parsed, "ImageNet", *made_for)
    if MODELS[name].family == HF_FAMILY:
        default_data: str | None = "sentences" if "classify" in MODELS[name].tasks else "corpus"
    else:
        default_data = _DEFAULT_DATA_BY_MODEL.get(name)
    default_data = default_data or _DEFAULT_DATA_BY_FAMILY.get(MODELS[name].family)
    if default_data is None:
        known = (each for each in DATASETS.builtin.values() if each.shape is not None)
        default_data = next((each.name for each in known if fits(MODELS[name], each)), "digits")
    return _spec(name, parsed, Data(default_data), default_data, root)


def _made_for(name: str, info: ModelInfo) -> tuple[InputShape, int] | None:
    """The images and the number of classes that networks of libraries are made for; None for tickdsl's own."""
    if info.family == TIMM_FAMILY:
        from tickdsl.training.models.timm_zoo import native_shape

        return native_shape(name), _IMAGENET[1]
    takes_images = info.family == HF_FAMILY and info.inputs != "tokens"
    return _IMAGENET if info.family == TORCHVISION_FAMILY or takes_images else None


def _spec(name: str, options: Mapping[str, Any], data: Data, text: str, root: Path | None) -> NetworkSpec:
    """A model on a data set. Raises TickdslError if it is not made for such data."""
    folder, model = root or DEFAULT_DATA_DIR, Model(name)
    misfit = model_misfit(model, data, DataKnowledge.from_data(folder))
    if misfit is not None:
        raise TickdslError(misfit.message, misfit.help)
    return NetworkSpec(name, options, text, *image_shape_and_classes(data, folder), task_of(model, data, folder))


def data_of_text(text: str) -> Data:
    """A data set with its options as in a plan, e.g. `folder path="my photos" size=32`.

    Raises TickdslError for an unknown name or option, and for a quote that is not closed.
    """
    try:
        lexer = shlex.shlex(_LIST.sub(lambda found: re.sub(r"\s", "", found[0]), text), posix=True)
        lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""  # paths of Windows have backslashes
        name, *options = list(lexer) or [""]
    except ValueError as error:
        raise TickdslError(f"--on {text}: a quote is not closed", "close it: \"folder path='my photos'\"") from error
    if is_quoted_target(name):
        require_plugin("data set", name)
    if name not in DATASETS:
        raise TickdslError(f"no data set `{name}`", did_you_mean(name, DATASETS) or join_or(DATASETS))
    pairs = [(key, value) for key, _, value in (item.partition("=") for item in options)]
    return Data(name, _parse_options(name, pairs, DATASETS[name].options))


def _value(text: str, option: Option) -> Any:
    """The value of an option as a plan writes it. Raises ValueError if it is of another type."""
    if option.type is list:
        return [name.strip() for name in text.removeprefix("[").removesuffix("]").split(",") if name.strip()]
    return float(text.removesuffix("%")) / 100 if option.is_share and text.endswith("%") else option.type(text)


def _parse_options(name: str, pairs: Iterable[tuple[str, str]], known: Mapping[str, Option]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for key, text in pairs:
        if key not in known:
            hint = did_you_mean(key, known) or (f"use {join_or(known)}" if known else "leave it out")
            raise TickdslError(f"{name} has no option `{key}`", hint)
        option = known[key]
        try:
            value = _value(text, option)
        except ValueError as error:
            kind = (
                "a percentage"
                if option.is_share
                else {"int": "a whole number", "float": "a number"}.get(option.type.__name__, "valid")
            )
            raise TickdslError(f"{name}: {key}={text} is not {kind}", option.summary) from error
        if requirement := option.requirement_missed_by(value):
            raise TickdslError(f"{name}: {key} must be {requirement}; found {text}", option.summary)
        parsed[key] = value
    return parsed
