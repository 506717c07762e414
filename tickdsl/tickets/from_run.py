"""Take a ticket out of a run: what was measured there, with the weights and the structure from the store."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from tickdsl import __version__
from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.judging_features import FEATURES
from tickdsl.engine.steps.result_files import STRUCTURE, load_data_description, load_weights
from tickdsl.errors import TickdslError, TicketError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, compact_masks
from tickdsl.plan.step_builder import DEFAULT_TASK
from tickdsl.plan.steps import structure_of
from tickdsl.plugins import code_allowed, network_identity
from tickdsl.pruning.transfer import transfer_structure
from tickdsl.records.bucket_location import store_folder, store_name
from tickdsl.records.bucket_store import open_store
from tickdsl.records.paths import RunPaths
from tickdsl.records.store import Result
from tickdsl.results.state import RunState
from tickdsl.results.state_builder import read_run
from tickdsl.tickets.choice import Choice, Wanted, choose
from tickdsl.tickets.conditions import conditions_of
from tickdsl.tickets.data_at_hand import FoundData, find_data
from tickdsl.tickets.export_format import Subject, TestConditions, TestInputs
from tickdsl.tickets.judges import stored_judge
from tickdsl.tickets.network_source import NetworkSource
from tickdsl.tickets.outputs import describe_outputs
from tickdsl.tickets.preprocessing import InputPreprocessing, preprocessing_for, preprocessing_of
from tickdsl.tickets.rebuilding import dense_network_of, probe_outputs, run_probe
from tickdsl.tickets.ticket import Origin, Ticket
from tickdsl.training.catalogue import architecture_options
from tickdsl.training.catalogue.input_shapes import InputShape, shape_from_json
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.streaming.images import in_memory
from tickdsl.training.tasks import Generate, Task, find_task

#: The parents of a result whose keys a ticket keeps.
_KEPT_PARENTS = ("structure", "weights", FEATURES)
#: The metrics of a result that a ticket keeps.
_KEPT_METRICS = (
    "accuracy", "loss", "params", "macs", "sparsity", "filters", "neurons", "heads", "head-dims",
    "layers", "test_images", "chance", "correct", "score", "metric", "figures",
)  # fmt: skip
_DENSE_METRICS = ("accuracy", "loss", "params", "macs")
#: Those that only tasks other than classification have.
_DENSE_SCORE = ("score", "metric")
#: More bytes of outputs are not compared: those of the first test inputs stand for the others.
_MAX_OUTPUT_BYTES = 2**28


@attrs.frozen(eq=False)
class TicketOfRun:
    """A ticket of a run: why it was chosen, what is exported, and the dense network, whose weights do not matter."""

    choice: Choice
    subject: Subject
    dense: DenseNetwork

    @property
    def ticket(self) -> Ticket:
        """The ticket."""
        return self.subject.ticket


def _started_run(paths: RunPaths) -> RunState:
    """The state of a run. Raises TicketError if it contains no events or the run has not started."""
    try:
        return read_run(paths)
    except TickdslError as error:
        raise TicketError(error.message, error.hint) from error


def ticket_of_run(
    paths: RunPaths,
    wanted: Wanted | None = None,
    *,
    state: RunState | None = None,
    store: Path | None = None,
    data: Path | None = None,
) -> TicketOfRun:
    """The ticket of a run that is wanted, with what is needed to verify it.

    state: of the run, if it is known. store: the folder of the stored results (default: that of the run). data: the
    folder of the data sets (default: `.tick/data`). Raises TickdslError if there is no such ticket, or something of it
    is missing or damaged.
    """
    state = _started_run(paths) if state is None else state
    choice = choose(state, wanted or Wanted())
    result = _result(state, choice, store)
    args: Mapping[str, Any] = result.data["parts"]["args"]
    found = find_data(args["data"], result.data["parts"]["seed"], paths, data)
    preprocessing, classes = _data_description(result, found, args["data"]["name"])
    source = _source(args["model"], len(classes), preprocessing.shape)
    dense = dense_network_of(source)
    structure = _structure(result, dense, state, choice, store)
    network = compact(dense.module, dense.graph, structure)
    network.load_state_dict(_masked(load_weights(result.folder), dense, structure))
    network.eval()
    task = find_task(args["data"].get("task", DEFAULT_TASK))
    outputs = describe_outputs(run_probe(network, preprocessing), task)
    ticket = Ticket(
        source=source,
        structure=structure,
        weights={name: tensor.detach().clone() for name, tensor in network.state_dict().items()},
        preprocessing=preprocessing,
        classes=classes,
        task=task.name,
        outputs=outputs,
        metrics=_metrics(result, choice),
        plan=_plan_text(paths),
        origin=_origin(state, choice, result),
        versions={"tickdsl": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
        probe=probe_outputs(network, preprocessing),
    )
    data_set = found.dataset
    test = (
        TestInputs.random(preprocessing, found.why_missing)
        if data_set is None
        else _test_inputs(data_set, sum(4 * math.prod(output.shape) for output in outputs))
    )
    task = _with_judge(task, result, paths, state, store, data)
    conditions = conditions_of(result)
    if args.get("code", {}).get("model", source.code) != source.code:
        conditions = _with_changed_code(conditions, source, test)
    subject = Subject(
        ticket=ticket, network=network, test=test, task=task, conditions=conditions, allow_code=code_allowed()
    )
    return TicketOfRun(choice, subject, dense)


def _with_judge(
    task: Task, result: Result, paths: RunPaths, state: RunState, store: Path | None, root: Path | None
) -> Task:
    """The task, with the classifier that judged generated images in the run, if it and its data are at hand."""
    if not isinstance(task, Generate):
        return task
    parts = result.data["parts"]
    whole = {name: value for name, value in parts["args"]["data"].items() if name not in ("task", "part")}
    labelled = find_data(whole, None, paths, root).dataset
    folder = _store_folder(state, store)
    features = None if labelled is None else stored_judge(labelled, parts["parents"].get(FEATURES), folder)
    return task if features is None else task.with_features(features)


def _store_folder(state: RunState, store: Path | None) -> Path:
    return store or store_folder(state.run.store if state.run is not None else ".tick/store")


def _test_inputs(data: Dataset, output_bytes: int) -> TestInputs:
    """The test set; if its outputs of so many bytes per input are large, the first inputs, which are not judged."""
    count = len(data.test_inputs)
    compared = max(1, _MAX_OUTPUT_BYTES // max(1, output_bytes))
    if count <= compared or data.task.name == DEFAULT_TASK:
        return TestInputs(in_memory(data.test_inputs), data.test_targets)
    return TestInputs(in_memory(data.test_inputs[:compared]), part_of=count)


def _result(state: RunState, choice: Choice, store: Path | None) -> Result:
    """The stored result of a measured network. Raises TicketError if it is not there."""
    step = state.steps.get(choice.metric.step)
    key = step.info.key if step is not None else ""
    return _stored(key, state, store)


def _stored(key: str, state: RunState, store: Path | None) -> Result:
    folder = _store_folder(state, store)
    known = folder.is_dir() and bool(key)
    warnings: list[str] = []
    stored = open_store(folder, warnings.append) if known else None
    if stored is None or not stored.check(key):
        damage = f" ({warnings[-1]})" if warnings else ""
        raise TicketError(
            f"the result {key[:8] or '(unknown)'} of this network is not in the store {store_name(folder)}{damage}",
            "run the plan again to compute it again, or name the folder of the store with --store",
        )
    return stored.get(key)


def _data_description(result: Result, found: FoundData, name: str) -> tuple[InputPreprocessing, tuple[str, ...]]:
    """How inputs are prepared, and the names of the classes. Raises TicketError if neither store nor data say so."""
    description = load_data_description(result.folder)
    if description is not None:
        floats = description.get("inputs", "uint8") != "uint8"
        shape = shape_from_json(description["shape"])
        preprocessing = preprocessing_for(shape, description["mean"], description["std"], floats=floats)
        return preprocessing, tuple(description["classes"])
    if found.dataset is None:
        raise TicketError(
            f"how the images of `{name}` are normalised is not stored with this result of an earlier tickdsl, "
            f"and the data is not at hand: {found.why_missing}",
            "name the folder of the data sets with --data",
        )
    return preprocessing_of(found.dataset), found.dataset.class_names


def _source(model: Mapping[str, Any], classes: int, shape: InputShape) -> NetworkSource:
    name = model["name"]
    try:
        code = network_identity(name, model["options"])
    except Exception as error:
        message = getattr(error, "message", str(error))
        raise TicketError(
            f"the network of this run cannot be built: {message}", getattr(error, "hint", None)
        ) from error
    return NetworkSource(name, architecture_options(model["options"]), classes, shape, code)


def _structure(result: Result, dense: DenseNetwork, state: RunState, choice: Choice, store: Path | None) -> Structure:
    parts = result.data["parts"]
    key = structure_of(result.key, parts["operation"], parts["args"], parts["parents"])
    if key is None:
        return Structure.dense(dense.graph)
    return transfer_structure(Structure.load(_stored(key, state, store).folder / STRUCTURE), dense.graph)


def _masked(state: Mapping[str, Tensor], dense: DenseNetwork, structure: Structure) -> dict[str, Tensor]:
    """The state dict with masked weights that are zero, and not negative zero."""
    masks = compact_masks(dense.graph, structure)
    aliases = dense.graph.aliases
    return {
        name: torch.where(masks[aliases.get(name, name)], tensor, torch.zeros((), dtype=tensor.dtype))
        if aliases.get(name, name) in masks
        else tensor
        for name, tensor in state.items()
    }


def _metrics(result: Result, choice: Choice) -> dict[str, Any]:
    """The figures of a ticket: those of its result, of its level over all seeds, and of the dense network."""
    standing = choice.standing
    metrics: dict[str, Any] = {name: result.metrics[name] for name in _KEPT_METRICS if name in result.metrics}
    if standing.score is not None:
        metrics["interval"] = attrs.asdict(standing.score)
    if standing.to_dense is not None:
        metrics["to_dense"] = attrs.asdict(standing.to_dense)
    if standing.verdict is not None:
        metrics["verdict"] = standing.verdict
    if choice.dense is not None:
        metrics["dense"] = {name: getattr(choice.dense, name) for name in _DENSE_METRICS}
        metrics["dense"] |= {name: value for name in _DENSE_SCORE if (value := getattr(choice.dense, name)) is not None}
    return metrics


def _origin(state: RunState, choice: Choice, result: Result) -> Origin:
    keys = {"result": result.key}
    keys |= {role: key for role, key in result.data["parts"]["parents"].items() if role in _KEPT_PARENTS}
    return Origin(
        run=state.run.run if state.run is not None else "",
        arm=choice.arm.id,
        level=choice.level,
        seed=choice.seed,
        contestant=choice.contestant,
        sweep=dict(choice.arm.sweep),
        keys=keys,
        made=dict(result.data["made"]),
    )


def _plan_text(paths: RunPaths) -> str:
    try:
        return paths.plan.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # a partly copied folder may lack the plan


def _with_changed_code(conditions: TestConditions, source: NetworkSource, test: TestInputs) -> TestConditions:
    """Conditions that allow no difference: the network's code was changed, which only its accuracy can excuse.

    Raises TicketError if that is not known.
    """
    if test.targets is None:
        raise TicketError(
            f"the code of `{source.name}` was changed since the run, and the test set is not at hand",
            "use the code of that time, run the plan again, or name the folder of the data sets with --data",
        )
    return attrs.evolve(conditions, differences=())
