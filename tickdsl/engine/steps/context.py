"""The context that steps share in a process: data sets, networks, and the results of other steps."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork, dense_network
from tickdsl.engine.hooks import Hooks
from tickdsl.engine.machine.machine_choices import machine_choices
from tickdsl.engine.machine.shared_choices import ChoicesOfFirst
from tickdsl.engine.steps.dataset_cache import DatasetCache
from tickdsl.engine.steps.result_files import STRUCTURE, load_weights, result_record
from tickdsl.engine.steps.settings import Settings
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, slice_state_dict
from tickdsl.patient_reads import appears
from tickdsl.plan.steps import Step, structure_of
from tickdsl.pruning.transfer import transfer_structure
from tickdsl.records.bucket_store import open_store
from tickdsl.records.canonical import canonical_json
from tickdsl.records.store import Result
from tickdsl.training.catalogue import architecture_options
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.streaming.decoder_pool import share_cores
from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.parallel.ranks import Ranks

Metrics = dict[str, Any]


class Context:
    """One process's access to the store, with data sets and networks that were built before."""

    def __init__(self, settings: Settings, hooks: Hooks | None = None) -> None:
        self.settings = settings
        self.hooks = hooks or Hooks()
        self.store = open_store(settings.store, lambda message: self.hooks.warn(message), settings.generation)
        self.store.be_patient()
        self.device = torch.device(settings.device)
        #: The processes that run the current step together; None: this one alone.
        self.ranks: Ranks | None = None
        self._choices: MeasuredChoices = machine_choices(self.store.root, lambda message: self.hooks.log(message))
        self.jobs_at_work = 1  # in the whole run
        self.paused_seconds = 0.0  # since the tasks that are running have started
        self._datasets = DatasetCache(settings.data)
        share_cores(settings.jobs * max(1, len(settings.group)))

    @property
    def choices(self) -> MeasuredChoices:
        """The choices of this machine; of processes that run a step together, all follow the first one."""
        return self._choices if self.ranks is None else ChoicesOfFirst(self._choices, self.ranks)

    @choices.setter
    def choices(self, choices: MeasuredChoices) -> None:
        self._choices = choices

    @property
    def devices(self) -> list[torch.device]:
        """The devices of all processes that run the current step."""
        return [self.device] if self.ranks is None else [torch.device(name) for name in self.settings.group]

    @property
    def follows(self) -> bool:
        """Whether another process stores the result of the current step, which this one only helps to compute."""
        return self.ranks is not None and self.ranks.rank > 0

    # -- data sets and networks

    def dataset(self, spec: Mapping[str, Any], seed: int | None) -> Dataset:
        """The data set of a step, or the part of it that the step names.

        Raises TickdslError if the data are others than when the plan was read.
        """
        return self._datasets.get(spec, seed)

    def dense_network(self, step: Step) -> DenseNetwork:
        """The dense network of a step, with its graph."""
        data = self.dataset(step.args["data"], step.seed)
        model = step.args["model"]
        return dense_network(
            model["name"], canonical_json(architecture_options(model["options"])), data.classes, data.shape
        )

    # -- results of other steps

    def structure(self, key: str | None, graph: ModelGraph) -> Structure:
        """The structure that a step has stored; the dense structure if `key` is None."""
        if key is None:
            return Structure.dense(graph)
        # The networks of a data set and of its parts differ only in the classifier, so structures can be transferred.
        result = self.result(key)
        digest = result.data["files"][STRUCTURE]["sha256"]
        return transfer_structure(_load_structure(str(result.folder / STRUCTURE), digest), graph)

    def result(self, key: str) -> Result:
        """The result of a step, with the content of its files verified.

        Raises TickdslError if there is none, also after the time for which one of another machine may be invisible.
        """
        if not appears(lambda: self.store.check(key), self.settings.visibility_seconds):
            raise TickdslError(
                f"the result {key[:8]}, which this step needs, is damaged or was removed",
                "run the plan again to compute it again",
            )
        return self.store.get(key)

    def structure_of(self, key: str) -> str | None:
        """The step that holds the structure of the network whose weights a step has stored; None if that is dense."""
        parts = self.result(key).data["parts"]
        return structure_of(key, parts["operation"], parts["args"], parts["parents"])

    def step_parts(self, key: str) -> dict[str, Any]:
        """The parts of the step that made a result."""
        parts: dict[str, Any] = self.result(key).data["parts"]
        return parts

    def weights(self, key: str, target: Structure, graph: ModelGraph) -> dict[str, Tensor]:
        """The state dict that a step has stored, sliced to the structure `target`; this is how weights are rewound."""
        result = self.result(key)
        state = load_weights(result.folder)
        source = self.structure(self.structure_of(key), graph)
        return slice_state_dict(graph, state, source, target)

    def module(self, network: DenseNetwork, structure: Structure, state: Mapping[str, Tensor]) -> nn.Module:
        """An ordinary module with this structure and these weights."""
        module = compact(network.module, network.graph, structure)
        module.load_state_dict(dict(state))
        return module

    # -- results of this step

    def store_result(
        self, step: Step, write: Callable[[Path], Metrics], start_time: float, shared_by: int = 1
    ) -> Metrics:
        """Store the result of a step: the files that `write` puts into the given folder, and the metrics it returns.

        The time since `start_time` (monotonic), without pauses, is divided equally by the `shared_by` steps that ran
        together.
        """
        with self.store.writing(step.key) as draft:
            metrics = write(draft.folder)
            seconds = (time.monotonic() - start_time - self.paused_seconds) / shared_by
            draft.finish(self.record(step, metrics, seconds))
        return metrics

    def record(self, step: Step, metrics: Metrics, seconds: float) -> dict[str, Any]:
        """The record of a step's result, for result.json."""
        return result_record(step, metrics, seconds, self.settings, 1 if self.ranks is None else self.ranks.size)


@functools.lru_cache(maxsize=64)
def _load_structure(path: str, digest: str) -> Structure:
    """The structure in a file with this SHA-256; a result may be replaced by one that another run has made."""
    return Structure.load(Path(path))


def required_seed(step: Step) -> int:
    """The seed of a step. Raises ValueError if it has none."""
    if step.seed is None:
        raise ValueError(f"the {step.operation} step has no seed")
    return step.seed
