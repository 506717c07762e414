"""tickdsl: a plan language for pruning and lottery-ticket experiments.

The names in `__all__` are the documented Python interface. Each is imported when it is first used, so that
`import tickdsl` is fast and loads no torch.
"""

from __future__ import annotations

from importlib import import_module

#: Type checkers take it for true. Importing it from typing would run a file of that name in the working folder, as
#: `python -m tickdsl` looks there first.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from tickdsl.api.arms import ArmResult, LevelResult, SeedResult
    from tickdsl.api.dense_subject import structure_of
    from tickdsl.api.errors import RunError
    from tickdsl.api.findings import Finding, PlanError
    from tickdsl.api.masked_networks import from_masks
    from tickdsl.api.plan_texts import check, format, parse
    from tickdsl.api.pruning import PruningWarning, prune
    from tickdsl.api.results import Results, open_run
    from tickdsl.api.running import run
    from tickdsl.errors import TickdslError, TicketError
    from tickdsl.tickets.ticket import Ticket
    from tickdsl.tickets.ticket_file import load, open_ticket

__version__ = "0.1.0"

__all__ = [
    "ArmResult",
    "Finding",
    "LevelResult",
    "PlanError",
    "PruningWarning",
    "Results",
    "RunError",
    "SeedResult",
    "TickdslError",
    "Ticket",
    "TicketError",
    "__version__",
    "check",
    "format",
    "from_masks",
    "load",
    "open_run",
    "open_ticket",
    "parse",
    "prune",
    "run",
    "structure_of",
]

#: The module of each public name. An added name is also in `__all__`, and above for type checkers.
_MODULES = {
    "ArmResult": "tickdsl.api.arms",
    "Finding": "tickdsl.api.findings",
    "LevelResult": "tickdsl.api.arms",
    "PlanError": "tickdsl.api.findings",
    "PruningWarning": "tickdsl.api.pruning",
    "Results": "tickdsl.api.results",
    "RunError": "tickdsl.api.errors",
    "SeedResult": "tickdsl.api.arms",
    "TickdslError": "tickdsl.errors",
    "Ticket": "tickdsl.tickets.ticket",
    "TicketError": "tickdsl.errors",
    "check": "tickdsl.api.plan_texts",
    "format": "tickdsl.api.plan_texts",
    "from_masks": "tickdsl.api.masked_networks",
    "load": "tickdsl.tickets.ticket_file",
    "open_run": "tickdsl.api.results",
    "open_ticket": "tickdsl.tickets.ticket_file",
    "parse": "tickdsl.api.plan_texts",
    "prune": "tickdsl.api.pruning",
    "run": "tickdsl.api.running",
    "structure_of": "tickdsl.api.dense_subject",
}

if not TYPE_CHECKING:  # type checkers see the imports above, and so report names that do not exist

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
