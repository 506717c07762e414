"""Rebuild the network of a ticket: the dense network, cut to the structure, with the ticket's weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork, dense_network
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.graph.tracing.trace import trace
from tickdsl.plugins import code_allowed, is_quoted_target
from tickdsl.pruning.transfer import transfer_structure
from tickdsl.records.canonical import canonical_json
from tickdsl.tickets.errors import TicketError
from tickdsl.tickets.network_source import NetworkSource
from tickdsl.tickets.outputs import probe_of
from tickdsl.tickets.preprocessing import InputPreprocessing
from tickdsl.training.example_inputs import example_inputs, trace_arguments
from tickdsl.training.named_tensors import NamedTensors, run_network
from tickdsl.training.tasks import Outputs

NetworkOrFactory = nn.Module | Callable[..., nn.Module]
#: The largest difference of outputs between machines and versions of torch, as a share of the largest output.
_ROUNDING = 1e-3


class NetworkParts(Protocol):
    """What a ticket says about its network."""

    @property
    def source(self) -> NetworkSource: ...
    @property
    def structure(self) -> Structure: ...
    @property
    def weights(self) -> Mapping[str, Tensor]: ...
    @property
    def preprocessing(self) -> InputPreprocessing: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def probe(self) -> Tensor | None: ...


def rebuild(ticket: NetworkParts, network: NetworkOrFactory | None = None) -> nn.Module:
    """The compact network of a ticket with its weights, in eval mode, on the CPU; see `Ticket.network`.

    Raises TicketError if the network is missing, or is another one than when the ticket was written.
    """
    dense = dense_network_of(ticket.source, network)
    try:
        structure = transfer_structure(ticket.structure, dense.graph)
        module = compact(dense.module, dense.graph, structure)
        module.load_state_dict(dict(ticket.weights))
    except (TickdslError, RuntimeError) as error:
        raise _changed(ticket, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    module.eval()
    if ticket.probe is not None:
        _verify_probe(ticket, module, ticket.probe)
    return module


def dense_network_of(source: NetworkSource, network: NetworkOrFactory | None = None) -> DenseNetwork:
    """The dense network of a source, with its graph. Raises TicketError if it is missing or does not fit its images."""
    try:
        if network is not None:
            return _own_network(source, network)
        if is_quoted_target(source.name) and not code_allowed():
            raise TicketError(
                f"the network of this ticket is `{source.name}`, which is code of its user and needs permission to run",
                f"pass it: `tickdsl.load(path, network={source.name.rpartition(':')[2]})`; "
                "of a run, open it with `tickdsl.open_run(…, allow_code=True)`; on the command line, add --allow-code",
            )
        return dense_network(source.name, canonical_json(dict(source.options)), source.classes, source.shape)
    except TicketError:
        raise
    except TickdslError as error:
        raise TicketError(f"the network of this ticket cannot be built: {error.message}", error.hint) from error


def _own_network(source: NetworkSource, network: NetworkOrFactory) -> DenseNetwork:
    module = network if isinstance(network, nn.Module) else _call(source, network)
    if not isinstance(module, nn.Module):
        raise TicketError(
            f"`network` returns {type(module).__name__}, not a network", "pass a torch.nn.Module or its factory"
        )
    graph = trace(module.cpu(), trace_arguments(example_inputs(2, source.shape, "meta")))
    return DenseNetwork(module, graph, source.shape, source.classes)


def _call(source: NetworkSource, factory: Callable[..., nn.Module]) -> object:
    """Call a factory as plans do, or without arguments if it takes none."""
    options = {name.replace("-", "_"): value for name, value in source.options.items()}
    try:
        inspect.signature(factory).bind(source.classes, source.shape, **options)
        args: tuple[object, ...] = (source.classes, source.shape)
    except (TypeError, ValueError):
        args, options = (), {}
    with torch.random.fork_rng(devices=[]):
        try:
            return factory(*args, **options)
        except TickdslError:
            raise
        except Exception as error:
            raise TicketError(
                f"the factory of the network raised {type(error).__name__}: {error}",
                f"it is called with {source.classes} outputs and the input shape {source.shape}",
            ) from error


def probe_inputs(preprocessing: InputPreprocessing) -> Tensor | NamedTensors:
    """Two inputs that are the same everywhere, as the network takes them: float32 [2, C, H, W] or int64 [2, T]."""
    fixed: Any = preprocessing.fixed(2)
    return preprocessing(fixed)


def run_probe(module: nn.Module, preprocessing: InputPreprocessing) -> Outputs:
    """The outputs of a network in eval mode for `probe_inputs`; what it draws at random is the same each time."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outputs: Outputs = run_network(module, probe_inputs(preprocessing))
            return outputs
    finally:
        module.train(was_training)


def probe_outputs(module: nn.Module, preprocessing: InputPreprocessing) -> Tensor:
    """The outputs for `probe_inputs`, by which a changed network is recognised: float32 [2, K]; see `probe_of`."""
    return probe_of(run_probe(module, preprocessing))


def _verify_probe(ticket: NetworkParts, module: nn.Module, expected: Tensor) -> None:
    try:
        outputs = probe_outputs(module, ticket.preprocessing)
    except Exception as error:  # the code of a user's network may raise anything
        raise _changed(ticket, f"it raises {type(error).__name__}: {error}") from error
    if outputs.shape == expected.shape:
        known = torch.isfinite(expected)
        scale = float(expected[known].abs().max()) if known.any() else 1.0
        difference = float((outputs - expected)[known].abs().max()) if known.any() else 0.0
        if difference <= _ROUNDING * max(scale, 1e-6):
            return
    raise _changed(ticket, "with the same weights it computes other outputs")


def _changed(ticket: NetworkParts, what: str) -> TicketError:
    """The error for a network that is not the one that the ticket was written with."""
    version = ticket.versions.get("tickdsl", "unknown")
    if ticket.source.is_own:
        return TicketError(
            f"the network `{ticket.source.name}` is not the one that this ticket was written with: {what}",
            "use the code of that time, or export the ticket again from its run",
        )
    return TicketError(
        f"the network `{ticket.source.name}` is not the one that this ticket was written with "
        f"(tickdsl {version}): {what}",
        f"install tickdsl {version}, or export the ticket again from its run",
    )
