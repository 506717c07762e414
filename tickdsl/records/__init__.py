"""What a run leaves behind: store, events, paths. Imports no torch."""

from tickdsl.records.canonical import canonical, digest
from tickdsl.records.control import ControlReader, Request, request
from tickdsl.records.decode import Record
from tickdsl.records.journal import EventDecoder, EventReader, EventWriter, read_events
from tickdsl.records.paths import RunPaths, find_run, new_run, runs
from tickdsl.records.process import Process
from tickdsl.records.store import Draft, Result, Store

__all__ = [
    "ControlReader",
    "Draft",
    "EventDecoder",
    "EventReader",
    "EventWriter",
    "Process",
    "Record",
    "Request",
    "Result",
    "RunPaths",
    "Store",
    "canonical",
    "digest",
    "find_run",
    "new_run",
    "read_events",
    "request",
    "runs",
]
