"""The closed words of the language and the schemas of its open ones. One table; everything else reads it.

Messages, highlighting, the editors' grammar, completion, hover texts and the tests of the grammar all come from here.
"""

from __future__ import annotations

import re
from typing import Literal

import attrs

from tickdsl.plugins import Plugin, PluginDescription, PluginError, Registry

#: Words that a statement chooses from, by the grammar's terminal -> what each means.
CLOSED_WORDS: dict[str, dict[str, str]] = {
    "UNIT": {
        "weights": "single weights of convolutions and linear layers, masked",
        "filters": "channels of convolutions; those that additions tie together go together",
        "neurons": "channels between linear layers",
        "layers": "the smallest regions that can go whole: residual blocks, or convolutions of equal shape",
        "blocks": "another word for `layers`",
    },
    "SCOPE": {
        "global": "all layers are ranked together (the default)",
        "local": "each layer is ranked by itself",
        "uniform": "another word for `local`",
    },
    "BASE": {
        "remaining": "of the units that are left (the default)",
        "original": "of the units that there were",
    },
    "WHAT": {
        "lr": "keep the weights, replay the recipe",
        "weights": "take the weights of the dense run at that moment, and the recipe from there on",
    },
    "SPLIT_BY": {
        "classes": "each part holds some of the classes",
        "samples": "each part holds some of the pictures of every class",
    },
}
UNITS = tuple(CLOSED_WORDS["UNIT"])
SCOPES = tuple(CLOSED_WORDS["SCOPE"])
AMOUNT_BASES = tuple(CLOSED_WORDS["BASE"])
REWIND_TARGETS = tuple(CLOSED_WORDS["WHAT"])
SPLIT_KINDS = tuple(CLOSED_WORDS["SPLIT_BY"])


@attrs.frozen
class StatementForm:
    """A statement: its kind, how it is written, and what it does."""

    kind: Literal["definition", "setting", "pipeline", "question"]
    form: str
    summary: str


STATEMENTS: dict[str, StatementForm] = {
    "plan": StatementForm("definition", "plan 1", "the version of the language"),
    "let": StatementForm("definition", "let NAME = VALUE", "a name for a value; `$NAME` stands for it"),
    "include": StatementForm("definition", 'include "x.plan"', "definitions, settings and arms of another file"),
    "seeds": StatementForm(
        "definition", "seeds 5 | 1..5 | [1, 7]", "runs everything once per seed; arms of one seed are paired"
    ),
    "sweep": StatementForm(
        "definition", "sweep NAME in [a, b] | 1..5", "repeats the arms that read `$NAME` for each value"
    ),
    "model": StatementForm("setting", "model NAME [on DATA] [key=value …]", "the network"),
    "data": StatementForm("setting", "data NAME [key=value …]", "the data set"),
    "split": StatementForm(
        "setting", "split classes|samples K", "trains once per part, from one shared initialisation"
    ),
    "train": StatementForm("setting", "train [LENGTH] [key=value …]", "the recipe of a training"),
    "prune": StatementForm(
        "pipeline",
        "prune UNIT [SCOPE] AMOUNT [x N] [until SHARE] [by CRITERION] [at MOMENT] [in LAYER, …] [except LAYER, …]",
        "trains what is pending, then scores, chooses and removes",
    ),
    "overlap": StatementForm("pipeline", "overlap [k of K]", "keeps what at least k of the parts kept"),
    "rewind": StatementForm("pipeline", "rewind lr|weights [to MOMENT]", "what the next training starts from"),
    "retrain": StatementForm(
        "pipeline", "retrain SCHEDULE [LENGTH] [key=value …]", "trains on by a schedule of its own"
    ),
    "distill": StatementForm(
        "pipeline", "distill from ARM|dense [key=value …]", "adds a distillation loss to the training"
    ),
    "transfer": StatementForm(
        "pipeline", "transfer to DATA [head=reset|keep]", "carries the structure over to other data"
    ),
    "cycle": StatementForm("pipeline", "cycle N { prune …; rewind … }", "rounds, spelled out"),
    "arm": StatementForm(
        "question", "arm NAME { settings and pipeline }", "one way to go on from what stands before the arms"
    ),
    "compare": StatementForm(
        "question", "compare ARM, …, random-init, dense [key=value …]", "what is set against what"
    ),
    "report": StatementForm("question", "report METRIC, … [key=value …]", "what the table shows"),
    "stop": StatementForm("question", "stop when METRIC <|<=|>|>= VALUE", "ends an arm after the first such level"),
}

#: Words inside statements -> what follows them.
CLAUSE_WORDS: dict[str, str] = {
    "on": "the data set of this model",
    "in": "only these layers; of a sweep: its values",
    "except": "all layers but these",
    "of": "`of original`, `of remaining`; `overlap 2 of 3`",
    "to": "a share that is gone in the end; the moment that a rewind goes back to; a transfer's data",
    "matching": "as much as that arm removed",
    "until": "as many rounds as that takes",
    "by": "the criterion that ranks",
    "at": "the moment at which pruning happens, instead of the end of the training",
    "from": "the arm that teaches",
    "when": "a condition on a level",
}
#: Words for moments beside lengths and shares.
MOMENT_WORDS: dict[str, str] = {
    "init": "before the first step of the training",
    "pretrained": "the weights from elsewhere that the model begins with",
}

#: `# ok TD505` at the end of a line; the codes stand in the first group.
SILENCE_COMMENT = re.compile(r"#\s*ok\b([^#\n]*)")


@attrs.frozen
class Criterion:
    """What ranks units: which units it can rank, and what it needs beside the weights.

    needs: `data` (training pictures, drawn from the seed), `gradients`, `network` (it is run, without data), `training`
    (before it the ranking says nothing), `batch norm`.
    """

    summary: str
    units: tuple[str, ...]
    needs: tuple[str, ...] = ()


_CHANNELS, _LAYERS = ("filters", "neurons"), ("layers", "blocks")
_CRITERIA = {
    "magnitude": Criterion("mean absolute weight of the unit", UNITS),
    "l1": Criterion("sum of absolute weights", UNITS),
    "l2": Criterion("Euclidean norm of the weights; of a layer their root mean square", UNITS),
    "bn-scale": Criterion(
        "absolute scale of the batch norm behind the filter", ("filters",), ("training", "batch norm")
    ),
    "fpgm": Criterion("mean distance to the other filters of the layer", _CHANNELS),
    "random": Criterion("a seeded uniform draw", UNITS),
    "snip": Criterion("connection sensitivity: weight times gradient, absolute", UNITS, ("data", "gradients")),
    "grasp": Criterion("what the gradient flow loses without the weight", UNITS, ("data", "gradients")),
    "synflow": Criterion("synaptic flow, without data", ("weights", *_CHANNELS), ("network",)),
    "taylor": Criterion(
        "squared first-order change of the loss", ("weights", *_CHANNELS), ("data", "gradients", "training")
    ),
    "hrank": Criterion("mean rank of the feature maps", ("filters", *_LAYERS), ("data",)),
    "expected-abs": Criterion("mean absolute activation", (*_CHANNELS, *_LAYERS), ("data",)),
    "cka": Criterion("how unlike the representation is without the layer", _LAYERS, ("data",)),
    "kl": Criterion("divergence of the answers without the layer", _LAYERS, ("data",)),
}
#: What a criterion may need.
CRITERION_NEEDS = ("data", "gradients", "network", "training", "batch norm")


def _plugin_criterion(plugin: Plugin, found: PluginDescription) -> Criterion:
    """A plug-in: a function on weights ranks all units, a class says which."""
    summary = found.summary or plugin.origin
    if found.function:
        return Criterion(summary, UNITS)
    said = {"units": found.attributes.get("units", ()), "needs": found.attributes.get("needs", ())}
    for word, known in (("units", UNITS), ("needs", CRITERION_NEEDS)):
        if not isinstance(said[word], tuple | list) or any(each not in known for each in said[word]):
            way_out = f"give a tuple of {', '.join(map(repr, known))}"
            raise PluginError(f"`{plugin.name}` has {word} = {said[word]!r}", way_out)
    if not said["units"]:
        raise PluginError(f"`{plugin.name}` does not say which units it ranks", 'write e.g. units = ("filters",)')
    return Criterion(summary, tuple(said["units"]), tuple(said["needs"]))


#: What ranks units by name; users add more.
CRITERIA: Registry[Criterion] = Registry("criterion", _CRITERIA, _plugin_criterion)

#: What ranks units where the plan does not say. Filters by their norm: under Kaiming initialisation norms are alike
#: in all layers, while mean absolute weights shrink and sums grow with the fan-in, so that a global ranking by them
#: empties wide or narrow layers.
DEFAULT_CRITERIA = {"weights": "magnitude", "filters": "l2", "neurons": "l2", "layers": "l1"}

#: Rivals that `compare` knows without an arm of that name -> whether this version carries them out.
RIVALS: dict[str, bool] = {"dense": True, "random-init": True, "random-structure": True, "early": True}
ALL_ARMS = "all"

#: What `report` can show.
METRICS = (
    "accuracy", "loss", "sparsity", "params", "flops", "rounds", "train-time", "latency", "memory", "energy", "carbon",
    "early-stop", "robustness", "barrier",
)  # fmt: skip
#: What the metrics and the rivals mean.
WORD_SUMMARIES: dict[str, str] = {
    "accuracy": "share of the test pictures that are classified right",
    "loss": "mean cross-entropy on the test set",
    "sparsity": "share of the weights that are gone",
    "params": "weights that are left",
    "flops": "multiply-adds of one picture",
    "rounds": "rounds of pruning up to the level",
    "train-time": "seconds of training",
    "latency": "seconds to classify one picture, and a batch",
    "memory": "bytes that classifying a batch needs, and a step of training",
    "energy": "joules of the training: counted where the machine does, else from stated watts",
    "carbon": "grams of CO2 of the training, by a stated intensity",
    "early-stop": "the epoch at whose end the test loss was least",
    "robustness": "accuracy on corrupted and attacked pictures",
    "barrier": "rise of the test error on the line to a training with another data order",
    "dense": "the unpruned network; always measured",
    "random-init": "the same structure, trained from fresh weights",
    "random-structure": "as many units per layer, chosen at random, with the original initial weights",
    "early": "the dense network, trained for a short time",
    "all": "every arm",
}
#: What a `stop when` or an `until` condition can watch.
CONDITION_METRICS = ("accuracy", "loss", "sparsity", "params", "flops")
#: What an `until` can watch beside these: how far what would go now is from what would have gone at the epochs before.
MASK_DISTANCE = "mask-distance"


@attrs.frozen
class OptionType:
    """The type of an option's value: how it is written and what it becomes.

    kind: `int`, `float`, `share` (a percentage or a number in [0, 1]), `moment`, `moments`, `word` (one of
    `words`), `words` (a list of them), `flag` (on/off), `text`.
    """

    kind: str
    summary: str = ""
    words: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None


TRAIN_OPTIONS: dict[str, OptionType] = {
    "opt": OptionType("word", "optimiser", ("sgd", "adam", "adamw")),
    "lr": OptionType("float", "initial learning rate", above=0),
    "batch": OptionType("int", "pictures a step", least=1),
    "momentum": OptionType("float", "SGD momentum", least=0),
    "nesterov": OptionType("flag", "Nesterov momentum"),
    "decay": OptionType("float", "weight decay", least=0),
    "schedule": OptionType(
        "schedule", "how the rate changes", ("constant", "milestones", "cosine", "one-cycle", "linear")
    ),
    "milestones": OptionType("moments", "where the rate drops"),
    "gamma": OptionType("float", "factor at a milestone", above=0),
    "warmup": OptionType("moment", "linear warm-up from 0"),
    "max-lr": OptionType("float", "one-cycle's peak", above=0),
    "pct-start": OptionType("share", "one-cycle's rising share"),
    "div": OptionType("float", "one-cycle: peak / first rate", above=0),
    "final-div": OptionType("float", "one-cycle: first rate / last rate", above=0),
    "precision": OptionType("word", "number format of the arithmetic", ("fp32", "bf16", "auto")),
    "compile": OptionType("word", "let torch compile the network's passes", ("on", "off", "auto")),
    "augment": OptionType("words", "random changes to training pictures", ("none", "crop", "flip", "rotation")),
    "label-smoothing": OptionType("float", "share of the target spread over all classes", least=0),
}
#: What every `retrain` may change beside its schedule.
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
    "lr": OptionType("float", "the highest learning rate (default: the recipe's; of `fine-tune` its last)", above=0),
    "min-lr": OptionType(
        "float", "where a warm-up begins and `cyclic` ends (default: the recipe's last rate)", least=0
    ),
    "pct-start": OptionType("share", "the rising share of the schedule (default 10%)"),
    "gamma": TRAIN_OPTIONS["gamma"],
    **{name: TRAIN_OPTIONS[name] for name in ("max-lr", "div", "final-div", *_COMMON_RETRAIN_OPTIONS)},
}
#: The options that each schedule of `retrain` reads.
_SCHEDULE_OPTIONS = {
    "fine-tune": ("lr", *_COMMON_RETRAIN_OPTIONS),
    "scaled": ("lr", "min-lr", "pct-start", "gamma", *_COMMON_RETRAIN_OPTIONS),
    "one-cycle": ("lr", "max-lr", "pct-start", "div", "final-div", *_COMMON_RETRAIN_OPTIONS),
    "cyclic": ("lr", "min-lr", "pct-start", *_COMMON_RETRAIN_OPTIONS),
    "linear": ("lr", "pct-start", *_COMMON_RETRAIN_OPTIONS),
    "scratch": ("lr", *_COMMON_RETRAIN_OPTIONS),
}
#: What users' schedules can read of the recipe.
_PLUGIN_SCHEDULE_OPTIONS = ("lr", "min-lr", "pct-start", "gamma", "div", "final-div", *_COMMON_RETRAIN_OPTIONS)
COMPARE_OPTIONS: dict[str, OptionType] = {
    "levels": OptionType("word", "judge rivals at", ("all", "last")),
    "within": OptionType("share", "how far below dense a ticket may lie and still win"),
    "budget": OptionType("word", "a rival's training length", ("epochs", "flops")),
}
REPORT_OPTIONS: dict[str, OptionType] = {
    "batch": OptionType("int", "pictures of the batch that is classified (default 128)", least=1),
    "watts": OptionType("float", "power of a training where no counter is readable (default: by the device)", above=0),
    "intensity": OptionType("float", "grams of CO2 for a kilowatt-hour (default 480)", least=0),
}
#: The metrics that read an option of `report`.
REPORT_OPTION_METRICS: dict[str, tuple[str, ...]] = {
    "batch": ("latency", "memory"),
    "watts": ("energy", "carbon"),
    "intensity": ("carbon",),
}
SPLIT_OPTIONS: dict[str, OptionType] = {}
DISTILL_OPTIONS: dict[str, OptionType] = {
    "temperature": OptionType("float", "softens the teacher's answers", above=0),
    "weight": OptionType("share", "the distillation loss's share of the loss"),
    "until": OptionType("moment", "the end of the distillation"),
}
TRANSFER_OPTIONS: dict[str, OptionType] = {
    "head": OptionType("word", "what becomes of the classifier", ("reset", "keep")),
}
#: The schemas of the statements whose options depend on no name.
STATEMENT_OPTIONS: dict[str, dict[str, OptionType]] = {
    "train": TRAIN_OPTIONS,
    "retrain": RETRAIN_OPTIONS,
    "split": SPLIT_OPTIONS,
    "distill": DISTILL_OPTIONS,
    "transfer": TRANSFER_OPTIONS,
    "compare": COMPARE_OPTIONS,
    "report": REPORT_OPTIONS,
}

_SCHEDULES = {
    "fine-tune": "the recipe's last rate, constant",
    "one-cycle": "up to a peak by a cosine and down again, step by step (CLR of Le & Hua)",
    "cyclic": "a short warm-up by a cosine, then a cosine down to the recipe's last rate",
    "scaled": "a warm-up, then the recipe squeezed into the rest (SLR of Le & Hua)",
    "linear": "a short warm-up by a cosine, then a line down to zero",
    "scratch": "the recipe from fresh weights",
}


@attrs.frozen
class Schedule:
    """How `retrain` goes on: what that is, and the options that it reads."""

    summary: str
    options: tuple[str, ...]


#: Schedules of `retrain`; users add more.
SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    {name: Schedule(summary, _SCHEDULE_OPTIONS[name]) for name, summary in _SCHEDULES.items()},
    lambda plugin, found: Schedule(found.summary or plugin.origin, _PLUGIN_SCHEDULE_OPTIONS),
)
#: What `report` can ask for; users add more.
REPORT_METRICS: Registry[str] = Registry(
    "metric", {name: WORD_SUMMARIES[name] for name in METRICS}, lambda plugin, found: found.summary or plugin.origin
)
