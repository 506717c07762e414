"""The shipped plans: each states its question and outcome, and has no errors."""

import io
import itertools
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file

from tickdsl.checks import check_file
from tickdsl.training.models import create

ROOT = Path(__file__).parents[2]
PLANS = sorted(ROOT.glob("plans/**/*.plan"))
#: What an outcome says of its run: seeds, trainings, hardware, version and date.
RAN_WITH = (
    r"\d seeds?,",
    r"\d\s+training\s+runs?",
    r"(CPU\s+cores?|GPU)\s+\(",
    r"tickdsl\s+\d+\.\d+",
    r"20\d\d-\d\d-\d\d\.",
)


def header(path: Path) -> str:
    lines = path.read_text("utf-8").splitlines()
    return "\n".join(line[1:].strip() for line in lines if line.startswith("#"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the image archive and weights that some plans read."""
    directory = tmp_path_factory.mktemp("plans")
    weights = create("small-cnn", classes=10, shape=(1, 8, 8), seed=1).state_dict()
    save_file(dict(weights), directory / "small-cnn-mnist.safetensors")
    sizes = {"layers": 2, "heads": 4, "dim": 32}
    language = create("gpt", classes=256, shape=(32, 256), seed=1, options=sizes).state_dict()
    save_file(dict(language), directory / "gpt-corpus.safetensors")
    sizes = {"layers": 5, "heads": 4, "dim": 32, "patch": 4}
    vision = create("vit", classes=10, shape=(3, 16, 16), seed=1, options=sizes).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in vision.items()}, directory / "vit-mnist.safetensors")
    encoder = create("unet-encoder", classes=3, shape=(3, 32, 32), seed=1, options={"width": 0.5}).state_dict()
    save_file(dict(encoder), directory / "encoder.safetensors")
    sizes = {"width": 4.0, "latent": 100}
    vae = create("conv-vae", classes=10, shape=(3, 32, 32), seed=1, options=sizes).state_dict()
    save_file(dict(vae), directory / "vae.safetensors")
    pictures = []
    for grey in (0, 200):  # two different ones, so that one of them can be held out
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    numbers = {"train": range(500), "test": range(1)}
    with tarfile.open(directory / "cifar10-jpeg.tar.gz", "w:gz") as packed:
        for split, label in itertools.product(numbers, range(10)):
            for number in numbers[split]:
                member = tarfile.TarInfo(f"{split}/{label}/{number:04}.jpg")
                picture = pictures[number % 2]
                member.size = len(picture)
                packed.addfile(member, io.BytesIO(picture))
    with tarfile.open(directory / "imagenet.tar", "w") as packed:  # as many images as one batch of the plans
        for split, label in itertools.product(numbers, range(2)):
            for number in range(2_100 if split == "train" else 1):
                member = tarfile.TarInfo(f"{split}/{label}/{number:04}.jpg")
                picture = pictures[number % 2]
                member.size = len(picture)
                packed.addfile(member, io.BytesIO(picture))
    (directory / "c4.txt").write_text("all kinds of words, and more of them. " * 4_400)
    return directory


@pytest.mark.parametrize("path", PLANS, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_header_states_question_and_outcome(path: Path) -> None:
    text = header(path)
    assert text.startswith("Asks:")
    outcome = text.split("Outcome:", 1)[1].strip()
    not_run_yet = outcome == "not run yet: needs a GPU" and path.parent.name == "papers"
    assert not_run_yet or all(re.search(stated, outcome) for stated in RAN_WITH), outcome


@pytest.mark.parametrize("path", PLANS, ids=lambda p: str(p.relative_to(ROOT)))
def test_it_has_no_errors(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    tolerated = ("note",) if path.parent.name == "papers" else ("note", "warning")
    assert [d for d in check_file(path).diagnostics if d.severity not in tolerated] == []


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-study.md"])
def test_a_page_shows_the_plan_that_it_runs(page: str) -> None:
    """The plan on the page is plans/colt.plan without its comments."""

    def statements(text: str) -> list[str]:
        return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]

    blocks = re.findall(r"```[^\n]*\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    shipped = statements((ROOT / "plans" / "colt.plan").read_text("utf-8"))
    assert set(statements(next(block for block in blocks if "arm colt" in block))) <= set(shipped)


def test_the_readmes_own_model_in_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    text = next(block for block in blocks if "my_network" in block)
    assert len(text.strip().splitlines()) == 3
    (tmp_path / "my.plan").write_text(text)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\ndef my_network(classes, shape):\n"
        "    return nn.Sequential(nn.Conv2d(shape[0], 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(64, classes))\n"
    )
    for split, label in itertools.product(("train", "test"), ("cat", "dog")):
        folder = tmp_path / "images" / split / label
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (number * 40, 90, 200)).save(folder / f"{number}.png")
    command = [sys.executable, "-m", "tickdsl", "check", "my.plan", "--allow-code"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_code_line_of_the_readme_is_wide() -> None:
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 88
