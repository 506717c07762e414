"""The streamed loader: how long a training waits for its images, and how much memory an epoch over many files takes.

    python benchmarks/loader.py [--rounds N] [--files N] [--steps N] [wait] [memory]

`wait` trains ResNet-18 on 64x64 images of JPEG files and prints the share of the time in which steps waited for their
batch. `memory` goes over an epoch of many small files without a network, and prints the resident memory at its
quarters, of this process and of those that decode.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.data.streaming.decoder_pool import decoder_pool
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch

CLASSES = 10


def write_files(folder: Path, count: int, side: int) -> Path:
    """A folder of JPEG files of smooth noise, `side` pixels a side, in ten classes; a hundredth is for testing."""
    draw = np.random.default_rng(0)
    for split, number in (("train", count), ("test", max(CLASSES, count // 100))):
        for label in range(CLASSES):
            (folder / split / f"class{label}").mkdir(parents=True)
        for index in range(number):
            coarse = Image.fromarray(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            content = io.BytesIO()
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
            (folder / split / f"class{index % CLASSES}" / f"{index:06}.jpg").write_bytes(content.getvalue())
    return folder


def load(folder: Path, root: Path, size: int) -> Dataset:
    return datasets.load("folder", root=root, options={"path": str(folder), "size": size, "load": "stream"})


def wait(folder: Path, root: Path, steps: int, rounds: int) -> None:
    """Print the share of waiting of ResNet-18 on 64x64 images, decoded from files of 128x128."""
    data = load(write_files(folder, 2000, 128), root, 64)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = Recipe(length=f"{steps}it", lr=0.05, batch=64, augment=("crop", "flip"))
    for number in range(rounds):
        model = models.create("torchvision.resnet18", classes=CLASSES, shape=data.shape, seed=number)
        started = time.monotonic()
        history = train(model, data, recipe, seed=number, device=device)
        seconds = time.monotonic() - started
        print(
            f"wait: round {number + 1}, {device}, {torch.get_num_threads()} threads, {steps} steps of 64 images in "
            f"{seconds:.1f} s: waited {history.wait_seconds:.2f} s, {100 * history.wait_seconds / seconds:.2f} %",
            flush=True,
        )


def memory(folder: Path, root: Path, files: int) -> None:
    """Print the memory at the quarters of an epoch over many files."""
    data = load(write_files(folder, files, 32), root, 32)
    recipe = Recipe(length="1ep", batch=128, augment=("crop", "flip"))
    stream = BatchStream(DeviceDataset(data, recipe, torch.device("cpu")), [0])
    steps = steps_per_epoch(len(data.train_targets), recipe.batch)
    resident = len(data.train_targets) * int(np.prod(data.shape))
    print(f"memory: {files:,} files, {resident / 1e6:.0f} MB if they were held decoded; MB in use:")
    started = time.monotonic()
    for step in range(steps):
        if step % max(1, steps // 4) == 0 or step == steps - 1:
            own = psutil.Process().memory_info().rss
            decoding = sum(psutil.Process(child.pid).memory_info().rss for child in decoder_pool()._children)
            print(f"  step {step:6,} of {steps:,}: {own / 1e6:7.1f} here, {decoding / 1e6:6.1f} decoding", flush=True)
        stream.batch(step)
    print(f"  {len(data.train_targets) / (time.monotonic() - started):,.0f} images a second without a network")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["wait", "memory", []], default=["wait", "memory"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    for name in args.what:
        folder = Path(tempfile.mkdtemp())
        try:
            if name == "wait":
                wait(folder / "images", folder / "root", args.steps, args.rounds)
            else:
                memory(folder / "images", folder / "root", args.files)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
