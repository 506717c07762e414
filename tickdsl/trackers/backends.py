"""The trackers that can be named, and whether they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from tickdsl.errors import TickdslError
from tickdsl.trackers.backend_protocol import Backend

#: Names of trackers, which are also those of their packages and of the extras that install them.
TRACKERS = ("wandb", "mlflow")


def open_backend(name: str) -> Backend:
    """The backend of a tracker that is installed; imports its package."""
    if name == "wandb":
        from tickdsl.trackers.wandb_backend import WandbBackend

        return WandbBackend()
    from tickdsl.trackers.mlflow_backend import MlflowBackend

    return MlflowBackend()


def require_trackers(names: Iterable[str]) -> None:
    """Raise TickdslError for a tracker that does not exist or is not installed; imports none of them."""
    for name in names:
        if name not in TRACKERS:
            raise TickdslError(f"no tracker `{name}`", f"trackers are {' and '.join(TRACKERS)}")
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder `wandb`, in which earlier runs were saved, is no package
            raise TickdslError(f"the tracker {name} is not installed", f'run `pip install "tickdsl[{name}]"`')
