"""A ticket: a pruned network with everything that is needed to use it outside the run that found it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from torch import Tensor, nn

from tickdsl.graph.structure import Structure
from tickdsl.results.scores import stored
from tickdsl.tickets.network_source import NetworkSource
from tickdsl.tickets.outputs import OutputInfo
from tickdsl.tickets.preprocessing import InputPreprocessing
from tickdsl.tickets.rebuilding import rebuild


@attrs.frozen(kw_only=True)
class Origin:
    """Where in which run a ticket was found; `level` 0 is the dense network.

    sweep: the values of the sweeps of its arm. keys: the keys of its results in the store, by role (`weights`,
    `structure`). made: versions and machine that its weights were trained with.
    """

    run: str = ""
    arm: str = ""
    level: int = 0
    seed: int | None = None
    contestant: str = "ticket"
    sweep: Mapping[str, Any] = attrs.field(factory=dict)
    keys: Mapping[str, str] = attrs.field(factory=dict)
    made: Mapping[str, Any] = attrs.field(factory=dict)


def _with_plain_zeros(weights: Mapping[str, Tensor], ticket: Any) -> dict[str, Tensor]:
    """The weights with zeros that have no sign where they are masked: a mask leaves the sign of what it removes."""
    masked = ticket.structure.masks
    return {name: tensor + 0.0 if name in masked else tensor for name, tensor in weights.items()}


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Ticket:
    """A pruned network.

    weights: the state dict of the compact network; masked weights are zero. structure: what is left of the dense
    network, with masks. task: the name of the task that it was trained for. outputs: the tensors that the network
    returns; empty in tickets of earlier versions. classes: the names of the classes, or of the numbers, in the order of
    the outputs. metrics: `accuracy` in [0, 1] (of another task than classification `score`, the name of that `metric`,
    and all `figures`), `interval` (`mean`, `half_width` and `n` of its level over the seeds), `params`, `macs`,
    `sparsity` and others, and those of the dense network in `dense`. plan: the text of its file, without included ones.
    versions: of the libraries that wrote it. probe: the outputs [2, K] for two fixed inputs, by which a network that
    was changed is recognised.
    """

    source: NetworkSource
    structure: Structure
    weights: Mapping[str, Tensor] = attrs.field(converter=attrs.Converter(_with_plain_zeros, takes_self=True))  # type: ignore[misc]
    preprocessing: InputPreprocessing
    classes: tuple[str, ...] = ()
    task: str = "classify"
    outputs: tuple[OutputInfo, ...] = ()
    metrics: Mapping[str, Any] = attrs.field(factory=dict)
    plan: str = ""
    origin: Origin = attrs.field(factory=Origin)
    versions: Mapping[str, str] = attrs.field(factory=dict)
    probe: Tensor | None = None

    def network(self, network: nn.Module | Callable[..., nn.Module] | None = None) -> nn.Module:
        """The compact network with its weights, in eval mode, on the CPU.

        network: the dense network or its factory, `(classes, shape, **options) -> nn.Module`, for a network that is
        not in the catalogue (default: the one that the ticket names).

        Raises TicketError if the network is missing, or is another one than when the ticket was written.
        """
        return rebuild(self, network)

    @property
    def metric(self) -> str:
        """The name of the metric that the network was judged by."""
        return str(self.metrics.get("metric", "accuracy"))

    @property
    def score(self) -> float | None:
        """The value of `metric`, as measured in the run; None if it is not known."""
        value = self.metrics.get("score", self.metrics.get("accuracy"))
        return None if value is None else float(value)

    def preprocess(self, inputs: Any) -> Any:
        """Prepare images or tokens for the network; see `Preprocessing` and `TokenPreprocessing`.

        Several inputs, a dictionary, are prepared for `network(**prepared)`.
        """
        return self.preprocessing(inputs)

    def __repr__(self) -> str:
        score = stored(self.metrics)
        place = f"{self.origin.arm}, round {self.origin.level}, seed {self.origin.seed}" if self.origin.arm else ""
        known = [self.source.title, place, "" if score is None else " ".join(score)]
        return f"<Ticket: {', '.join(part for part in known if part)}>"
