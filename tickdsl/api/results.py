"""The results of a run as an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from tickdsl.api.arms import ArmResult, LevelResult
from tickdsl.api.differences import Difference, differences
from tickdsl.api.exports import ExportFormatName
from tickdsl.api.plan_sources import SetValue, StrPath, data_folder, set_texts
from tickdsl.api.run_record import RunRecord
from tickdsl.api.store_path import require_store_path
from tickdsl.argument_types import require_path, require_whole
from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.records.files import write_atomically
from tickdsl.records.paths import find_newest_run
from tickdsl.report.source import ReportSource, read_source, source_from_state
from tickdsl.results.caveats import alarms
from tickdsl.results.conclusions import conclusions
from tickdsl.tickets.choice import DENSE, TICKET, Wanted, choose

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FigureKind = Literal["score", "accuracy", "flops", "layers", "pareto", "phase"]
StyleName = Literal["paper", "slides", "dark"]
ReportFormat = Literal["html", "md", "csv", "json", "pdf", "png", "svg"]


@attrs.frozen(repr=False, eq=False)
class Results:
    """The results of a run, as `tickdsl.run` and `tickdsl.open_run` return them.

    `print` shows the table of the run, and a notebook shows it as HTML.
    """

    _record: RunRecord

    @property
    def name(self) -> str:
        """The name of the run, which is that of its folder."""
        return self.folder.name

    @property
    def folder(self) -> Path:
        """The folder of the run, with `results.json`, `report.html` and the events."""
        return self._record.paths.folder

    @property
    def status(self) -> str:
        """ "ok", "failed", "stopped", "interrupted", "crashed" or "running", when the results were read."""
        return self._source.status

    @property
    def plan(self) -> str:
        """The text of the plan."""
        return self._source.plan

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the plan."""
        return self._record.state.seeds

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes results worthless, in words; empty if all is well."""
        return tuple(alarms(self._record.state))

    @property
    def conclusions(self) -> dict[str, str]:
        """A sentence on the result of every arm, by arm id."""
        return conclusions(self._record.state)

    @property
    def arms(self) -> tuple[ArmResult, ...]:
        """The arms in the order of the plan, one per combination of sweep values."""
        return tuple(ArmResult(self._record, arm) for arm in self._record.state.arms)

    def arm(self, name: str, **sweep: object) -> ArmResult:
        """The results of an arm.

        Args:
            name: The name or the id of the arm: `"imp"` or `"imp[scope=local]"`.
            **sweep: The values of its sweeps, where the name has several: `arm("imp", scope="local")`.

        Raises:
            TickdslError: If there is no such arm, or more than one.
        """
        wanted = {key: str(value) for key, value in sweep.items()}
        named = [arm for arm in self.arms if name in (arm.name, arm.id)]
        found = [arm for arm in named if wanted.items() <= {key: str(v) for key, v in arm.sweep.items()}.items()]
        if len(found) == 1:
            return found[0]
        if not found:
            known = ", ".join(arm.id for arm in named or self.arms)
            values = "".join(f", {key}={value}" for key, value in wanted.items())
            raise TickdslError(f"the run has no arm {name}{values}", f"its arms: {known}")
        several = ", ".join(arm.id for arm in found)
        raise TickdslError(f"there are {len(found)} arms {name}", f"name one of {several}, or give its sweep values")

    def best(self, arm: str | None = None) -> LevelResult:
        """The ticket that `tickdsl export` takes: the smallest winning one, else the best one (the most accurate).

        The best one is chosen by validation data if some are held out; otherwise by the test set, and then its score
        is optimistic.

        Args:
            arm: The name or id of an arm (default: any).

        Raises:
            TickdslError: If no ticket was measured.
        """
        choice = choose(self._record.state, Wanted(arm=arm))
        return ArmResult(self._record, choice.arm).level(choice.level)

    def differences(self) -> tuple[Difference, ...]:
        """Every two arms of the run, compared round by round; `frame("difference")` has them as rows."""
        return differences(self._record.state)

    def frame(self, per: Literal["seed", "level", "difference"] = "seed") -> DataFrame:
        """The results as a pandas data frame; needs the extra `[pandas]`.

        Args:
            per: "seed": a row per arm, contestant, level and seed, with the columns of `results.csv`. "level": a row
                per arm, contestant and level, with means over the seeds, half widths of the intervals, and verdicts.
                "difference": a row per pair of rounds of every two arms that are compared.

        Returns:
            The frame. Sweep values are in the columns `sweep.NAME`; shares are in [0, 1].
        """
        from tickdsl.api.frames import differences_frame, levels_frame, seeds_frame

        frames = {"seed": seeds_frame, "level": levels_frame, "difference": differences_frame}
        if per not in frames:
            raise TickdslError(f"`per` cannot be {per!r}", "use 'seed', 'level' or 'difference'")
        return frames[per](self._record.state)

    def plot(
        self,
        kind: FigureKind = "score",
        *,
        style: StyleName = "paper",
        width: float | str | None = None,
        font: float | None = None,
        title: bool = True,
        controls: bool | None = None,
        arms: Sequence[str] | str | None = None,
        ylim: tuple[float, float] | None = None,
    ) -> Figure:
        """A figure of the run, as `tickdsl report --format pdf` draws it; a notebook shows it.

        Args:
            kind: "score" (the accuracy, or the metric of another task, against the weights left; also called
                "accuracy"), "flops", "layers", "pareto" or "phase".
            style: "paper", "slides" or "dark".
            width: In inches, or a length such as "84mm"; the height follows from it (default: the style's).
            font: The size of the font in points (default: the style's).
            title: Whether the figure has a title.
            controls: Whether controls are drawn (default: where there is room for them).
            arms: Ids or names of arms in the order of their colours (default: all).
            ylim: The limits of the vertical axis, in percent if that shows shares (default: chosen by the data).

        Returns:
            The `matplotlib.figure.Figure`: change it, and save it with `savefig`.

        Raises:
            TickdslError: If a value is not possible, or there is nothing to draw.
        """
        from tickdsl.figures import figure

        return figure(
            self._record.state,
            kind,
            style=style,
            width=width,
            font=font,
            title=title,
            controls=controls,
            arms=arms,
            ylim=ylim,
        )

    def report(self, path: StrPath | None = None, format: ReportFormat = "html") -> Path:
        """Write a report of the run, like `tickdsl report`.

        Args:
            path: The file to write (default: `report.FORMAT` in the folder of the run).
            format: "html" (one page), "md", "csv", "json", or a figure as "pdf", "png" or "svg".

        Returns:
            The path of the report.
        """
        from tickdsl.report import FORMATS, render_report

        if format not in FORMATS:
            raise TickdslError(f"`format` cannot be {format!r}", f"use one of {', '.join(map(repr, FORMATS))}")
        target = self.folder / f"report.{format}" if path is None else require_path(path, "path")
        write_atomically(target, render_report(format, [self._source]))
        return target

    def export(
        self,
        path: StrPath | None = None,
        *,
        arm: str | None = None,
        level: int | None = None,
        seed: int | None = None,
        set: Mapping[str, SetValue] | None = None,
        dense: bool = False,
        format: ExportFormatName | None = None,
        raw: bool = False,
        sparse: bool = False,
        int8: bool = False,
        blocks: bool = False,
        part: str | None = None,
    ) -> Path:
        """Write a network of the run to a file, like `tickdsl export`.

        The file is loaded in a fresh process and compared with the network before it takes its place.

        Args:
            path: The file, or an existing folder for a file with a default name (default: in the working folder).
            arm: The name or id of the arm (default: that of the best ticket, see `best`).
            level: The number of the level (default: that of the best ticket).
            seed: The seed (default: the one with the median score, of an even number the worse one).
            set: Only arms with these values of their sweeps.
            dense: Export the dense network instead of a ticket.
            format: "ticket", "pt2", "onnx" or "state-dict" (default: what the name of the file ends with, else
                "ticket").
            raw: Of "pt2" and "onnx": leave out the normalisation of the images.
            sparse: Of "ticket": store masked weights compressed.
            int8: Quantise the weights to 8 bits.
            blocks: Of "pt2" and "onnx": compute only the filters and dense blocks of refilled and regrouped layers.
            part: Of "pt2", "onnx" and "state-dict": the part of the network to export, such as "encoder", "decoder",
                "generator" or "discriminator" (default: all of it, and of a GAN as "pt2" or "onnx" its generator).

        Returns:
            The path of the file.

        Raises:
            TickdslError: If there is no such network, or the file cannot be written or does not compute the same.
        """
        for name, number in (("level", level), ("seed", seed)):
            if number is not None:
                require_whole(number, name)
        wanted = Wanted(arm, level, seed, set_texts(set), DENSE if dense else TICKET)
        choice = choose(self._record.state, wanted)
        chosen = ArmResult(self._record, choice.arm).level(choice.level, choice.contestant).seed(choice.seed)
        return chosen.export(path, format=format, raw=raw, sparse=sparse, int8=int8, blocks=blocks, part=part)

    @property
    def _source(self) -> ReportSource:
        return source_from_state(self._record.state, self._record.paths)

    def __repr__(self) -> str:
        arms, seeds = plural(len(self.arms), "arm"), plural(len(self.seeds), "seed")
        return f"<Results of {self.name}: {self.status}, {arms}, {seeds}>"

    def __str__(self) -> str:
        from tickdsl.results.table import results_text

        return results_text(self._record.state).rstrip("\n")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Shows the table in IPython on a terminal."""
        printer.text(repr(self) if cycle else str(self))

    def _repr_html_(self) -> str:
        from tickdsl.report.fragment import results_fragment

        return results_fragment(self._source)


def open_run(
    run: StrPath = "latest",
    *,
    out: StrPath = "runs",
    store: StrPath | None = None,
    data: StrPath | None = None,
    allow_code: bool = False,
) -> Results:
    """The results of a run, also of one that goes on or has failed.

    Args:
        run: The name of a run, the start of its name (of several runs, the newest), its folder, or "latest".
        out: The folder of the run folders.
        store: The folder or bucket of the stored results, from which networks are taken (default: that of the run).
        data: The folder of the data sets (default: `$TICKDSL_DATA` or `.tick/data`).
        allow_code: Whether networks may be built by code that the plan names as `"package.module:factory"`.

    Raises:
        TickdslError: If there is no such run, or it has not started.
    """
    paths, _ = find_newest_run(
        require_path(out, "out"), str(require_path(run, "run", "give the name of a run, or its folder"))
    )
    state = read_source(paths).state
    used = state.run.store if state.run is not None else ".tick/store"
    record = RunRecord(
        paths, state, require_store_path(used if store is None else store), data_folder(data), allow_code
    )
    return Results(record)
