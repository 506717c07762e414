"""Stored results, events and files of a run. Loads no torch."""

from tickdsl.records.canonical import canonical_json, digest
from tickdsl.records.control import ControlReader, Request, send_request
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import EventDecoder, EventReader, EventWriter, read_events
from tickdsl.records.paths import RunPaths, find_run, list_runs, new_run
from tickdsl.records.process import Process
from tickdsl.records.store import Draft, Result, Store

__all__ = [
    "ControlReader",
    "Draft",
    "EventDecoder",
    "EventReader",
    "EventRecord",
    "EventWriter",
    "Process",
    "Request",
    "Result",
    "RunPaths",
    "Store",
    "canonical_json",
    "digest",
    "find_run",
    "list_runs",
    "new_run",
    "read_events",
    "send_request",
]
