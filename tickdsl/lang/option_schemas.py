"""The options of each statement: their types, ranges and summaries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs

from tickdsl.lang import no_effect
from tickdsl.lang.no_effect import Is, NoEffect
from tickdsl.training.recipes.augmentations import PLAIN_AUGMENTATIONS
from tickdsl.training.recipes.losses import LOSSES
from tickdsl.training.recipes.recipe import OPTIMISERS, SAMPLINGS, Recipe


@attrs.frozen
class OptionType:
    """The type of an option: how its value is written and which values are allowed.

    kind: `int`, `float`, `share` (a percentage or a number in [0, 1]), `points` (a percentage), `moment`, `moments`,
    `word` (one of `words`), `words` (a list of them), `names` (a list of any), `blocks` (one of `words`, or a list of
    patterns), `schedule` (one of `words`, or a plug-in), `loss` and `optimiser` (the same, with options:
    `"focal(gamma=1)"`), `augmentations` (a list of such), `weights` (`balanced`, `none` or a list of numbers), `metric`
    (one of the task), `flag` (on/off) or `text`.
    least, most: the smallest and the largest allowed value. above, below: every allowed value is greater, or less, than
    this. among: the only allowed values (empty: all).
    idle: the combinations of other settings with which the option does nothing.
    """

    kind: str
    summary: str = ""
    words: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None
    among: tuple[int, ...] = ()
    idle: tuple[NoEffect, ...] = ()

    def reason_for_no_effect(self, settings: Mapping[str, Any], written: Collection[str] = ()) -> NoEffect | None:
        """Why the option does nothing with these settings and these options beside it; None if it has an effect."""
        return next((reason for reason in self.idle if reason.holds(settings, written)), None)


_ADAM_ONLY = NoEffect(
    "with `opt={opt}`, which has no betas", "use `opt=adam`, or remove it",
    {"opt": Is(("adam", "adamw"), negated=True), "schedule": Is(no_effect.SCHEDULES)},
)  # fmt: skip
TRAIN_OPTIONS: dict[str, OptionType] = {
    "opt": OptionType("optimiser", "optimizer", tuple(OPTIMISERS.builtin)),
    "lr": OptionType(
        "float", "initial learning rate", above=0,
        idle=(
            NoEffect(
                "beside `max-lr=`: one-cycle starts at `max-lr` / `div`", "remove it, or set `div=`",
                {"schedule": Is(("one-cycle",))}, ("max-lr",),
            ),
        ),
    ),
    "bias-lr": OptionType(
        "float", "SGD: multiple of the learning rate that biases are trained at", above=0,
        idle=(
            NoEffect(
                "with `opt={opt}`, which divides gradients by their size", "use `opt=sgd`, or remove it",
                {"opt": Is(("adam", "adamw"))},
            ),
        ),
    ),
    "batch": OptionType("int", "batch size", least=1),
    "momentum": OptionType(
        "float", "SGD momentum", least=0,
        idle=(
            NoEffect(
                "with `opt={opt}`, which has no momentum to set", "use `opt=sgd`, or remove it",
                {"opt": Is(("sgd",), negated=True), "schedule": Is(("one-cycle",), negated=True)},
            ),
            NoEffect(
                "with `schedule=one-cycle`, which sets the momentum itself",
                "remove it; `momentum=0` trains without momentum",
                {"schedule": Is(("one-cycle",)), "momentum": Is((0,), negated=True)},
            ),
        ),
    ),
    "nesterov": OptionType("flag", "use Nesterov momentum"),
    "beta1": OptionType(
        "float", "Adam: decay rate of the average gradient", least=0, below=1,
        idle=(
            _ADAM_ONLY,
            NoEffect(
                "with `schedule=one-cycle`, which sets it itself", "remove it", {"schedule": Is(("one-cycle",))},
            ),
        ),
    ),
    "beta2": OptionType(
        "float", "Adam: decay rate of the average squared gradient", least=0, below=1, idle=(_ADAM_ONLY,)
    ),
    "decay": OptionType("float", "weight decay", least=0),
    "schedule": OptionType("schedule", "learning rate schedule", no_effect.SCHEDULES),
    "milestones": OptionType(
        "moments", "when the learning rate is multiplied by `gamma`",
        idle=(
            no_effect.only_with("milestones", "remove it, or use `schedule=milestones`"),
            NoEffect(
                "with `gamma=1`", "use another `gamma=`, or remove it",
                {"schedule": Is(("milestones",)), "gamma": Is((1,))},
            ),
        ),
    ),
    "gamma": OptionType("float", "learning rate factor at each milestone", above=0, idle=(no_effect.GAMMA_IDLE,)),
    "warmup": OptionType("moment", "length of the linear warm-up from 0"),
    "warmup-start": OptionType(
        "float", "share of the rate that the linear warm-up starts at", least=0, below=1, idle=(no_effect.NO_RISE,)
    ),
    "max-lr": OptionType("float", "one-cycle: peak learning rate", above=0, idle=(no_effect.ONE_CYCLE_ONLY,)),
    "pct-start": OptionType("share", "one-cycle: share of the steps before the peak", idle=(no_effect.ONE_CYCLE_ONLY,)),
    "div": OptionType("float", "one-cycle: peak rate / initial rate", above=0, idle=(no_effect.ONE_CYCLE_ONLY,)),
    "final-div": OptionType("float", "one-cycle: initial rate / final rate", above=0, idle=(no_effect.ONE_CYCLE_ONLY,)),
    "precision": OptionType("word", "number format for training", ("fp32", "tf32", "bf16", "auto")),
    "compile": OptionType("word", "compile the network with torch.compile", ("on", "off", "auto")),
    "augment": OptionType(
        "augmentations", "random augmentations of training images", ("none", *PLAIN_AUGMENTATIONS)
    ),
    "label-smoothing": OptionType("float", "share of the target probability spread over all classes", least=0),
    "bn-l1": OptionType("float", "strength of an L1 penalty on the scales of batch norm (network slimming)", least=0),
    "clip": OptionType("float", "largest norm of the gradient; a longer one is scaled down (0: off)", least=0),
    "accumulate": OptionType("int", "micro-batches that a batch is computed in, to need less memory", least=1),
    "ema": OptionType("float", "decay rate of the moving average of the weights that is kept", least=0, below=1),
    "mixup": OptionType("float", "mix images with others: a of Beta(a, a), from which the share is drawn", least=0),
    "cutmix": OptionType("float", "put a part of another image into each: a of Beta(a, a) of its area", least=0),
    "patience": OptionType("moment", "stop after so many epochs without improvement on validation data"),
    "monitor": OptionType(
        "word", "what `patience` looks at: the loss, or the metric of the task", ("loss", "metric"),
        idle=(no_effect.WITHOUT_PATIENCE,),
    ),
    "loss": OptionType("loss", "what is minimised (default: the loss of the task)", tuple(LOSSES.builtin)),
    "class-weights": OptionType(
        "weights", "weights of the classes or labels in the loss: balanced, or one for each", ("balanced", "none")
    ),
    "sampling": OptionType("word", "how images are drawn: each once per epoch, or all classes alike", SAMPLINGS),
    "resize-from": OptionType("share", "height and width of the images in the first epoch; all in the last", below=1),
}  # fmt: skip
#: Options that every schedule of `retrain` accepts.
_COMMON_RETRAIN_OPTIONS = (
    "opt",
    "bias-lr",
    "batch",
    "momentum",
    "nesterov",
    "beta1",
    "beta2",
    "decay",
    "precision",
    "compile",
    "augment",
    "label-smoothing",
    "bn-l1",
    "clip",
    "accumulate",
    "ema",
    "mixup",
    "cutmix",
    "patience",
    "monitor",
    "loss",
    "class-weights",
    "sampling",
    "resize-from",
)
RETRAIN_OPTIONS: dict[str, OptionType] = {
    "lr": OptionType(
        "float", "highest learning rate (default: the recipe's highest; `fine-tune`: the recipe's last)", above=0
    ),
    "min-lr": OptionType(
        "float",
        "learning rate at the start of a warm-up and at the end of `cyclic` (default: the recipe's last)",
        least=0,
        idle=(
            no_effect.STRETCHED_ONE_CYCLE,
            attrs.evolve(no_effect.NO_WARMUP, settings={"retrain": Is(("scaled",)), "rise": Is(("linear",))}),
        ),
    ),
    "pct-start": OptionType(
        "share",
        "share of the steps with a rising learning rate (default 10%)",
        idle=(no_effect.STRETCHED_ONE_CYCLE, no_effect.NO_WARMUP),
    ),
    "gamma": attrs.evolve(
        TRAIN_OPTIONS["gamma"],
        idle=(attrs.evolve(no_effect.GAMMA_IDLE, help="use milestones in `train`, or remove it"),),
    ),
    "max-lr": attrs.evolve(
        TRAIN_OPTIONS["max-lr"],
        idle=(NoEffect("beside `lr=`, which sets the same peak", "remove one of them", beside=("lr",)),),
    ),
    **{name: TRAIN_OPTIONS[name] for name in ("div", "final-div", *_COMMON_RETRAIN_OPTIONS)},
    # Options of `recipe` only.
    **{name: TRAIN_OPTIONS[name] for name in ("schedule", "milestones", "warmup", "warmup-start")},
}
#: Schedule of `retrain` -> the options it accepts.
SCHEDULE_OPTIONS = {
    "fine-tune": ("lr", *_COMMON_RETRAIN_OPTIONS),
    "scaled": ("lr", "min-lr", "pct-start", "gamma", *_COMMON_RETRAIN_OPTIONS),
    "one-cycle": ("lr", "max-lr", "pct-start", "div", "final-div", *_COMMON_RETRAIN_OPTIONS),
    "cyclic": ("lr", "min-lr", "pct-start", *_COMMON_RETRAIN_OPTIONS),
    "linear": ("lr", "pct-start", *_COMMON_RETRAIN_OPTIONS),
    "scratch": ("lr", *_COMMON_RETRAIN_OPTIONS),
    "recipe": tuple(TRAIN_OPTIONS),
}
#: Options that a plug-in schedule accepts.
PLUGIN_SCHEDULE_OPTIONS = ("lr", "min-lr", "pct-start", "gamma", "div", "final-div", *_COMMON_RETRAIN_OPTIONS)
#: What two levels have in common that are compared with each other: their number, or the share that is left.
MATCHED_BY = ("weights", "flops", "params", "level")
#: The units that a prune removes: those with the lowest scores, or (losing tickets) those with the highest.
ORDERS = ("lowest", "highest")
COMPARE_OPTIONS: dict[str, OptionType] = {
    "levels": OptionType(
        "word", "the levels at which controls are trained", ("all", "last"), idle=(no_effect.NO_CONTROL,)
    ),
    "within": OptionType("points", "how much less accurate than the dense network, or worse, a winning ticket may be"),
    "metric": OptionType("metric", "the metric of the task that networks are compared by (default: its primary one)"),
    "budget": OptionType(
        "word",
        "what a control's training matches the ticket's in",
        ("epochs", "flops", "total"),
        idle=(no_effect.NO_PRUNED_CONTROL,),
    ),
    "match": OptionType(
        "word",
        "what `random-structure` has in common with the ticket: the units of every layer, or the cost",
        ("units", "flops", "params"),
        idle=(no_effect.NO_RANDOM_STRUCTURE,),
    ),
    "at": OptionType(
        "word",
        "which levels of two arms are compared: equal rounds, or rounds that leave as much",
        MATCHED_BY,
        idle=(no_effect.NO_ARM_PAIR,),
    ),
}
REPORT_OPTIONS: dict[str, OptionType] = {
    "every": OptionType("moment", "how often early-stop measures the validation loss, e.g. 100it (default: per epoch)"),
    "batch": OptionType("int", "batch size for latency and memory (default 128)", least=1, most=65_536),
    "watts": OptionType(
        "float", "power draw of training where no counter can be read (default: depends on the device)", above=0
    ),
    "intensity": OptionType("float", "grams of CO2 per kilowatt-hour (default 480)", least=0),
    "inception": OptionType("text", "for `fid`: the .pth file with torchvision's weights of Inception v3"),
}
#: Option of `report` -> the metrics that use it.
REPORT_OPTION_METRICS: dict[str, tuple[str, ...]] = {
    "every": ("early-stop",),
    "batch": ("latency", "memory"),
    "watts": ("energy", "carbon"),
    "intensity": ("carbon",),
    "inception": ("fid",),
}
#: How a gradual prune approaches its amount, and what can happen to units before they are removed.
CURVES = ("cubic", "linear")
VIAS: dict[str, str] = {
    "penalty": "train with an L2 penalty on what was chosen, which grows, then remove it",
    "zeroing": "set what was chosen to zero from time to time in the training, and remove it at its end",
}
PRUNE_OPTIONS: dict[str, OptionType] = {
    "order": OptionType("word", "which units are removed: those with the lowest or the highest scores", ORDERS),
    "multiple": OptionType(
        "int", "what the number of channels of a pruned layer is a multiple of", least=1, most=65_536
    ),
    "evaluations": OptionType(
        "int",
        "`searched`: how many networks are evaluated on validation data (default: 4 per layer and 17 more)",
        least=4,
        most=100_000,
    ),
    "curve": OptionType("word", "how the removed share of a gradual prune grows", CURVES),
    "step": OptionType("float", "`via penalty`: how much the penalty's factor grows at a time", above=0),
    "every": OptionType("moment", "`via …`: how often the factor grows, or units are set to zero"),
    "to": OptionType("float", "`via penalty`: the factor at which the penalty stops growing", above=0),
    "power": OptionType(
        "int", "`via penalty`: the factor grows with this power of the steps taken: 1, 2 or 3", least=1, most=3
    ),
    "hold": OptionType("moment", "`via penalty`: how long the network trains on with the full penalty"),
    "lr": OptionType("float", "`via penalty`: the learning rate of the training with the penalty", above=0),
    "batch": OptionType("int", "`via penalty`: its batch size", least=1),
}
#: What a prune is carried out by -> the options that it takes: `gradual`, `penalty`, `zeroing`.
PRUNE_OPTION_OWNERS: dict[str, tuple[str, ...]] = {
    "gradual": ("curve",),
    "penalty": ("step", "every", "to", "power", "hold", "lr", "batch"),
    "zeroing": ("every",),
}
#: What enters the network in an `evolve`.
GROWTHS = ("gradient", "random", "momentum")
EVOLVE_OPTIONS: dict[str, OptionType] = {
    "grow": OptionType(
        "word", "the weights that enter: those with the largest gradient or momentum, or random", GROWTHS
    ),
    "every": OptionType("moment", "how often weights are exchanged"),
    "until": OptionType("moment", "when the last exchange is over"),
    "fan-in": OptionType("word", "`constant`: all outputs of a layer have equally many weights", ("free", "constant")),
}
REFILL_OPTIONS: dict[str, OptionType] = {
    "extra": OptionType("share", "share of the other filters that is filled too (Refill+)", above=0, below=1),
}
REGROUP_OPTIONS: dict[str, OptionType] = {
    "groups": OptionType("int", "parts that the filters of a layer are divided into (default 8)", least=1, most=1024),
    "ratio": OptionType(
        "float", "a block has more inputs than so many times the weights left outside, in every filter (default 1.5)",
        above=0,
    ),
    "min-rows": OptionType("int", "a part of no more filters than this gets no block (default 16)", least=0),
}  # fmt: skip
SPLIT_OPTIONS: dict[str, OptionType] = {}
#: The training images that units are matched by the activations of, by default.
MATCHING_IMAGES = 1024
REWIND_OPTIONS: dict[str, OptionType] = {
    "align": OptionType(
        "word",
        "match the units of the other seed's network to this one's, in the dense networks at the end of their training "
        "or in the current ones",
        ("dense", "current"),
    ),
    "match": OptionType(
        "word", "`align=`: match units by their weights (default) or by their activations", ("weights", "activations")
    ),
    "images": OptionType(
        "int",
        "`match=activations`: how many training images give the activations (default 1024)",
        least=2,
        idle=(
            NoEffect(
                "without `match=activations`: weights are matched without images",
                "add it, or remove `images=`",
                {"match": Is(("activations",), negated=True)},
            ),
        ),
    ),
    "arm": OptionType("text", "`of run`: the arm of that run, by its name or id (default: its only one)"),
    "level": OptionType("int", "`of run`: the level of that arm (default: this one, or its last)", least=1),
    "seed": OptionType("int", "`of run`: the seed of that run (default: this one, or its only one)", least=0),
}
DISTILL_OPTIONS: dict[str, OptionType] = {
    "temperature": OptionType("float", "softmax temperature of the distillation loss", above=0),
    "weight": OptionType("share", "weight of the distillation loss in the total loss", above=0),
    "until": OptionType("moment", "when distillation ends"),
}
TRANSFER_OPTIONS: dict[str, OptionType] = {
    "head": OptionType("word", "whether the classifier is re-initialised or kept", ("reset", "keep")),
}
#: How a stretch fills the stages of a deeper network, and what a squeeze drops, besides a list of blocks.
ORDERS_OF_BLOCKS = ("append", "interpolate")
DROPS = ("last", "alternate")
STRETCH_OPTIONS: dict[str, OptionType] = {
    "order": OptionType("word", "how copies of blocks are ordered: B1 B2 B1 B2, or B1 B1 B2 B2", ORDERS_OF_BLOCKS),
}
SQUEEZE_OPTIONS: dict[str, OptionType] = {
    "drop": OptionType("blocks", "the blocks to leave out: the last of every stage, every other one, or a list", DROPS),
}
#: Statement -> its options. Those of `model` and `data` depend on the name that follows.
STATEMENT_OPTIONS: dict[str, dict[str, OptionType]] = {
    "train": TRAIN_OPTIONS,
    "prune": PRUNE_OPTIONS,
    "retrain": RETRAIN_OPTIONS,
    "split": SPLIT_OPTIONS,
    "refill": REFILL_OPTIONS,
    "regroup": REGROUP_OPTIONS,
    "rewind": REWIND_OPTIONS,
    "distill": DISTILL_OPTIONS,
    "evolve": EVOLVE_OPTIONS,
    "stretch": STRETCH_OPTIONS,
    "squeeze": SQUEEZE_OPTIONS,
    "transfer": TRANSFER_OPTIONS,
    "compare": COMPARE_OPTIONS,
    "report": REPORT_OPTIONS,
}


def retrain_options(schedule: str, names: Iterable[str]) -> dict[str, OptionType]:
    """The options of `retrain SCHEDULE` with these names: those of `recipe` are the ones of `train`."""
    kinds = TRAIN_OPTIONS if schedule == "recipe" else RETRAIN_OPTIONS
    return {name: kinds[name] for name in names}


def option_schema(options: Any) -> dict[str, OptionType]:
    """Convert the options of a model or data set (`catalogue.Option` by name) to option types."""
    kinds = {int: "int", float: "float", str: "text", bool: "flag", list: "names"}
    return {
        name: OptionType("share", option.summary, above=0, below=1)
        if option.is_share
        else OptionType("word", option.summary, tuple(map(str, option.among)))
        if option.type is str and option.among
        else OptionType(
            kinds[option.type],
            option.summary,
            least=option.least,
            most=option.most,
            among=tuple(value for value in option.among if isinstance(value, int)),
        )
        for name, option in options.items()
    }


def recipe_field(option: str) -> str:
    """The `Recipe` field of a `train` option: `label-smoothing` is `label_smoothing`."""
    return "optimizer" if option == "opt" else option.replace("-", "_")


def recipe_settings(recipe: Recipe, **further: Any) -> dict[str, Any]:
    """The settings of a recipe that `NoEffect` can name: its `train` options, `rise`, and `further` ones."""
    options = {name: getattr(recipe, recipe_field(name)) for name in TRAIN_OPTIONS}
    return {**options, "rise": recipe.rise, **further}
