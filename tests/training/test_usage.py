"""Only training counts: neither pauses, nor what others in the stack or on the machine use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs
import pytest

from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.usage import Usage

STEPS = 10


@attrs.define
class Clock:
    """A clock that a test sets."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@attrs.define
class Watts:
    """A counter of a machine that uses one joule per second."""

    clock: Clock
    fails_at: float = float("inf")
    source: str = "rapl"
    last: float = 0.0
    readings: int = 0

    def read(self) -> float | None:
        self.readings += 1
        joules, self.last = self.clock.now - self.last, self.clock.now
        return joules if self.clock.now < self.fails_at else None


def energy(joules: float, seconds: float, jobs: float = 1) -> dict[str, object]:
    return {"energy": {"joules": joules, "seconds": seconds, "source": "rapl", "jobs": pytest.approx(jobs)}}


def test_a_pause_counts_neither_time_nor_energy() -> None:
    clock = Clock()
    usage = Usage(Watts(clock), clock)
    clock.now = 5.0  # preparing
    usage.resume()
    clock.now = 8.0
    usage.pause()
    clock.now = 1000.0
    usage.resume()
    usage.resume()
    clock.now = 1001.0
    assert usage.end_lap() == 4.0
    assert usage.end_lap() == 0.0
    assert usage.energy() == energy(4.0, 4.0)


def test_the_counter_is_read_every_minute_so_that_it_cannot_wrap_around_unseen() -> None:
    clock = Clock()
    counter = Watts(clock)
    usage = Usage(counter, clock)
    usage.resume()
    for second in range(150):
        clock.now = float(second)
        usage.tick()
    assert counter.readings == 3  # at the start, and after each minute


def test_energy_is_divided_among_the_jobs_at_work_not_those_allowed() -> None:
    clock = Clock()
    usage = Usage(Watts(clock), clock)
    usage.resume()
    for until, jobs in ((10.0, 1), (30.0, 4), (40.0, 1)):
        usage.tick(jobs)
        clock.now = until
    recorded = usage.energy()["energy"]
    assert recorded["joules"] / recorded["jobs"] == pytest.approx(10 + 20 / 4 + 10)


def test_a_counter_that_fails_ends_the_counting_and_not_the_training() -> None:
    clock = Clock()
    usage = Usage(Watts(clock, fails_at=100.0), clock)
    usage.resume()
    for second in range(0, 200, 10):
        clock.now = float(second)
        usage.tick()
    assert usage.end_lap() == 190.0
    assert usage.energy() == energy(60.0, 60.0)
    silent = Usage(Watts(clock, fails_at=0.0), clock)
    silent.resume()
    silent.tick()
    assert silent.energy() == Usage(None, clock).energy() == {}


def test_a_training_that_continues_elsewhere_counts_both_parts() -> None:
    clock = Clock()
    first = Usage(Watts(clock), clock)
    first.resume()
    first.set_share(2)
    clock.now = 6.0
    state = first.state_dict()
    second = Usage(Watts(clock), clock)
    second.load_state_dict(state)
    clock.now = 50.0
    second.resume()
    clock.now = 51.0
    assert second.end_lap() == 4.0
    assert second.energy() == energy(7.0, 4.0, jobs=7 / 4)


# -- in trainings


def job(seed: int, clock: Clock, folder: Path | None = None, lr: float = 0.01) -> TrainingJob:
    """A training of STEPS steps on a tiny data set."""
    data = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 80, "test": 40, "classes": 4})
    model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=seed, options={"width": 0.25})
    recipe = Recipe(length="2ep", lr=lr, batch=16)
    checkpoint = None if folder is None else Checkpointer(folder / str(seed), every_seconds=0)
    return TrainingJob(
        model=model, data=data, recipe=recipe, seed=seed, checkpoint=checkpoint, usage=Usage(None, clock)
    )


def seconds(histories: Iterable[object]) -> list[float]:
    return [sum(epoch.seconds for epoch in h.epochs) for h in histories if isinstance(h, TrainingHistory)]


def steady(clock: Clock, stop_after: int | None = None) -> Callable[[], None]:
    """A hook with which every step takes a second; with `stop_after`, it interrupts the training."""
    steps: Iterator[int] = iter(range(1000))

    def before_step() -> None:
        if next(steps) == stop_after:
            raise InterruptedError
        clock.now += 1.0

    return before_step


def test_a_pause_within_an_epoch_is_not_part_of_it() -> None:
    clock = Clock()
    training = job(1, clock)
    step = steady(clock)

    def before_step() -> None:
        training.usage.pause()
        clock.now += 1000.0
        training.usage.resume()
        step()

    assert seconds([train(**training.as_kwargs(), before_step=before_step)]) == [STEPS]


def test_a_stack_shares_its_time_and_a_training_that_goes_on_alone_keeps_its_share(tmp_path: Path) -> None:
    clock = Clock()
    jobs = [job(seed, clock, tmp_path) for seed in (1, 2)]
    assert seconds(train_stacked(jobs, InMemoryChoices(), before_step=steady(clock))) == [STEPS / 2, STEPS / 2]

    with pytest.raises(InterruptedError):
        train_stacked(
            [job(seed, clock, tmp_path / "stopped") for seed in (1, 2)],
            InMemoryChoices(),
            before_step=steady(clock, stop_after=6),
        )
    alone = job(1, clock, tmp_path / "stopped")
    histories = [train(**alone.as_kwargs(), before_step=steady(clock))]
    shared = STEPS - clock_steps(histories, clock)
    assert seconds(histories) == [pytest.approx(shared / 2 + (STEPS - shared))]
    assert 0 < shared < STEPS


def clock_steps(histories: list[TrainingHistory], clock: Clock) -> float:
    """The steps that the last training took: the clock counts all steps of the test."""
    return clock.now - STEPS - 6


def test_a_training_that_leaves_the_stack_leaves_its_time_to_the_others() -> None:
    clock = Clock()
    jobs = [job(1, clock), job(2, clock)]
    jobs[1] = attrs.evolve(jobs[1], on_epoch=None, recipe=jobs[1].recipe, step_callbacks={STEPS // 2: diverge})
    outcomes = train_stacked(jobs, InMemoryChoices(), before_step=steady(clock))
    assert seconds(outcomes) == [STEPS / 4 + STEPS / 2]


def diverge(state: object) -> None:
    from tickdsl.errors import TickdslError

    raise TickdslError("the training diverged")
