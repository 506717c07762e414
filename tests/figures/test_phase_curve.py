"""The phase curve: arms that differ in a share are one line, at their differences from dense, paired by seed."""

from __future__ import annotations

import attrs
import pytest
from drawn_figures import names, networks, texts
from finished_runs import finished_run
from task_runs import RMSE, task_run

from tickdsl.errors import TickdslError
from tickdsl.figures import figure, figure_options, render_figure
from tickdsl.figures.phase_data import describe_phases, has_phases, read_phases
from tickdsl.records.events import ArmInfo
from tickdsl.report.drawings import main_figures
from tickdsl.report.source import ReportSource
from tickdsl.results import RunState
from tickdsl.results.standings import compute_standings

SHARES = (5, 20, 40, 60)
NAMES = ("winning", "random", "losing")


def swept_run(scope: bool = False) -> RunState:
    """Three arms over a sweep of shares, and if `scope` says so, over one of words; each falls faster than the last."""
    base = finished_run(controls=("random-structure",))
    arms, metrics = [], {}
    for rank, name in enumerate(NAMES):
        for share in SHARES:
            for word in ("local", "global") if scope else ("",):
                sweep = {"share": f"{share}%", **({"scope": word} if word else {})}
                arm = f"{name}[{', '.join(f'{key}={value}' for key, value in sweep.items())}]"
                arms.append(ArmInfo(id=arm, name=name, sweep=sweep, levels=1))
                for seed in base.seeds:
                    dense = base.metrics["colt", "dense", 0, seed]
                    assert dense.accuracy is not None
                    lost = 0.001 * (share - 10) * (rank + 1) + 0.0007 * seed * (word == "global")
                    metrics[arm, "dense", 0, seed] = attrs.evolve(dense, arm=arm)
                    for contestant in ("ticket", "random-structure"):
                        metrics[arm, contestant, 1, seed] = attrs.evolve(
                            dense, arm=arm, contestant=contestant, level=1, step=f"{arm} {contestant}", correct=None,
                            accuracy=dense.accuracy - lost, sparsity=share / 100 - 0.001 * seed,
                        )  # fmt: skip
    return attrs.evolve(base, arms=tuple(arms), metrics=metrics)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_at_its_difference_from_dense(name: str) -> None:
    state = swept_run()
    standings = compute_standings(state)
    markers = networks(figure(state, "phase"), f"{name} ticket")
    assert len(markers) == len(SHARES)
    for marker, share in zip(markers, SHARES, strict=True):
        difference = standings[f"{name}[share={share}%]", "ticket", 1].to_dense
        assert difference is not None
        assert marker.x == pytest.approx(share - 0.2)  # the mean over three seeds
        assert marker.y == pytest.approx(100 * difference.mean)
        assert (marker.low, marker.high) == pytest.approx((100 * difference.low, 100 * difference.high))  # type: ignore[operator]


def test_dense_is_the_line_at_0_and_losses_are_negative() -> None:
    drawn = figure(swept_run(), "phase")
    assert "accuracy minus dense (points)" in texts(drawn) and "dense" in texts(drawn)
    (axes,) = drawn.axes
    (dense,) = [line for line in axes.lines if line.get_label() == "dense line"]
    assert set(dense.get_ydata()) == {0.0}
    assert axes.get_xlim()[0] == 0.0 < 60 < axes.get_xlim()[1] < 65
    assert axes.get_ylim()[0] < -100 * 0.001 * 50 * 2


def test_a_sweep_of_words_has_a_line_for_each() -> None:
    lines = {curve.arm.label for curve in read_phases({"run": swept_run(scope=True)}, figure_options("phase")).curves}
    assert lines == {f"{name}[scope={scope}]" for name in NAMES for scope in ("local", "global")}


def test_arms_and_controls_can_be_chosen() -> None:
    state = swept_run()
    assert names(figure(state, "phase", arms="losing")) == {"losing ticket"}
    both = names(figure(state, "phase", arms="losing,winning", controls=True))
    assert both == {f"{arm} {who}" for arm in ("losing", "winning") for who in ("ticket", "random-structure")}
    with pytest.raises(TickdslError, match="no arm `missing`"):
        figure(state, "phase", arms="missing")


def test_rounds_of_an_arm_without_a_sweep_are_a_line() -> None:
    state = finished_run()
    assert not has_phases({"run": state})
    curves = read_phases({"run": state}, figure_options("phase")).curves
    assert [(curve.arm.label, len(curve.points)) for curve in curves] == [("colt", 4), ("imp[scope=local]", 4)]
    assert [point.x for point in curves[0].points] == [50.0, 75.0, 87.5, 93.75]


def test_a_metric_of_which_less_is_better_says_so() -> None:
    drawn = figure(task_run(RMSE, scale=40.0, state=swept_run()), "phase")
    assert "RMSE minus dense (lower is better)" in texts(drawn)
    assert networks(drawn, "losing ticket")[-1].y == pytest.approx(40 * 0.001 * 50 * 3)


def test_a_report_of_a_sweep_has_the_phase_curve_after_the_scores() -> None:
    state = swept_run()
    scores, phase = main_figures([ReportSource(state, "", "ok")])
    assert (scores.title, phase.title) == (
        "Accuracy against the weights left", "Accuracy relative to dense, by what is removed"
    )  # fmt: skip
    assert "weights removed (%)" in phase.wide()
    assert phase.description.startswith("winning goes from +0.5 points with 5% removed to −5 points with 60%. random")
    assert phase.description == describe_phases(read_phases({state.run.run: state}, figure_options("phase")))
    assert len(main_figures([ReportSource(finished_run(), "", "ok")])) == 1


def test_nothing_measured_is_one_message() -> None:
    state = attrs.evolve(swept_run(), metrics={})
    with pytest.raises(TickdslError, match="no differences from dense to plot in run"):
        render_figure({"run": state}, "pdf", figure_options("phase"))
