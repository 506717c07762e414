"""Which network `tickdsl graph MODEL` shows: one of the catalogue, with options and data from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tickdsl.engine.graphs import DATA, Shape, pictures
from tickdsl.engine.network_specs import Subject
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import did_you_mean, listing
from tickdsl.plan.model import Data
from tickdsl.plugins import quoted, required
from tickdsl.training.catalogue import DATASETS, MODELS, OWN_FAMILY, TORCHVISION_FAMILY, Option

#: The data set whose pictures a family is made for.
_FAMILY_DATA = {"lenet": "mnist", "convs": "cifar10", "vgg": "cifar10", "resnet": "cifar10", OWN_FAMILY: "digits"}
_MODEL_DATA = {"small-cnn": "digits", "conv3": "cifar10"}
#: torchvision's networks are made for ImageNet.
_IMAGENET: tuple[Shape, int] = ((3, 224, 224), 1000)


def of_model(name: str, options: Iterable[tuple[str, str]], data: str | None, root: Path | None) -> Subject:
    """A network of the catalogue; `data` names a data set and its options, as in a plan (`digits size=32`).

    Raises TickdslError for a name or an option that is unknown.
    """
    if quoted(name):
        required("model", name)
    if name not in MODELS:
        near = did_you_mean(name, MODELS)
        raise TickdslError(f"no model `{name}`, and no file of that name", near or "`tickdsl graph --list` names all")
    chosen = _options(name, options, MODELS[name].options)
    if data is not None:
        word, *rest = data.split() or [""]
        if quoted(word):
            required("data set", word)
        if word not in DATASETS:
            raise TickdslError(f"no data set `{word}`", did_you_mean(word, DATASETS) or listing(DATASETS))
        pairs = [(key, value) for key, _, value in (item.partition("=") for item in rest)]
        found = Data(word, _options(word, pairs, DATASETS[word].options))
        shape, classes = pictures(found, root or DATA)
        return Subject(name, chosen, data, shape, classes)
    if MODELS[name].family == TORCHVISION_FAMILY:
        return Subject(name, chosen, "ImageNet", *_IMAGENET)
    usual = _MODEL_DATA.get(name) or _FAMILY_DATA[MODELS[name].family]
    return Subject(name, chosen, usual, *pictures(Data(usual), root or DATA))


def _options(name: str, given: Iterable[tuple[str, str]], known: Mapping[str, Option]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for key, text in given:
        if key not in known:
            way_out = did_you_mean(key, known) or (f"it has {listing(known)}" if known else "leave it out")
            raise TickdslError(f"{name} has no option `{key}`", way_out)
        option = known[key]
        try:
            value = option.type(text)
        except ValueError as error:
            raise TickdslError(f"{name}: {key}={text} is no {option.type.__name__}", option.summary) from error
        if option.least is not None and value < option.least:
            raise TickdslError(f"{name}: {key}={text} is below {option.least:g}", option.summary)
        chosen[key] = value
    return chosen
