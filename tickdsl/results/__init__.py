"""What a person reads: state, verdicts, tables."""

from tickdsl.results.fold import Fold, apply, fold
from tickdsl.results.state import RunState, StepState

__all__ = ["Fold", "RunState", "StepState", "apply", "fold"]
