"""States of finished runs with made-up measurements."""

from typing import Any

from tickdsl.records.events import ArmInfo, Metric, RunStart
from tickdsl.records.image_flags import encode_flags
from tickdsl.results import RunState

RUN = RunStart(
    run="colt-20260102-030405-00ff", plan="colt", path="colt.plan", argv=("run",), pid=7, host="h", boot="b",
    versions={"torch": "2.13.0"}, jobs=2, device="cpu", store="store",
)  # fmt: skip


IMAGES = 10_000


def _tested(accuracy: float) -> dict[str, Any]:
    """A test set whose first images are classified correctly, so that networks disagree on as few as possible."""
    correct = round(accuracy * IMAGES)
    return {"test_images": IMAGES, "chance": 0.1, "correct": encode_flags(b"\1" * correct + b"\0" * (IMAGES - correct))}


def finished_run(
    seeds: tuple[int, ...] = (1, 2, 3), controls: tuple[str, ...] = ("random-init", "random-structure")
) -> RunState:
    """Two arms, four rounds of 50%; accuracies fall with the round and vary a little with the seed."""
    arms = (
        ArmInfo(id="colt", name="colt", sweep={}, levels=4),
        ArmInfo(id="imp[scope=local]", name="imp", sweep={"scope": "local"}, levels=4),
    )
    metrics = {}
    for index, arm in enumerate(arms):
        for seed in seeds:
            for level in range(5):
                noise = ((seed * 7 + level * seed * 5 + index * 3) % 11 - 5) / 5000
                for contestant in ("dense",) if level == 0 else ("ticket", *controls):
                    loss = 0.0 if contestant == "dense" else (0.004 + 0.02 * index) * max(0, level - 2)
                    loss += {"random-init": 0.02, "random-structure": 0.015}.get(contestant, 0.0) * level
                    metrics[arm.id, contestant, level, seed] = Metric(
                        arm=arm.id, contestant=contestant, level=level, seed=seed, step=f"s{level}",
                        accuracy=round(0.95 + noise - loss, 4), loss=0.25, sparsity=1 - 0.5**level,
                        params=272_474 >> level, macs=41_000_000 >> level, **_tested(round(0.95 + noise - loss, 4)),
                    )  # fmt: skip
    return RunState(
        run=RUN,
        status="ok",
        arms=arms,
        contestants=("ticket", "dense", *controls),
        seeds=seeds,
        within=0.005,
        metrics=metrics,
        notes=("the model is small-cnn",),
    )
