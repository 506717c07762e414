"""What a person reads: state, verdicts, tables."""

from tickdsl.results.state import RunState, StepState
from tickdsl.results.state_builder import StateBuilder, apply_event, build_state

__all__ = ["RunState", "StateBuilder", "StepState", "apply_event", "build_state"]
