"""Random small plans of sparse training and of tickets of other seeds, most of them valid.

`runnable_plans` draws every word and option; what needs several statements that fit each other is drawn here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st
from runnable_plans import DrawnPlan, Statement

from tickdsl.lang import vocabulary

#: Network -> the unit, besides weights, that it loses.
MODELS = {
    "small-cnn width=0.25": "filters", "lenet-300-100 width=0.1": "neurons", "conv2 width=0.05": "filters",
    "resnet20 width=0.25": "filters", "vit layers=1 heads=2 dim=8": "heads",
}  # fmt: skip
DENSITIES = ("erk", "balanced", "uniform", "local", "global")
GROWTHS = ("", " grow=random", " grow=gradient", " grow=momentum", " fan-in=constant")
ALIGNED = ("", " align=dense", " align=dense match=activations images=32")


class _Drawer:
    """Draws the parts of a plan."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.model: str = self.pick(list(MODELS))
        self.validates: bool = self.pick((False, False, True))

    def pick(self, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def prune(self) -> tuple[str, str]:
        """A prune, and its unit."""
        unit = MODELS[self.model]
        at_once = [
            f"prune weights {self.pick(DENSITIES)} 60% by random at init",
            f"prune weights 40% x 2 by {self.pick(('magnitude', 'delta', 'random'))}",
            f"prune weights {self.pick(('global', 'local'))} 50% by {self.pick(('snip', 'synflow'))} at init",
            *(["prune weights searched 50% evaluations=6"] if self.validates else ()),
        ]
        every = f"every {self.pick(('1it', '3it'))}"
        gradual = f"prune weights to 80% from {self.pick(('init', '3it'))} to {self.pick(('8it', '80%'))} {every}"
        by = self.pick(("magnitude", "movement", "random", "delta"))
        penalty = f"via penalty step=0.1 every=2it to={self.pick(('0.5', '1'))} hold=4it"
        kinds = {
            "weights": [
                *at_once,
                f"{gradual} by {by}",
                f"{gradual} curve=linear",
                f"prune weights local 40% {penalty}",
            ],
            "heads": ["prune heads 1 by gate", "prune heads local 1 by gate-signed x 1"],
        }
        kinds["filters"] = ["prune filters 30%", f"prune filters local 30% {penalty}",
                            "prune filters local 30% by l2 via zeroing every=3it"]  # fmt: skip
        kinds["neurons"] = ["prune neurons 30%", f"prune neurons local 30% {penalty}"]
        chosen = self.pick(("weights", "weights", "weights", unit))
        return self.pick(kinds[chosen]), chosen

    def start(self, unit: str, seeds: int) -> str:
        """The statements up to the one that sets the next training."""
        moment = self.pick(("init", "4it", "50%"))
        plain = ["rewind lr", f"rewind weights to {moment}", "retrain scratch 1ep", "retrain fine-tune 8it",
                 "rewind lr; perturb 10%"]  # fmt: skip
        if seeds > 1:
            aligned = self.pick(ALIGNED)
            plain += [
                f"rewind mask of next seed{aligned}; rewind weights to {moment}",
                f"rewind mask of next seed{aligned}; rewind weights of next seed to {moment}{aligned}",
            ]
        if unit == "weights":
            amount = self.pick(("all", "20%", "10% by random", "10% by gradient"))
            plain += ["rewind signs", f"rewind weights to {moment}; rewind signs to init", "rewind magnitudes"]
            plain += [f"rewind lr; grow weights {amount}; rewind lr"]
            plain += ["rewind signs of next seed"] if seeds > 1 else []
        return str(self.pick(plain))

    def evolve(self) -> str:
        return f"evolve weights 30% every={self.pick(('2it', '5it'))}{self.pick(GROWTHS)}"

    def pipeline(self, seeds: int) -> str:
        prune, unit = self.prune()
        then = self.start(unit, seeds)
        if unit == "weights" and "grow" not in then and self.pick((True, False)):
            then += f"; {self.evolve()}"
        text = f"{prune}; {then}"
        if self.pick((False, False, True)):
            again = f"; {self.evolve()}" if unit == "weights" and self.pick((True, False)) else ""
            text += f"; cycle {self.pick((1, 2))} {{ rewind lr{again} }}"
        return text

    def plan(self) -> Iterator[Statement]:
        yield Statement(f"model {self.model}")
        yield Statement("data digits validation=20%" if self.validates else "data digits")
        optimizer = self.pick(("opt=sgd", "opt=sgd", "opt=adam"))
        yield Statement(f"train {self.pick(('1ep', '15it'))} lr=0.02 batch=128 {optimizer}")
        seeds = self.pick((1, 2, 2))
        yield Statement(f"seeds {seeds}")
        for name in self.pick((["a"], ["a", "b"])):
            yield Statement(f"arm {name} {{ {self.pipeline(seeds)} }}")
        controls = [name for name, known in vocabulary.CONTROLS.items() if known]
        compared = self.draw(st.lists(st.sampled_from(controls), max_size=2, unique=True))
        yield Statement(f"compare {', '.join(['all', *compared])}")
        metrics = ["accuracy", "train-flops", "distance", *(["mask-overlap", "sign-agreement"] if seeds > 1 else [])]
        reported = self.draw(st.lists(st.sampled_from(metrics), min_size=1, max_size=3, unique=True))
        yield Statement(f"report {', '.join(reported)}")


@st.composite
def sparse_plans(draw: Any) -> DrawnPlan:
    """A plan; most of them are valid."""
    return DrawnPlan(tuple(_Drawer(draw).plan()))
