"""Results of a run: its state, standings with verdicts, tables, plots and exports. Reads records only."""

from tickdsl.results.state import RunState, StepState
from tickdsl.results.state_builder import StateBuilder, apply_event, build_state

__all__ = ["RunState", "StateBuilder", "StepState", "apply_event", "build_state"]
