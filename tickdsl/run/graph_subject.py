"""Which networks `tickdsl graph` shows: one of the catalogue on a data set's shape, or those of a plan's arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import did_you_mean, listing
from tickdsl.plan.model import Arm, Data, Plan
from tickdsl.plugins import quoted, required
from tickdsl.records.canonical import canonical
from tickdsl.run.graph_view import GraphView
from tickdsl.run.graphs import DATA, Shape, model_graph, pictures
from tickdsl.training.catalogue import DATASETS, MODELS, OWN_FAMILY, TORCHVISION_FAMILY, Option, shaping

#: The data set whose pictures a family is made for.
_FAMILY_DATA = {"lenet": "mnist", "convs": "cifar10", "vgg": "cifar10", "resnet": "cifar10", OWN_FAMILY: "digits"}
_MODEL_DATA = {"small-cnn": "digits", "conv3": "cifar10"}
#: torchvision's networks are made for ImageNet.
_IMAGENET: tuple[Shape, int] = ((3, 224, 224), 1000)


@attrs.frozen
class Subject:
    """A network to show: its model spec, and the pictures (C, H, W) and classes that it is built for."""

    model: str
    options: Mapping[str, Any]
    data: str
    shape: Shape
    classes: int

    @property
    def title(self) -> str:
        """Its spec in one line."""
        options = "".join(f" {key}={value}" for key, value in self.options.items())
        size = "×".join(map(str, self.shape))
        return f"{self.model}{options} on {self.data}: {size}, {self.classes} classes"

    def view(self) -> GraphView:
        """Its graph, laid out for reading. Raises TickdslError where the network cannot take such pictures."""
        return GraphView(model_graph(self.model, canonical(dict(self.options)), self.classes, self.shape))


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


def of_plan(plan: Plan, root: Path | None) -> list[Subject]:
    """Every distinct network of a plan's arms."""
    found: list[Subject] = []
    for arm in plan.arms:
        wanted = subject(arm, root)
        if wanted not in found:
            found.append(wanted)
    return found


def subject(arm: Arm, root: Path | None) -> Subject:
    """The network of an arm."""
    shape, classes = pictures(arm.data, root or DATA)
    return Subject(arm.model.name, shaping(arm.model.options), arm.data.name, shape, classes)


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
