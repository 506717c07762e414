"""Passes what a run measures on to Weights & Biases or MLflow, where these are installed. Imports no torch."""

from tickdsl.trackers.backends import TRACKERS, require_trackers
from tickdsl.trackers.listener import TrackerListener

__all__ = ["TRACKERS", "TrackerListener", "require_trackers"]
