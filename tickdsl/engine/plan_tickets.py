"""The ticket that an arm starts from, named by `weights=`, and whether it fits the arm's network. Needs no torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph, image_shape_and_classes
from tickdsl.errors import TickdslError, TicketError
from tickdsl.graph.indexing import all_kept_indices, removed_parameters
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import Arm, Model
from tickdsl.plugins import network_identity
from tickdsl.pruning import ticket_header
from tickdsl.pruning.transfer import transfer_part, transfer_structure
from tickdsl.training import weights_files
from tickdsl.training.catalogue import MODELS, architecture_options
from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, inputs_in_words, shape_from_json
from tickdsl.training.part_map import PartMap


@attrs.frozen
class PlanTicket:
    """A ticket as a plan's start. about: its description. structure: on the graph of the plan's network."""

    path: Path
    about: Mapping[str, Any]
    structure: Structure


def is_ticket(model: Model) -> bool:
    """Whether the initial weights of a model are a ticket, of any version."""
    return model.weights_file is not None and ticket_header.is_ticket(Path(model.weights_file))


def plan_ticket(arm: Arm, data: Path | None) -> PlanTicket | None:
    """The ticket that an arm starts from; None if it starts from a dense network.

    Raises TicketError if the ticket is damaged, of another version, or does not fit the network or the data; other
    TickdslErrors if the network cannot be built.
    """
    if not is_ticket(arm.model):
        return None
    path = Path(str(arm.model.weights_file))
    about, _ = _read(path, _file_state(path))
    shape, classes = image_shape_and_classes(arm.data, data or DEFAULT_DATA_DIR)
    if PartMap.of_model(arm.model.options) is not None:  # another network, of which parts have to fit
        return PlanTicket(path, about, base_structure(arm.model, dense_graph(arm, data)))
    if misfits := list(_misfits(about, arm, shape, classes)):
        raise TicketError(f"the ticket {path} does not fit: {'; '.join(misfits)}", _way_out(about))
    return PlanTicket(path, about, base_structure(arm.model, dense_graph(arm, data)))


def base_structure(model: Model, graph: ModelGraph) -> Structure:
    """The structure that a plan starts from: that of its ticket on the network's graph, or the dense one.

    Raises TicketError if the ticket is damaged, of another version, or does not fit the graph, PartMapError if parts of
    it do not.
    """
    if not is_ticket(model):
        return Structure.dense(graph)
    path = Path(str(model.weights_file))
    _, structure = _read(path, _file_state(path))
    if (part := PartMap.of_model(model.options)) is not None:
        return _part_structure(path, structure, graph, part)
    theirs, ours = structure.extent.shapes, graph.parameters
    for name in dict.fromkeys((*ours, *theirs)):
        if theirs.get(name) != ours.get(name):
            shapes = f"`{name}` is {_shape(theirs.get(name))} in the ticket and {_shape(ours.get(name))} here"
            raise _changed(path, model, shapes)
    try:
        return transfer_structure(structure, graph)
    except TickdslError as error:
        raise _changed(path, model, error.message) from error


def _part_structure(path: Path, structure: Structure, graph: ModelGraph, part: PartMap) -> Structure:
    """The structure of parts of a ticket, if the weights that are left of them fit what is left here."""
    transferred = transfer_part(structure, graph, part, str(path))
    found = weights_files.read_shapes(path) or {}
    removed = removed_parameters(graph, transferred)
    left = {
        name: tuple(n if kept is None else len(kept) for n, kept in zip(graph.shape(name), indices, strict=True))
        for name, indices in all_kept_indices(graph, transferred).items()
    }
    ours = {**graph.parameters, **graph.buffers, **left}
    ours |= {alias: ours[name] for alias, name in graph.aliases.items() if name in ours}
    part.fit(
        {name: size for name, size in found.items() if not name.startswith(ticket_header.PREFIX)},
        {name: size for name, size in ours.items() if name not in removed},
        str(path),
        {*graph.buffers, *graph.aliases},
    )
    return transferred


def changed_code(arm: Arm, ticket: PlanTicket) -> bool:
    """Whether the code of an arm's own network is another one than when the ticket was written."""
    known = ticket.about["network"].get("code", "")
    return bool(known) and known != network_identity(arm.model.name, architecture_options(arm.model.options))


def _changed(path: Path, model: Model, what: str) -> TicketError:
    return TicketError(
        f"the ticket {path} does not fit {model.name} as it is now: {what}",
        "use the tickdsl and the code of the network that it was written with, or export it again",
    )


def _shape(sizes: tuple[int, ...] | None) -> str:
    return "missing" if sizes is None else "×".join(map(str, sizes)) or "a number"


@functools.lru_cache(maxsize=16)
def _read(path: Path, state: tuple[int, ...]) -> tuple[dict[str, Any], Structure]:
    """The description and the structure in a file; `state` is what changes with the file."""
    about, structure = ticket_header.read_structure(path)
    network = about.get("network")
    if not isinstance(network, dict) or not {"name", "options", "classes", "shape"} <= network.keys():
        raise ticket_header.damaged(path, "it does not name its network")
    return about, structure


def _file_state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _misfits(about: Mapping[str, Any], arm: Arm, shape: InputShape, classes: int) -> Iterator[str]:
    """What differs between a ticket and the network of an arm on its data, as clauses."""
    network, model = about["network"], arm.model
    if network["name"] != model.name:
        yield f"its network is {network['name']}, and this one {model.name}"
        return
    ours, theirs = (_with_defaults(model.name, options) for options in (model.options, network["options"]))
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"its network has {name}={theirs.get(name)}, and this one {name}={ours.get(name)}"
    theirs_shape = shape_from_json(network["shape"])
    if theirs_shape != shape:
        size = _size(shape).removeprefix("images of ")
        yield f"it takes {_size(theirs_shape)}, and {arm.data.name} has {size}"
    if network["classes"] != classes:
        yield f"it tells {network['classes']} classes apart, and {arm.data.name} has {classes}"


def _with_defaults(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a network's graph depends on, with the defaults of those that are not given."""
    known = MODELS[name].options
    defaults = {key: option.default for key, option in known.items()}
    return architecture_options({**defaults, **options})


def _way_out(about: Mapping[str, Any]) -> str:
    network = about["network"]
    options = "".join(f" {key}={value}" for key, value in network["options"].items())
    size = _size(shape_from_json(network["shape"]))
    return f"it was exported for `model {network['name']}{options}`, on {size} with {network['classes']} classes"


def _size(shape: InputShape) -> str:
    if isinstance(shape, NamedShapes):
        return inputs_in_words(shape)
    return f"images of {'×'.join(map(str, shape))}"
