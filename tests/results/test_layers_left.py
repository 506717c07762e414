"""Layers of which almost nothing is left are named."""

import attrs
import pytest
from finished_runs import finished_run

from tickdsl.records.events import LayerInfo, Layers, Network
from tickdsl.results import RunState
from tickdsl.results.caveats import caveats
from tickdsl.results.layers_left import nearly_gone

LAYERS = tuple(
    LayerInfo(path=path, kind="conv", outputs=outputs, weights=weights)
    for path, outputs, weights in (("stem", 16, 144), ("mid", 64, 9216), ("wide", 128, 73_728), ("tiny", 2, 6))
)


def left(weights: dict[str, int], outputs: dict[str, int] | None = None, level: int = 4) -> Layers:
    return Layers(arm="colt", contestant="ticket", level=level, seed=1, weights=weights, outputs=outputs or {})


@pytest.mark.parametrize(
    ("weights", "outputs", "gone"),
    [
        ({}, {}, []),
        ({"stem": 2, "mid": 10, "wide": 74}, {}, []),
        ({"stem": 1, "mid": 9, "wide": 73}, {}, ["stem", "mid", "wide"]),
        ({"mid": 0}, {}, ["mid"]),
        ({"mid": 144}, {"mid": 1}, ["mid"]),
        ({"tiny": 1}, {"tiny": 1}, []),
    ],
)
def test_a_thousandth_or_a_single_one_of_many(
    weights: dict[str, int], outputs: dict[str, int], gone: list[str]
) -> None:
    assert nearly_gone(LAYERS, left(weights, outputs)) == gone


def run(*events: Layers) -> RunState:
    network = Network(arms=("colt",), model="m", params=1, macs=1, layers=LAYERS)
    layers = {(e.arm, e.contestant, e.level, e.seed): e for e in events}
    return attrs.evolve(finished_run(), networks={"colt": network}, layers=layers)


def test_the_notes_name_them_with_their_round() -> None:
    state = run(left({"mid": 3}, level=3), left({"stem": 1, "mid": 1, "wide": 1}))
    assert caveats(state) == ["colt, round 4: 3 of 4 layers are nearly gone (from round 3 on): `stem`, `mid`, `wide`"]
    assert caveats(run(left({"mid": 100}))) == []
