"""`union of ARM, …`: a round keeps what its own prune keeps, and what the tickets of other arms keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from step_runner import step_runner

from tickdsl.graph import Structure, trace
from tickdsl.lang.expansion import expand
from tickdsl.pruning.overlap import overlap
from tickdsl.training.models import create

TWO_ARMS = """\
arm a { prune UNIT local 50% x 2; rewind weights to init }
arm b { prune UNIT local 40% by random x 3; union of a; rewind weights to init }
"""


@pytest.mark.parametrize("unit", ["weights", "filters"])
def test_a_round_keeps_what_either_keeps(unit: str, tmp_path: Path) -> None:
    found = step_runner(tmp_path, TWO_ARMS.replace("UNIT", unit))
    theirs, ours = found.levels("a"), found.levels("b")
    assert len(ours) == 3
    for index, level in enumerate(ours):
        union = found.study.step(level.structure)
        assert (union.operation, union.args["at_least"]) == ("overlap", 1)
        assert union.parents["part 1"] == theirs[min(index, 1)].structure, "the same round, or the last one"
        own = found.structure(union.parents["part 0"])
        other, both = found.structure(union.parents["part 1"]), found.structure(level.structure)
        for name in both.extent.groups:
            sets = [set(each.kept.get(name, np.arange(each.extent.groups[name])).tolist()) for each in (own, other)]
            assert set(both.kept.get(name, np.arange(both.extent.groups[name])).tolist()) == sets[0] | sets[1]
        for name in own.masks.keys() | other.masks.keys():
            expected = own.masks.get(name, True) | other.masks.get(name, True)
            assert (both.masks.get(name, np.ones(both.extent.shapes[name], dtype=bool)) == expected).all()
        assert 0 < found.metrics(level.ticket)["sparsity"] < found.metrics(theirs[min(index, 1)].ticket)["sparsity"]


def test_tickets_of_other_data_are_joined(tmp_path: Path) -> None:
    """The other task has fewer classes, so that the classifiers differ."""
    text = """\
arm few  { data synthetic size=8 train=96 test=64 classes=4; prune filters 50%; rewind weights to init }
arm many { prune filters 50% by random; union of few; rewind weights to init }
"""
    found = step_runner(tmp_path, text)
    (few,), (many,) = found.levels("few"), found.levels("many")
    kept, united = found.structure(few.structure).kept, found.structure(many.structure)
    for name, units in kept.items():
        assert set(units.tolist()) <= set(united.kept.get(name, np.arange(united.extent.groups[name])).tolist())
    assert found.metrics(many.ticket)["filters"] >= found.metrics(few.ticket)["filters"]


def test_without_a_union_the_arm_has_the_steps_that_it_had(tmp_path: Path) -> None:
    """The prune before a union is that of the same arm without one."""
    plain = step_runner(tmp_path / "plain", TWO_ARMS.replace("UNIT", "filters").replace("union of a; ", ""))
    united = step_runner(tmp_path / "united", TWO_ARMS.replace("UNIT", "filters"))
    first = united.study.step(united.levels("b")[0].structure).parents["part 0"]
    assert first == plain.levels("b")[0].structure


def test_an_expanded_plan_has_the_same_steps(tmp_path: Path) -> None:
    found = step_runner(tmp_path / "a", TWO_ARMS.replace("UNIT", "filters") + "compare b\n")
    written = expand(found.study.plan)
    assert "union of a" in written
    again = step_runner(tmp_path / "b", written, head="")
    assert {m.step for m in again.study.measurements} == {m.step for m in found.study.measurements}


MODULE = create("small-cnn", classes=3, shape=(1, 8, 8), seed=0, options={"width": 0.5})
GRAPH = trace(MODULE, torch.zeros(2, 1, 8, 8))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_union_is_the_least_structure_that_contains_all_parts(data: st.DataObject) -> None:
    parts = []
    for _ in range(data.draw(st.integers(2, 4))):
        structure = Structure.dense(GRAPH)
        for group in GRAPH.channels:
            if group.reason is None:
                gone = data.draw(st.sets(st.integers(0, group.size - 1), max_size=group.size - 1))
                structure = structure.remove(group.name, sorted(gone)) if gone else structure
        parts.append(structure)
    united = overlap(GRAPH, parts, 1)
    for group in GRAPH.channels:
        sets = [set(part.kept.get(group.name, np.arange(group.size)).tolist()) for part in parts]
        assert set(united.kept.get(group.name, np.arange(group.size)).tolist()) == set.union(*sets)
