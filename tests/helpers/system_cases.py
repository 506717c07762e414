"""The five systems of random, coarse, super, elastic and generative tickets, as arms of small plans."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class SystemCase:
    """A system: a plan's head, and an arm and a head for it.

    `arm` has a `$share` to sweep. `statement` is its word in the language. `controls` are those that its plans compare.
    `by` is where a result has what its verdict is on.
    """

    name: str
    statement: str
    head: str
    arm: str
    controls: Sequence[str] = ("random-init",)
    by: str = "accuracy"

    def plan(self, arm: str = "ticket", share: str = "40%", seeds: int = 1, compare: bool = True) -> str:
        """The text of a plan of one arm, after the head."""
        words = ", ".join([arm, *self.controls, "dense"])
        question = f"compare {words}  # ok TD508\n" if compare else ""
        return f"seeds {seeds}\narm {arm} {{\n{self.arm.replace('$share', share)}\n}}\n{question}"


_IMAGES = "model small-cnn width=0.5\ndata synthetic size=8 train=192 test=64\ntrain 2ep lr=0.1 batch=32\n"
_LINEAR = (
    "model lenet-300-100 width=0.05 depth=2\ndata synthetic size=8 channels=1 classes=4 train=192 test=64\n"
    "train 2ep lr=0.05 batch=32\n"
)
_ATTENTION = (
    "model vit layers=2 heads=2 dim=8 patch=4\ndata synthetic size=8 channels=1 classes=4 train=192 test=64\n"
    "train 2ep opt=adam lr=0.01 batch=32\n"
)
_CODES = (
    "model vae latent=4 width=0.1\ndata synthetic size=8 channels=1 train=192 test=64\n"
    "train 2ep opt=adam lr=0.01 batch=32\n"
)

SYSTEM_CASES = (
    SystemCase(
        "dual", "via penalty", _IMAGES,
        "prune weights local $share by random at init except conv1, fc via penalty step=0.1 every=1it to=0.5 hold=4it "
        "lr=0.01",
    ),
    SystemCase(
        "dual-square", "power", _IMAGES,
        "prune weights local $share by random at init except conv1, fc via penalty step=0.1 every=1it to=0.5 power=2 "
        "hold=4it lr=0.01",
    ),
    SystemCase(
        "refill", "refill", _IMAGES,
        "prune weights $share x 2 except conv1, fc; refill filters by saliency; rewind weights to 1ep",
        ("random-init", "random-structure"),
    ),
    SystemCase(
        "regroup", "regroup", _IMAGES,
        "prune weights $share x 2 except conv1, fc; regroup groups=2 min-rows=2; rewind weights to 1ep",
        ("random-init", "random-structure"),
    ),
    SystemCase(
        "super", "by gate", _ATTENTION,
        "cycle 1 { prune heads 1 by gate; prune neurons $share by gate in **.expand; rewind weights to 1ep }",
        ("random-init", "random-structure"),
    ),
    SystemCase(
        "elastic", "stretch", _LINEAR,
        "prune weights global $share x 2 except fc4; rewind weights to 1ep\nstretch to lenet-300-100 depth=4 width=0.1",
        ("random-init", "shuffled-mask", "by-magnitude"),
    ),
    SystemCase(
        "squeezed", "squeeze", _LINEAR.replace("depth=2", "depth=4").replace("0.05", "0.1"),
        "prune weights global $share x 2 except fc6; rewind weights to 1ep\n"
        "squeeze to lenet-300-100 depth=2 width=0.05",
    ),
    SystemCase(
        "generative", "elbo", _CODES, "prune weights global $share x 2 in decoder; rewind weights to 4it",
        by="score",
    ),
)  # fmt: skip
