"""Replay of a recording by a virtual clock."""

import attrs
from hypothesis import given
from hypothesis import strategies as st
from recorded_run import recorded_events
from tickdsl.tui import ReplaySource
from tickdsl.tui.feed import Feed

from tickdsl.results import build_state


@attrs.define
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_events_come_when_they_are_due() -> None:
    clock = Clock()
    source = ReplaySource(recorded_events(), speed=10.0, clock=clock)
    assert len(source.poll()) == 1
    clock.now += 0.1
    due = source.poll()
    assert due
    assert all(record.t - recorded_events()[0].t <= 1.001 for record in due)
    clock.now += 1e6
    source.poll()
    assert source.position == len(recorded_events())
    assert source.poll() == []


def test_a_long_silence_is_cut() -> None:
    late = [*recorded_events()[:5], attrs.evolve(recorded_events()[5], t=recorded_events()[5].t + 86400)]
    assert ReplaySource(late, clock=Clock(), max_gap=60).length < 70


def test_stepping_goes_by_events_or_by_ends_of_steps() -> None:
    source = ReplaySource(recorded_events(), clock=Clock())
    source.step(1)
    assert not source.playing
    assert source.position == 2
    source.step(3)
    assert source.position == 5
    source.step(-2)
    assert source.position == 3
    source.step(1, by_step=True)
    assert recorded_events()[source.position - 1].event.type == "step.end"
    source.to_end()
    assert source.position == len(recorded_events())
    source.step(-1, by_step=True)
    assert recorded_events()[source.position - 1].event.type == "step.end"
    source.to_start()
    source.step(-1)
    assert source.position == 1


def test_speed_goes_up_and_down_without_a_jump() -> None:
    clock = Clock()
    source = ReplaySource(recorded_events(), speed=60.0, clock=clock)
    clock.now += 0.05
    before = source.elapsed
    source.change_speed(1)
    assert source.speed == 120
    assert source.elapsed == before
    for _ in range(20):
        source.change_speed(-1)
    assert source.speed == 1


def test_playing_at_the_end_starts_over() -> None:
    clock = Clock()
    source = ReplaySource(recorded_events(), clock=clock)
    source.to_end()
    source.play(False)
    source.play(True)
    assert source.elapsed == 0.0


@given(st.lists(st.sampled_from(["on", "back", "whole", "whole back", "start", "end", "wait", "faster"]), max_size=12))
def test_wherever_it_is_wound_to_the_state_is_that_of_the_events_so_far(moves: list[str]) -> None:
    clock = Clock()
    source = ReplaySource(recorded_events(), speed=5.0, clock=clock)
    feed = Feed(source)
    for move in moves:
        match move:
            case "on" | "back":
                source.step(1 if move == "on" else -1)
            case "whole" | "whole back":
                source.step(1 if move == "whole" else -1, by_step=True)
            case "start":
                source.to_start()
            case "end":
                source.to_end()
            case "wait":
                source.play(True)
                clock.now += 0.4
            case "faster":
                source.change_speed(1)
        feed.advance()
        assert feed.event_count == source.position
        assert feed.state == build_state(recorded_events()[: source.position])


def test_nothing_to_replay_is_no_error() -> None:
    source = ReplaySource([], clock=Clock())
    source.step(1)
    source.to_end()
    source.play(True)
    assert source.poll() == []
    assert source.now() == 0.0
