"""The advice after a stop, and the line of defaults before a run."""

from tickdsl.cli.plan_loading import defaults_line
from tickdsl.results.resuming import resuming_arguments


def test_the_advice_leaves_out_what_must_not_be_repeated() -> None:
    command = ("tickdsl", "run", "--fresh", "a.plan", "--detach", "--jobs", "2", "--plain", "--fresh")
    assert resuming_arguments(command) == ("tickdsl", "run", "a.plan", "--jobs", "2")


def test_defaults_are_one_line() -> None:
    messages = ["`train` uses the default `momentum=0.9`", "`prune` uses the default `by magnitude`"]
    assert defaults_line(messages) == "defaults: momentum=0.9, by magnitude; `tickdsl plan --expand` shows all"
    assert defaults_line([]) == ""
    many = defaults_line([f"`x` uses `{'setting' * 3}={n}`" for n in range(20)])
    assert len(many) <= 120
    assert ", …; `tickdsl plan --expand` shows all" in many
