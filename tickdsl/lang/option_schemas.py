"""The options of each statement: their types, ranges and summaries."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class OptionType:
    """The type of an option: how its value is written and which values are allowed.

    kind: `int`, `float`, `share` (a percentage or a number in [0, 1]), `points` (a percentage), `moment`, `moments`,
    `word` (one of `words`), `words` (a list of them), `schedule` (one of `words`, or a plug-in), `flag` (on/off) or
    `text`.
    least: the smallest allowed value. above: every allowed value is greater than this.
    """

    kind: str
    summary: str = ""
    words: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None


TRAIN_OPTIONS: dict[str, OptionType] = {
    "opt": OptionType("word", "optimizer", ("sgd", "adam", "adamw")),
    "lr": OptionType("float", "initial learning rate", above=0),
    "batch": OptionType("int", "batch size", least=1),
    "momentum": OptionType("float", "SGD momentum", least=0),
    "nesterov": OptionType("flag", "use Nesterov momentum"),
    "decay": OptionType("float", "weight decay", least=0),
    "schedule": OptionType(
        "schedule", "learning rate schedule", ("constant", "milestones", "cosine", "one-cycle", "linear")
    ),
    "milestones": OptionType("moments", "when the learning rate is multiplied by `gamma`"),
    "gamma": OptionType("float", "learning rate factor at each milestone", above=0),
    "warmup": OptionType("moment", "length of the linear warm-up from 0"),
    "max-lr": OptionType("float", "one-cycle: peak learning rate", above=0),
    "pct-start": OptionType("share", "one-cycle: share of the steps before the peak"),
    "div": OptionType("float", "one-cycle: peak rate / initial rate", above=0),
    "final-div": OptionType("float", "one-cycle: initial rate / final rate", above=0),
    "precision": OptionType("word", "number format for training", ("fp32", "bf16", "auto")),
    "compile": OptionType("word", "compile the network with torch.compile", ("on", "off", "auto")),
    "augment": OptionType("words", "random augmentations of training images", ("none", "crop", "flip", "rotation")),
    "label-smoothing": OptionType("float", "share of the target probability spread over all classes", least=0),
}
#: Options that every schedule of `retrain` accepts.
_COMMON_RETRAIN_OPTIONS = (
    "opt",
    "batch",
    "momentum",
    "nesterov",
    "decay",
    "precision",
    "compile",
    "augment",
    "label-smoothing",
)
RETRAIN_OPTIONS: dict[str, OptionType] = {
    "lr": OptionType(
        "float", "highest learning rate (default: the recipe's highest; `fine-tune`: the recipe's last)", above=0
    ),
    "min-lr": OptionType(
        "float",
        "learning rate at the start of a warm-up and at the end of `cyclic` (default: the recipe's last)",
        least=0,
    ),
    "pct-start": OptionType("share", "share of the steps with a rising learning rate (default 10%)"),
    "gamma": TRAIN_OPTIONS["gamma"],
    **{name: TRAIN_OPTIONS[name] for name in ("max-lr", "div", "final-div", *_COMMON_RETRAIN_OPTIONS)},
}
#: Schedule of `retrain` -> the options it accepts.
SCHEDULE_OPTIONS = {
    "fine-tune": ("lr", *_COMMON_RETRAIN_OPTIONS),
    "scaled": ("lr", "min-lr", "pct-start", "gamma", *_COMMON_RETRAIN_OPTIONS),
    "one-cycle": ("lr", "max-lr", "pct-start", "div", "final-div", *_COMMON_RETRAIN_OPTIONS),
    "cyclic": ("lr", "min-lr", "pct-start", *_COMMON_RETRAIN_OPTIONS),
    "linear": ("lr", "pct-start", *_COMMON_RETRAIN_OPTIONS),
    "scratch": ("lr", *_COMMON_RETRAIN_OPTIONS),
}
#: Options that a plug-in schedule accepts.
PLUGIN_SCHEDULE_OPTIONS = ("lr", "min-lr", "pct-start", "gamma", "div", "final-div", *_COMMON_RETRAIN_OPTIONS)
COMPARE_OPTIONS: dict[str, OptionType] = {
    "levels": OptionType("word", "the levels at which controls are trained", ("all", "last")),
    "within": OptionType("points", "how much less accurate than the dense network a winning ticket may be"),
    "budget": OptionType("word", "what a control's training matches the ticket's in", ("epochs", "flops")),
}
REPORT_OPTIONS: dict[str, OptionType] = {
    "batch": OptionType("int", "batch size for latency and memory (default 128)", least=1),
    "watts": OptionType(
        "float", "power draw of training where no counter can be read (default: depends on the device)", above=0
    ),
    "intensity": OptionType("float", "grams of CO2 per kilowatt-hour (default 480)", least=0),
}
#: Option of `report` -> the metrics that use it.
REPORT_OPTION_METRICS: dict[str, tuple[str, ...]] = {
    "batch": ("latency", "memory"),
    "watts": ("energy", "carbon"),
    "intensity": ("carbon",),
}
SPLIT_OPTIONS: dict[str, OptionType] = {}
DISTILL_OPTIONS: dict[str, OptionType] = {
    "temperature": OptionType("float", "softmax temperature of the distillation loss", above=0),
    "weight": OptionType("share", "weight of the distillation loss in the total loss"),
    "until": OptionType("moment", "when distillation ends"),
}
TRANSFER_OPTIONS: dict[str, OptionType] = {
    "head": OptionType("word", "whether the classifier is re-initialised or kept", ("reset", "keep")),
}
#: Statement -> its options. Those of `model` and `data` depend on the name that follows.
STATEMENT_OPTIONS: dict[str, dict[str, OptionType]] = {
    "train": TRAIN_OPTIONS,
    "retrain": RETRAIN_OPTIONS,
    "split": SPLIT_OPTIONS,
    "distill": DISTILL_OPTIONS,
    "transfer": TRANSFER_OPTIONS,
    "compare": COMPARE_OPTIONS,
    "report": REPORT_OPTIONS,
}


def option_schema(options: Any) -> dict[str, OptionType]:
    """Convert the options of a model or data set (`catalogue.Option` by name) to option types."""
    kinds = {int: "int", float: "float", str: "text", bool: "flag"}
    return {
        name: OptionType(kinds[option.type], option.summary, least=getattr(option, "least", None))
        for name, option in options.items()
    }


def recipe_field(option: str) -> str:
    """The `Recipe` field of a `train` option: `label-smoothing` is `label_smoothing`."""
    return "optimizer" if option == "opt" else option.replace("-", "_")
