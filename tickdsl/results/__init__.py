"""What a person reads: state, verdicts, tables."""

from tickdsl.results.fold import StateBuilder, apply_event, build_state
from tickdsl.results.state import RunState, StepState

__all__ = ["RunState", "StateBuilder", "StepState", "apply_event", "build_state"]
