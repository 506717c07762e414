"""Folders and file names of runs."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import secrets
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.patient_reads import move
from tickdsl.plurals import plural
from tickdsl.records.files import disk_error, write_atomically

_RUN_FOLDER = re.compile(r".+-(\d{8}-\d{6}-[0-9a-f]{4}|shared-[0-9a-f]{8})")


@attrs.frozen
class RunPaths:
    """The files in the folder of one run."""

    folder: Path

    @property
    def plan(self) -> Path:
        """The text of the plan as it was run."""
        return self.folder / "plan.plan"

    @property
    def sources(self) -> Path:
        """The texts of the plan and of the files that it includes, by path, for an engine in a separate process."""
        return self.folder / "sources.json"

    @property
    def plan_json(self) -> Path:
        """The plan with every default filled in."""
        return self.folder / "plan.json"

    @property
    def events(self) -> Path:
        """The events, one JSON line each."""
        return self.folder / "events.jsonl"

    @property
    def workers(self) -> Path:
        """The folders of the workers that share this run, each with its own events."""
        return self.folder / "workers"

    def worker(self, name: str) -> RunPaths:
        """The files of a worker that shares this run."""
        return RunPaths(self.workers / name)

    @property
    def control(self) -> Path:
        """Requests to the engine; the only file that a monitor writes."""
        return self.folder / "control.jsonl"

    @property
    def results_json(self) -> Path:
        """The results as JSON."""
        return self.folder / "results.json"

    @property
    def results_csv(self) -> Path:
        """The results as a table, one measurement per row."""
        return self.folder / "results.csv"

    @property
    def accuracy_svg(self) -> Path:
        """The plot of accuracy against size."""
        return self.folder / "accuracy.svg"

    @property
    def score_svg(self) -> Path:
        """The plot of another metric than accuracy against size."""
        return self.folder / "score.svg"

    @property
    def report(self) -> Path:
        """The report as one HTML page."""
        return self.folder / "report.html"

    @property
    def log(self) -> Path:
        """The output of an engine in a separate process."""
        return self.folder / "engine.log"

    @property
    def engine(self) -> Path:
        """The process of an engine in a separate process; written before its first event."""
        return self.folder / "engine.pid"

    def screenshot(self, moment: datetime.datetime) -> Path:
        """A screenshot of the monitor at `moment`."""
        return self.folder / f"monitor-{moment:%Y%m%d-%H%M%S}.svg"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard files, one folder per arm and seed."""
        return self.folder / "tb"


def default_data_folder() -> Path:
    """The folder of the data sets unless another is named: `$TICKDSL_DATA` or `.tick/data`."""
    return Path(os.environ.get("TICKDSL_DATA", ".tick/data"))


def new_run(out: Path, plan_name: str, now: datetime.datetime | None = None, token: str | None = None) -> RunPaths:
    """Create OUT/<plan>-<yyyymmdd-hhmmss>-<4 hex digits>/ and link OUT/latest to it.

    Raises TickdslError if OUT cannot be written.
    """
    out = Path(out)
    name = _folder_name(plan_name)
    moment = (now or datetime.datetime.now()).strftime("%Y%m%d-%H%M%S")
    while True:
        folder = out / f"{name}-{moment}-{token or secrets.token_hex(2)}"
        try:
            folder.mkdir(parents=True)
            break
        except OSError as error:
            if isinstance(error, FileExistsError) and token is None and folder.is_dir():
                continue  # another run started in the same second and drew the same token
            raise disk_error(error, folder if Path(out).is_dir() else Path(out)) from error
    _link_latest(out / "latest", folder.name)
    return RunPaths(folder)


def shared_run(out: Path, plan_name: str, digest: str) -> RunPaths:
    """The folder that all workers on one plan share: OUT/<plan>-shared-<8 hex digits of `digest`>/; links latest to it.

    Raises TickdslError if OUT cannot be written.
    """
    folder = Path(out) / f"{_folder_name(plan_name)}-shared-{digest[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder if Path(out).is_dir() else Path(out)) from error
    _link_latest(Path(out) / "latest", folder.name)
    return RunPaths(folder)


def _folder_name(plan_name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", plan_name).strip("-.") or "plan"


def find_run(out: Path, run: str = "latest") -> RunPaths:
    """The run that `run` refers to: a path, a folder in OUT, the unique start of a folder name in OUT, or `latest`.

    Raises TickdslError if there is no such run, or more than one.
    """
    matches = _matching_runs(out, run)
    if len(matches) > 1:
        names = ", ".join(candidate.folder.name for candidate in matches[:4])
        raise TickdslError(f"several runs start with {run}: {names}", "type more of the name")
    return matches[0]


def find_newest_run(out: Path, run: str = "latest") -> tuple[RunPaths, str]:
    """Like `find_run`, but takes the newest of several runs that start with `run`, and says so in a sentence.

    The sentence is empty if there is one such run.
    """
    matches = _matching_runs(out, run)
    newest = matches[-1]
    if len(matches) == 1:
        return newest, ""
    return newest, f"{plural(len(matches), 'run')} start with {run}: taking the newest one, {newest.folder.name}"


def _matching_runs(out: Path, run: str) -> list[RunPaths]:
    """The runs that `run` can refer to, oldest first. Raises TickdslError if there is none."""
    out = Path(out)
    if run == "latest":
        latest = _latest_run(out)
        if latest is None:
            raise TickdslError(
                f"no run in {out}", "start one with `tickdsl run PLAN`, or name another folder with --out"
            )
        return [latest]
    path = Path(run)
    if path.name == "events.jsonl":
        path = path.parent
    for folder in (path, out / run):
        if folder.is_dir() and (len(folder.parts) > 1 or RunPaths(folder).events.exists()):
            return [RunPaths(folder)]
    matches = [candidate for candidate in list_runs(out) if candidate.folder.name.startswith(run)]
    if not matches:
        hint = "list the runs with `tickdsl ls`, or name another folder with --out"
        raise TickdslError(f"no run {run} in {out}", hint)
    return matches


def list_runs(out: Path) -> list[RunPaths]:
    """The runs in OUT, oldest first."""
    try:
        folders = [path for path in Path(out).iterdir() if _RUN_FOLDER.fullmatch(path.name) and path.is_dir()]
    except OSError:
        return []
    return [RunPaths(path) for path in sorted(folders, key=lambda path: (_started_at(path), path.name))]


def _started_at(folder: Path) -> float:
    """When a run started, in seconds since 1970.

    The time in the name of its folder is the local time, which a change of the clock can repeat.
    """
    with contextlib.suppress(OSError), RunPaths(folder).events.open("rb") as file:
        first = re.search(rb'"t": ?(\d{1,11}(?:\.\d+)?)\b', file.read(4096).partition(b"\n")[0])
        if first is not None:
            return float(first[1])
    day, hour = folder.name.rsplit("-", 3)[1:3]
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.datetime.strptime(day + hour, "%Y%m%d%H%M%S").timestamp()
    return 0.0


def _latest_run(out: Path) -> RunPaths | None:
    link = out / "latest"
    folder = link
    if link.is_file():
        folder = out / link.read_text().strip()
    if folder.is_dir():
        return RunPaths(folder.resolve())
    all_runs = list_runs(out)
    return all_runs[-1] if all_runs else None


def _link_latest(link: Path, name: str) -> None:
    """Link to a sibling folder, atomically; writes a text file with its name if links are not supported."""
    draft = link.with_name(f".latest.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        draft.symlink_to(name, target_is_directory=True)
        move(draft, link)
    except (OSError, NotImplementedError):
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        write_atomically(link, f"{name}\n".encode())
