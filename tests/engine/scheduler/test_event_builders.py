"""What a resolved plan tells the readers of a run."""

from pathlib import Path

import pytest
from step_runner import step_runner

from tickdsl.engine.scheduler.event_builders import plan_resolved_event


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("prune weights 20% x 3; rewind lr", ()),
        ("prune weights 20% x 3; rewind lr\nstop when sparsity >= 40%", ()),
        (
            "prune weights 20% x 3; rewind lr\nstop when accuracy < 90%\nstop when loss > 2",
            ("accuracy < 90%", "loss > 2"),
        ),
        ("prune weights 20% x 3 until accuracy < 85%; rewind lr", ("accuracy < 85%",)),
    ],
)
def test_conditions_on_test_results_are_told(tmp_path: Path, text: str, stops: tuple[str, ...]) -> None:
    """Readers give rounds that such a condition kept a seed from no verdict, and count them."""
    event = plan_resolved_event(step_runner(tmp_path, text).study, lambda key: False)
    assert event.stops == stops
