"""Random small plans over all words and options of the vocabulary: digits, a tiny network, an epoch or two of training.

Plans are drawn as statements rather than as text, so that a test can change one option of one of them. `check` decides
which of them are valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

from tickdsl.lang import option_schemas, registries, vocabulary
from tickdsl.lang.option_schemas import OptionType

#: Networks that train an epoch of digits in a moment, and what `train` runs for.
MODELS = (
    "small-cnn width=0.25", "small-cnn width=0.4", "lenet-300-100 width=0.1", "conv2 width=0.05", "conv4 width=0.05",
    "resnet20 width=0.25", "vit layers=1 heads=2 dim=8",
)  # fmt: skip
LENGTHS = ("1ep", "2ep", "15it")
SHARES = ("20%", "50%", "30% of original", "to 60%", "to 85%")
AMOUNTS = (*SHARES, "1", "3")
#: Amounts that count what the layers cost, and rates by layer, which rank every layer by itself.
BUDGETS = ("to 40% of flops", "to 50% of params", "to 30% of params x 2")
RATES = ('["*1*": 20%, "**": 40%]', 'to ["**": 60%]', '["**": 30%] of original x 2')
_HEADS = ("heads", "head-dims")
ABSENT_UNITS = {
    "small-cnn": ("neurons", "layers", *_HEADS),
    "lenet-300-100": ("filters", "layers", *_HEADS),
    "conv2": ("layers", *_HEADS),
    "conv4": ("layers", *_HEADS),
    "resnet20": ("neurons", *_HEADS),
}
ENDS = ("x 2", "x 3", "until 70%", "until accuracy < 60%", "until sparsity > 40%", "until mask-distance < 20%")
#: Statement option -> values that have different effects, for options whose type alone does not say what is sensible.
OPTION_VALUES: dict[str, tuple[str, ...]] = {
    "lr": ("0.1", "0.02"),
    "max-lr": ("0.2", "0.4"),
    "min-lr": ("0.001", "0.004"),
    "batch": ("64", "200"),
    "momentum": ("0", "0.5"),
    "decay": ("1e-4", "1e-3"),
    "gamma": ("0.2", "0.5"),
    "div": ("5", "25"),
    "final-div": ("10", "100"),
    "label-smoothing": ("0.1", "0.2"),
    "clip": ("0.5", "2"),
    "accumulate": ("2", "3"),
    "power": ("2", "3"),
    "ema": ("0.5", "0.9"),
    "mixup": ("0.2", "1"),
    "cutmix": ("0.5", "1"),
    "bias-lr": ("2", "64"),
    "loss": ("focal", '"focal(gamma=1)"'),
    "class-weights": ("balanced", "[1, 1, 1, 1, 2, 1, 1, 1, 1, 1]"),
    "warmup-start": ("0.1", "0.5"),
    "temperature": ("2", "5"),
    "milestones": ("[5it]", "[5it, 9it]"),
    "multiple": ("2", "4"),
    "metric": ("accuracy", "loss"),
    "warmup": ("2it", "5it"),
    "until": ("4it", "9it"),
    "augment": ("flip", "[crop, rotation]"),
    "within": ("1%", "3%"),
    "watts": ("50", "90"),
    "intensity": ("100", "200"),
    "schedule": ("constant", "milestones", "cosine", "one-cycle", "linear"),
    "compile": ("off", "auto"),
}
#: Metrics that take seconds for each network: attacks, corruptions, timing, another training.
SLOW_METRICS = frozenset({"robustness", "latency", "memory", "barrier"})
#: Statements whose options change what is trained or pruned.
COMPUTING = frozenset({"model", "data", "split", "train", "prune", "retrain", "distill", "transfer"})

Pick = Any


@attrs.frozen
class Statement:
    """A statement: its words, its options, and the statements in its block, if it has one."""

    words: str
    options: Mapping[str, str] = attrs.field(factory=dict)
    block: tuple[Statement, ...] | None = None

    @property
    def keyword(self) -> str:
        return self.words.split()[0]

    def __str__(self) -> str:
        text = " ".join([self.words, *(f"{name}={value}" for name, value in self.options.items())])
        return text if self.block is None else f"{text} {{ {'; '.join(map(str, self.block))} }}"


@attrs.frozen
class DrawnPlan:
    """The statements of a plan."""

    statements: tuple[Statement, ...]

    def __str__(self) -> str:
        return "".join(f"{statement}\n" for statement in self.statements)

    def changes(self) -> Iterator[tuple[Statement, str, str, DrawnPlan]]:
        """Every plan with another value of one written option that computes: (statement, option, new value, plan)."""
        for index, statement in enumerate(self.statements):
            for changed, option, value, other in _changes(statement):
                yield (
                    changed,
                    option,
                    value,
                    DrawnPlan((*self.statements[:index], other, *self.statements[index + 1 :])),
                )


def _changes(statement: Statement) -> Iterator[tuple[Statement, str, str, Statement]]:
    """Every variant of a statement with another value of one written option, in it or in its block."""
    if statement.keyword in COMPUTING:
        for option, written in statement.options.items():
            for value in values(option, _schemas(statement.keyword)[option]):
                if value != written:
                    changed = attrs.evolve(statement, options={**statement.options, option: value})
                    yield statement, option, value, changed
    for index, inner in enumerate(statement.block or ()):
        for changed, option, value, other in _changes(inner):
            block = (*(statement.block or ())[:index], other, *(statement.block or ())[index + 1 :])
            yield changed, option, value, attrs.evolve(statement, block=block)


def _schemas(keyword: str) -> dict[str, OptionType]:
    return option_schemas.STATEMENT_OPTIONS.get(keyword, {})


def _without_files(schemas: dict[str, OptionType]) -> dict[str, OptionType]:
    """The options that name no file, which a plan that runs would need."""
    return {name: schema for name, schema in schemas.items() if schema.kind != "text"}


def _own_schemas(keyword: str, names: Sequence[str]) -> dict[str, OptionType]:
    """Those of a statement's options that do not belong to one of its clauses."""
    return {name: _schemas(keyword)[name] for name in names}


def values(option: str, schema: OptionType) -> tuple[str, ...]:
    """Values of an option, no two of which mean the same."""
    if option in OPTION_VALUES:
        return OPTION_VALUES[option]
    match schema.kind:
        case "word" | "words":
            return schema.words
        case "optimiser":
            return ("sgd", "adam")
        case "loss" | "blocks":
            return schema.words[:1]
        case "augmentations":
            return ("none", "flip")
        case "weights":
            return ("balanced", "none")
        case "flag":
            return ("on", "off")
        case "share" | "points":
            return ("10%", "40%")
        case "int":
            return ("16", "64")
        case "float":
            return ("0.1", "0.3")
        case "moment":
            return ("3it", "7it")
    raise NotImplementedError(f"no values for `{option}`, {schema.kind}")


class _Drawer:
    """Draws the parts of a plan."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.model: str = self.pick(MODELS)
        units = [unit for unit in vocabulary.UNITS if unit != "blocks"]
        absent = ABSENT_UNITS.get(self.model.split()[0], ())
        #: The units that the network has; now and then all of them.
        self.units = units if self.pick((False,) * 9 + (True,)) else [unit for unit in units if unit not in absent]
        #: Whether a plan prunes several units: then without `to`, since what one prune removes also counts for others.
        self.is_mixed: bool = self.pick((True, False))
        if not self.is_mixed:
            self.units = [self.pick(self.units)]
        #: Whether samples are held out for what chooses.
        self.validates: bool = self.pick((False, False, False, True))

    def pick(self, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def often(self) -> bool:
        return bool(self.pick((True, True, True, False)))

    def sometimes(self) -> bool:
        return bool(self.pick((False, False, True)))

    def options(self, schemas: Mapping[str, OptionType], most: int = 2) -> dict[str, str]:
        names = self.draw(st.lists(st.sampled_from(sorted(schemas)), max_size=most, unique=True)) if schemas else []
        return {name: self.pick(values(name, schemas[name])) for name in names}

    def train(self) -> Statement:
        return Statement(f"train {self.pick(LENGTHS)}", {"lr": "0.05", **self.options(_schemas("train"))})

    def prune(self, arms: Sequence[str], *, once: bool) -> Statement:
        unit = self.pick(self.units)
        criteria = [name for name, criterion in registries.CRITERIA.builtin.items() if unit in criterion.units]
        amount = f"matching {self.pick(arms)}" if arms and self.pick((False,) * 5 + (True,)) else self.pick(AMOUNTS)
        if (unit == "weights" and amount.isdigit()) or (self.is_mixed and amount.startswith("to")):
            amount = self.pick([share for share in SHARES if not (self.is_mixed and share.startswith("to"))])
        ends = (
            []
            if once or amount.startswith("to")
            else [
                "x 2",
                "x 3",
                "until 70%",
                "until accuracy < 60%",
                "until sparsity > 40%",
                "until mask-distance < 20%",
            ]
        )
        scopes = ["", "global", "local", *(("erk", "balanced") if unit == "weights" else ())]
        # A search looks at validation data, and evaluates many networks.
        scopes += ["searched"] if self.validates and unit in ("weights", "filters", "neurons") else []
        if self.sometimes() and not amount.startswith("matching"):
            amount = self.pick(BUDGETS)
            ends = [] if "x 2" in amount else ["x 2"]
        elif self.pick((False, False, False, True)) and not amount.startswith("matching"):
            amount, scopes = self.pick(RATES), [""]
            ends = [] if "x 2" in amount else ["x 2"]
        if once:
            amount, ends = amount.removesuffix(" x 2"), []
        options = self.options(_own_schemas("prune", ("order", "multiple"))) if self.sometimes() else {}
        scope = self.pick(scopes)
        if scope == "searched":
            options["evaluations"] = "6"
        return Statement(
            " ".join(
                part
                for part in (
                    "prune", unit, scope, amount,
                    self.pick(["", "", *ends]),
                    f"by {self.pick(criteria)}" if self.sometimes() else "",
                    self.pick(("", "", "", "at init", "at 5it", "at 50%")),
                    self.pick(("", "", "", 'except "*0*"', 'in "**"', "except fc")),
                )
                if part
            ),
            options,
        )  # fmt: skip

    def tails(self, arms: Sequence[str], *, split: bool) -> Iterator[Statement]:
        if split:
            yield Statement(f"overlap {self.pick(('', '1 of 2', '2 of 2'))}".strip())
        if self.pick((False, False, False, True)):
            yield Statement("recalibrate")
        if self.often():
            what = "weights" if split else self.pick([w for w in vocabulary.REWIND_TARGETS if w != "mask"])
            of = self.pick(("", "", " of next seed", " of seed 1")) if what != "lr" and not split else ""
            aligned = (" align=dense", " align=current", " align=dense match=activations images=32")
            align = self.pick(("", "", *aligned)) if of else ""
            yield Statement(f"rewind {what}{of}{self.pick(('', ' to init', ' to 4it', ' to 50%'))}{align}")
        if not split and self.pick((False, False, False, True)):
            yield Statement("perturb 10%")
        if self.sometimes():
            schedule = self.pick(sorted(registries.SCHEDULES.builtin))
            schemas = _schemas("retrain")
            if schedule == "recipe":
                schemas = _schemas("train")
            options = {name: schemas[name] for name in registries.SCHEDULES[schedule].options}
            yield Statement(f"retrain {schedule}{self.pick(('', ' 1ep', ' 8it'))}", self.options(options))
        if self.sometimes():
            yield Statement(f"distill from {self.pick(['dense', *arms])}", self.options(_schemas("distill")))

    def cycle(self) -> Statement:
        """A cycle of training alone."""
        inner = self.pick(("rewind lr", "rewind lr to 50%", "perturb 10%; rewind lr", "retrain linear 8it"))
        return Statement(f"cycle {self.pick((1, 2))}", block=tuple(map(Statement, inner.split("; "))))

    def pipeline(self, arms: Sequence[str], *, split: bool) -> Iterator[Statement]:
        if not split and self.pick((False,) * 4 + (True,)):
            yield self.cycle()
        for _ in range(self.pick((1, 1, 1, 2))):
            if self.often():
                yield self.prune(arms, once=False)
                yield from self.tails(arms, split=split)
            else:
                block = [self.prune(arms, once=True), *self.tails(arms, split=split)]
                if self.sometimes():
                    block += [self.prune(arms, once=True), *self.tails(arms, split=split)]
                yield Statement(f"cycle {self.pick((1, 2))}", block=tuple(block))
            if not split and self.pick((False,) * 4 + (True,)):
                yield self.cycle()
        if not split and self.pick((False, False, False, False, True)):
            block = tuple(self.tails((), split=False)) if self.sometimes() else None
            yield Statement(
                "transfer to synthetic size=8 channels=1 train=64 test=32",
                self.options(_schemas("transfer")),
                block or None,
            )

    def questions(self, arms: Sequence[str]) -> Iterator[Statement]:
        controls = [name for name, supported in vocabulary.CONTROLS.items() if supported]
        if self.often():
            named = self.pick([["all"], list(arms) or ["all"]])
            # Those that start from the ticket's weights, which many tickets do not have, come less often.
            others = [name for name in controls if name not in vocabulary.CHOICE_CONTROLS] * 2
            compared = [*named, *self.draw(st.lists(st.sampled_from([*others, *controls]), max_size=2, unique=True))]
            yield Statement(f"compare {', '.join(compared)}", self.options(_schemas("compare")))
        if self.sometimes():
            # `fid` needs generated images and a file.
            quick = [metric for metric in vocabulary.METRICS if metric not in {*SLOW_METRICS, "fid"}]
            metrics = self.draw(st.lists(st.sampled_from(quick), min_size=1, max_size=3, unique=True))
            if self.pick((False,) * 9 + (True,)):
                metrics.append(self.pick(sorted(SLOW_METRICS)))
            yield Statement(f"report {', '.join(metrics)}", self.options(_without_files(_schemas("report")), 1))
        if self.pick((False, False, False, True)):
            yield Statement(
                "stop when "
                + self.pick(
                    ("accuracy < 30%", "sparsity > 60%", "params < 300", "loss > 2", "drop > 40%", "flops < 40%")
                )
            )

    def plan(self) -> Iterator[Statement]:
        yield Statement(f"model {self.model}")
        yield Statement("data digits validation=20%" if self.validates else "data digits")
        yield self.train()
        if self.sometimes():
            yield Statement(self.pick(("seeds 2", "seeds [7]")))
        split = self.pick((False, False, False, False, True))
        if split:
            yield Statement(self.pick(("split classes 2", "split samples 2")))
        arms: list[str] = self.pick(([], [], ["a"], ["a", "b"]))
        if not arms:
            yield from self.pipeline((), split=split)
        elif self.sometimes():
            yield self.prune((), once=False)
        for index, name in enumerate(arms):
            own = [self.train()] if self.pick((False, False, False, True)) else []
            if self.pick((False,) * 5 + (True,)):
                own.append(Statement(f"model {self.pick(MODELS)}"))
            yield Statement(f"arm {name}", block=(*own, *self.pipeline(arms[:index], split=split)))
        yield from self.questions(arms)


@st.composite
def runnable_plans(draw: Any) -> DrawnPlan:
    """A plan; about half of them are valid."""
    return DrawnPlan(tuple(_Drawer(draw).plan()))
