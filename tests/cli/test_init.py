"""`tickdsl init` and what the distribution carries with it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import shtab

from tickdsl.checks import check_file
from tickdsl.cli import main
from tickdsl.cli.completion import SHELLS

ROOT = Path(__file__).parents[2]
PLANS = sorted(path.relative_to(ROOT / "plans").as_posix() for path in (ROOT / "plans").rglob("*.plan"))


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_all_plans_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "new")]) == 0
    assert written(tmp_path / "new") == PLANS
    assert f"{len(PLANS)} plans" in capsys.readouterr().out
    first = tmp_path / "new" / "first.plan"
    assert [d for d in check_file(first).diagnostics if d.severity != "note"] == []


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0
    assert main(["init", str(tmp_path)]) == 0


def test_edited_plans_are_kept_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", str(tmp_path)])
    edited = tmp_path / "first.plan"
    edited.write_text("prune weights 20%; rewind lr\n")
    (tmp_path / "card.plan").unlink()
    assert main(["init", str(tmp_path)]) == 2
    assert "1 plan would be overwritten" in capsys.readouterr().err
    assert edited.read_text() == "prune weights 20%; rewind lr\n"
    assert not (tmp_path / "card.plan").exists(), "nothing is written if not everything can be"
    assert main(["init", str(tmp_path), "--force"]) == 0
    assert written(tmp_path) == PLANS
    assert edited.read_text() == (ROOT / "plans" / "first.plan").read_text()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file" / "below")]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and "file" in error


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "tickdsl", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("tickdsl ")


def test_completion_can_be_written_for_every_shell_that_is_offered() -> None:
    assert set(SHELLS) <= set(shtab.SUPPORTED_SHELLS)


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_names_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for verb in ("check", "init", "run", "watch", "report", "graph"):
        assert verb in script


def test_bash_takes_the_completion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = tmp_path / "tickdsl.bash"
    script.write_text(capsys.readouterr().out)
    code = f'source {script}; COMP_WORDS=(tickdsl che); COMP_CWORD=1; _shtab_tickdsl; echo "${{COMPREPLY[@]}}"'
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert "check" in ran.stdout.split()


def repository_files(folder: str) -> list[str]:
    """The files of the repository, also new ones that are not committed yet."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and an sdist of this tree, built by setuptools without fetching anything."""
    target = tmp_path_factory.mktemp("dist")
    tree = tmp_path_factory.mktemp("tree") / "tickdsl"
    for name in repository_files("."):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    for kind in ("sdist", "wheel"):
        build = f"import sys, setuptools.build_meta; setuptools.build_meta.build_{kind}(sys.argv.pop())"
        subprocess.run([sys.executable, "-c", build, str(target)], cwd=tree, check=True, capture_output=True)
    return target


def test_the_wheel_holds_every_module_and_every_plan(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"tickdsl/plans/{plan}" for plan in PLANS} <= names
    for source, target in (("tickdsl", "tickdsl"), ("grammar", "tickdsl/grammar"), ("tui", "tickdsl/tui")):
        missing = {f"{target}{name.removeprefix(source)}" for name in repository_files(source)} - names
        # How the editors' files are made is no part of what is installed.
        assert {name for name in missing if not name.startswith("tickdsl/grammar/editors/")} == set()


def test_the_sdist_holds_what_tests_need(distributions: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        names = {name.partition("/")[2] for name in members.getnames()}
    assert {"constraints.txt", "CHANGELOG.md", "CITATION.cff", "tests/conftest.py", "plans/colt.plan"} <= names


def test_classifiers_name_the_pythons_that_ran_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert pythons == ["3.11"]
