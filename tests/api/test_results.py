"""The object of a run's results agrees with its files."""

from __future__ import annotations

import csv
import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import pytest
from finished_runs import finished_run
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from task_runs import PRIMARY
from written_runs import write_run

import tickdsl
from tickdsl.api.frames import levels_frame, seeds_frame
from tickdsl.records.events import MetricInfo
from tickdsl.results import RunState
from tickdsl.results.export import results_csv, results_dict
from tickdsl.results.scores import axis_label, label

STATE = finished_run()
FEW = settings(max_examples=25, deadline=None)


@st.composite
def states(draw: st.DrawFn) -> RunState:
    """A finished run with some of its measurements, with other values, some of them missing."""
    numbers = st.none() | st.floats(0, 1)
    keys = draw(st.sets(st.sampled_from(sorted(STATE.metrics)), min_size=1))
    metrics = {
        key: attrs.evolve(STATE.metrics[key], accuracy=draw(numbers), loss=draw(numbers), best_epoch=draw(numbers))
        for key in sorted(keys)
    }
    return attrs.evolve(STATE, metrics=metrics)


def missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


@FEW
@given(states())
def test_a_frame_of_seeds_agrees_with_the_table_file(state: RunState) -> None:
    table = list(csv.DictReader(io.StringIO(results_csv(state))))
    frame = seeds_frame(state)
    assert len(frame) == len(state.metrics) == len(table)
    assert list(frame.columns) == list(table[0])
    for row, expected in zip(frame.to_dict("records"), table, strict=True):
        for name, text in expected.items():
            value = row[name]
            assert missing(value) if text == "" else str(value) == text or float(value) == float(text), name


@FEW
@given(states())
def test_frames_agree_with_the_results_file(state: RunState) -> None:
    frames = seeds_frame(state).set_index(["arm", "contestant", "level", "seed"])
    levels = levels_frame(state).set_index(["arm", "contestant", "level"])
    found = 0
    for arm in json.loads(json.dumps(results_dict(state)))["arms"]:
        for level in arm["levels"]:
            for contestant, entry in level["contestants"].items():
                found += 1
                row = levels.loc[(arm["id"], contestant, level["level"])]
                assert row["seeds"] == len(entry["seeds"])
                for name in ("accuracy", "to_dense", "lead"):
                    estimate = entry[name] or {"mean": None, "half_width": None}
                    for column, value in ((name, estimate["mean"]), (f"{name}.half_width", estimate["half_width"])):
                        assert missing(row[column]) if value is None else row[column] == value
                assert missing(row["verdict"]) if entry["verdict"] is None else row["verdict"] == entry["verdict"]
                for measured in entry["seeds"]:
                    seed = frames.loc[(arm["id"], contestant, level["level"], measured["seed"])]
                    for name in ("accuracy", "loss", "params", "best_epoch"):
                        assert missing(seed[name]) if measured[name] is None else seed[name] == measured[name]
    assert found == len(levels)


@pytest.fixture
def results(tmp_path: Path) -> tickdsl.Results:
    write_run(tmp_path / "runs")
    return tickdsl.open_run(out=tmp_path / "runs")


def test_a_run_is_opened_by_its_name_and_as_the_newest(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path, plan=name) for name in ("one", "two"))
    assert tickdsl.open_run(out=tmp_path).folder.resolve() == second.folder.resolve()
    assert tickdsl.open_run("one", out=tmp_path).folder == first.folder
    assert tickdsl.open_run(first.folder).folder == first.folder
    with pytest.raises(tickdsl.TickdslError, match="no run three"):
        tickdsl.open_run("three", out=tmp_path)


@pytest.mark.parametrize(
    ("end", "until", "status"),
    [(None, 40, ("running", "presumed crashed")), ("stopped", 40, ("stopped",)), ("failed", None, ("failed",))],
)
def test_a_run_that_has_not_ended_well_can_be_read(
    tmp_path: Path, end: str | None, until: int | None, status: tuple[str, ...]
) -> None:
    write_run(tmp_path, end=end, until=until)
    results = tickdsl.open_run(out=tmp_path)
    assert results.status in status
    assert len(results.frame()) == len(results._record.state.metrics)
    assert results.frame("level") is not None
    assert str(results) and results._repr_html_() and repr(results)


def test_arms_levels_and_seeds_are_taken_apart(results: tickdsl.Results) -> None:
    assert [arm.id for arm in results.arms] == ["colt", "imp"]
    arm = results.arm("colt")
    assert [level.number for level in arm.levels] == [0, 1, 2, 3]
    assert arm.conclusion == results.conclusions["colt"]
    frame = results.frame().set_index(["arm", "contestant", "level", "seed"]).sort_index()
    for level in arm.levels:
        means = frame.loc[(arm.id, level.contestant, level.number)]
        assert level.accuracy is not None
        assert level.accuracy.mean == pytest.approx(means["accuracy"].mean())
        for seed in level.seeds:
            assert seed.metrics["accuracy"] == means.loc[seed.number]["accuracy"]
            assert level.seed(seed.number) == seed
    control = arm.level(2, "random-init")
    assert (control.contestant, control.number) == ("random-init", 2)
    assert control.lead is not None


def test_an_arm_is_named_by_its_sweep_values(tmp_path: Path) -> None:
    write_run(tmp_path, arms=4)
    results = tickdsl.open_run(out=tmp_path)
    assert results.arm("colt", share=1).id == "colt[share=1]" == results.arm("colt[share=1]").id
    with pytest.raises(tickdsl.TickdslError, match="2 arms colt"):
        results.arm("colt")
    with pytest.raises(tickdsl.TickdslError, match="no arm colt, share=9"):
        results.arm("colt", share=9)


def test_what_was_not_measured_is_named(results: tickdsl.Results) -> None:
    with pytest.raises(tickdsl.TickdslError, match="no arm kd"):
        results.arm("kd")
    with pytest.raises(tickdsl.TickdslError, match="no results at level 9"):
        results.arm("colt").level(9)
    with pytest.raises(tickdsl.TickdslError, match="no `random` at level 1"):
        results.arm("colt").level(1, "random")
    with pytest.raises(tickdsl.TickdslError, match="no seed 9"):
        results.arm("colt").level(1).seed(9)
    with pytest.raises(tickdsl.TickdslError, match="`per` cannot be 'run'"):
        results.frame("run")  # type: ignore[arg-type]


def test_a_frame_without_pandas_says_how_to_get_it(results: tickdsl.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(tickdsl.TickdslError, match="pandas") as caught:
        results.frame()
    assert 'pip install "tickdsl[pandas]"' in str(caught.value)


def test_arms_are_compared_as_objects_and_as_a_frame(results: tickdsl.Results) -> None:
    (pair,) = results.differences()
    (written,) = results_dict(results._record.state)["differences"]
    assert (pair.first, pair.second, pair.answer) == (written["first"], written["second"], written["answer"])
    assert pair.answer.startswith("colt beats imp by 3.94") and pair.answer in repr(pair)
    frame = results.frame("difference")
    assert list(frame["difference"]) == [level["difference"]["mean"] for level in written["levels"]]
    assert list(frame["verdict"]) == [level.verdict for level in pair.levels] == ["undecided", "ahead", "ahead"]
    with pytest.raises(tickdsl.TickdslError, match="`per` cannot be 'pair'"):
        results.frame("pair")  # type: ignore[arg-type]


def test_what_training_took_is_beside_accuracy(results: tickdsl.Results) -> None:
    level = results.arm("imp").level(3)
    assert level.trained is not None and (level.trained.epochs, level.trained.images) == (32, 4 * 11_496)
    assert level.trained.seconds == pytest.approx(4 * 2.4)
    control = results.arm("imp").level(3, "random-init").trained
    assert control is not None and control.epochs == 8
    by_level = results.frame("level").set_index(["arm", "contestant", "level"])
    assert by_level.loc[("imp", "ticket", 3), "trained.epochs"] == 32
    assert set(results.frame()["trained.images"]) == {n * 11_496 for n in (1, 2, 3, 4)}


def test_a_run_is_plotted(results: tickdsl.Results, tmp_path: Path) -> None:
    figure = results.plot("pareto", width="84mm", title=False, arms="imp")
    assert figure.get_figwidth() == pytest.approx(84 / 25.4)
    shown = {text.get_text() for text in figure.findobj(Text)}
    assert "imp" in shown and "colt" not in shown
    figure.savefig(tmp_path / "imp.pdf")
    assert (tmp_path / "imp.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(tickdsl.TickdslError, match="no figure `pie`"):
        results.plot("pie")  # type: ignore[arg-type]


def test_reports_are_written_where_they_are_wanted(results: tickdsl.Results, tmp_path: Path) -> None:
    assert results.report() == results.folder / "report.html"
    assert "<html" in results.report().read_text()
    assert results.report(tmp_path / "here.csv", "csv") == tmp_path / "here.csv"
    assert (tmp_path / "here.csv").read_text() == results_csv(results._record.state)
    with pytest.raises(tickdsl.TickdslError, match="`format` cannot be 'docx'"):
        results.report(format="docx")  # type: ignore[arg-type]


class Cells(HTMLParser):
    """The texts of the table cells, and the tags that are open at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag not in ("br", "wbr", "input", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.texts.append(data)


def test_a_notebook_shows_a_table_per_arm(results: tickdsl.Results) -> None:
    page = results._repr_html_()
    cells = Cells(page)
    assert cells.open == []
    assert page.count("<caption>") == 2
    assert {"dense", "1", "2", "3"} <= set(cells.texts)
    assert "<script" not in page


def test_many_arms_are_folded_away(tmp_path: Path) -> None:
    write_run(tmp_path, arms=30, seeds=(1,), levels=1)
    page = tickdsl.open_run(out=tmp_path)._repr_html_()
    assert Cells(page).open == []
    assert page.count("<caption>") == 30 and page.startswith('<div class="tickdsl">')
    assert page.index("<details><summary>Rounds of 30 arms") < page.index("<caption>")


def test_names_cannot_break_out_of_the_page() -> None:
    state = attrs.evolve(STATE, arms=tuple(attrs.evolve(arm, name="<b>") for arm in STATE.arms))
    hostile = attrs.evolve(state.arms[0], id="<script>alert(1)</script>")
    metrics = {(hostile.id, *key[1:]): metric for key, metric in state.metrics.items() if key[0] == "colt"}
    state = attrs.evolve(state, arms=(hostile,), metrics=metrics)
    from tickdsl.report.fragment import results_fragment
    from tickdsl.report.source import ReportSource

    page = results_fragment(ReportSource(state, "", "ok"))
    assert "alert(1)" in page and "<script" not in page


@pytest.mark.parametrize("metric", PRIMARY, ids=lambda metric: metric.name)
def test_arms_of_other_tasks_have_scores(tmp_path: Path, metric: MetricInfo) -> None:
    results = tickdsl.open_run(write_run(tmp_path, metrics=(metric,)).folder)
    arm = results.arm("colt")
    assert (arm.task, arm.metric, arm.higher_is_better) == ("made-up", metric.name, metric.higher_is_better)
    level = arm.level(1)
    assert level.score is not None and level.accuracy is None
    seeds = [seed.metrics for seed in level.seeds]
    assert [values["score"] for values in seeds] == [values[metric.name] for values in seeds]
    assert level.score.mean == pytest.approx(sum(values["score"] or 0.0 for values in seeds) / 3)
    shown = f"{level!r} {level.seeds[0]!r} {results} {results._repr_html_()}"
    assert "accura" not in shown and label(metric) in shown
    frame = results.frame("level")
    assert set(frame["metric"]) == {metric.name} and frame["accuracy"].isna().all() and frame["score"].notna().all()
    assert results.frame()["score"].notna().all() and f"score.{metric.name}" in results.frame().columns
    assert set(results.frame("difference")["metric"]) == {metric.name}
    assert {difference.metric for difference in results.differences()} == {metric.name}
    figure = results.plot()
    assert axis_label(metric) in {text.get_text() for text in figure.findobj(Text)}
    best = results.best()
    assert best.score is not None


def test_arms_of_classifiers_have_both(tmp_path: Path) -> None:
    level = tickdsl.open_run(write_run(tmp_path).folder).arm("colt").level(1)
    assert level.score == level.accuracy and level.score is not None
    assert level.seeds[0].metrics["score"] == level.seeds[0].metrics["accuracy"]
