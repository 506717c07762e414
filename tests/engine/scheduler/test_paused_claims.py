"""A run that waits for a paused one says so, and how to continue that one."""

from __future__ import annotations

import random
from pathlib import Path

from simulated_runs import FakeWorkers, Group, World, simulated_processes
from test_step_scheduler import make_study

from tickdsl.engine.messages import Message, Task
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.scheduler.peer_runs import PeerRuns
from tickdsl.records import Store
from tickdsl.records.control import ControlReader, send_request

NOTE = "which is paused; continue it with `tickdsl resume runs/a`"


def test_a_run_that_waits_for_a_paused_one_says_so(tmp_path: Path) -> None:
    study = make_study("prune weights 20%; rewind lr\n")
    world = World(tmp_path, study, random.Random(0), frozenset())
    control = tmp_path / "control.jsonl"
    store = Store(world.store)
    said: list[str] = []
    other = PeerRuns(Store(world.store), lambda key, holder: said.append(holder), clock=lambda: world.now)

    def between() -> None:
        """The other run looks for the training that this one has claimed."""
        training = next((task.step.key for task in workers.trainings()), None)
        if training is None or (said and training not in other.keys):
            return
        own = world.current.pid
        world.new_process()
        if not other.keys:
            assert other.hold(training)
            requests.append(send_request(control, "pause").command)
        else:
            assert other.pop_released() == []
        world.end_process()
        world.current.pid = own
        if len(said) == 2 and len(requests) == 1:
            requests.append(send_request(control, "resume").command)

    class Patient(FakeWorkers):
        """Finishes no training before the other run has seen it paused and continued."""

        def trainings(self) -> list[Task]:
            return [task for group in self.groups for task in group.tasks if task.step.operation == "train"]

        def _finish(self, group: Group) -> list[Message]:
            return super()._finish(group) if len(said) == 3 or not self.trainings() else []

    requests: list[str] = []
    workers = Patient(world, store, 1, True, between)
    with simulated_processes(world):
        world.new_process()
        interpreter = Interpreter(study, store, lambda event: None, ControlReader(control), pause_note=NOTE)
        assert interpreter.run(lambda: workers) == 0
        pid = world.current.pid
    assert said[0] == f"process {pid} on {world.this_process().host}"
    assert said[1] == f"{said[0]}, {NOTE}"
    assert said[2:] == [said[0]]
    assert not list(world.store.glob("claims/*"))
