"""What the Python interface raises when a run does not come to its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.results.step_labels import readable_label, sharing

if TYPE_CHECKING:
    from tickdsl.api.results import Results
    from tickdsl.results.state import StepState


class ShortInNotebooks:
    """Part of an exception that says everything in its message: notebooks show that without the frames of tickdsl."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows."""
        return [f"{type(self).__name__}: {self}"]


class RunError(TickdslError, ShortInNotebooks):
    """Steps of a run have failed, or the run was stopped. What is finished is stored: the next call goes on from it.

    Attributes:
        failures: The error messages of the failed steps, by step.
        results: The results of the steps that are finished.
    """

    def __init__(self, message: str, hint: str, results: Results, failures: Mapping[str, str]) -> None:
        super().__init__(message, hint)
        self.results = results
        self.failures = dict(failures)


def failed_run(results: Results, failed: Sequence[StepState]) -> RunError:
    """The error of a run with failed steps."""
    failures = {_title(step): step.error or "no error message" for step in failed}
    steps = "\n".join(f"  {step}: {error}" for step, error in failures.items())
    return RunError(
        f"{plural(len(failed), 'step')} failed\n{steps}",
        f"correct the cause and call `tickdsl.run` again: it repeats only what is not stored; see {results.folder}",
        results,
        failures,
    )


def _title(step: StepState) -> str:
    """`train ticket, round 3, colt, seed 1`."""
    seed = [] if step.info.seed is None else [f"seed {step.info.seed}"]
    return ", ".join([readable_label(step.info.label), *sharing(step.info.arms), *seed])


def stopped_run(results: Results) -> RunError:
    """The error of a run that was asked to stop."""
    return RunError("the run was stopped", "the same call of `tickdsl.run` continues it", results, {})


def interrupted_run() -> KeyboardInterrupt:
    """The interrupt of a run that has saved checkpoints.

    It is of no class of its own: only a plain KeyboardInterrupt ends a script as Ctrl-C does.
    """
    error = KeyboardInterrupt("the run was interrupted; the same call continues it")
    error._render_traceback_ = lambda: [f"KeyboardInterrupt: {error}"]  # type: ignore[attr-defined]  # for notebooks
    return error


RunError.__module__ = "tickdsl"  # where users find it, and what tracebacks show
