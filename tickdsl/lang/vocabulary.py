"""The closed words of the language and the schemas of its open ones. One table; everything else reads it."""

from __future__ import annotations

import attrs

UNITS = ("weights", "filters", "neurons", "layers", "blocks")
SCOPES = ("global", "local", "uniform")
REWINDS = ("lr", "weights")
SPLITS = ("classes", "samples")

STATEMENTS = (
    "plan", "let", "include", "seeds", "sweep", "model", "data", "split", "train", "prune", "overlap",
    "rewind", "retrain", "distill", "transfer", "cycle", "arm", "compare", "report", "stop",
)  # fmt: skip


@attrs.frozen
class Criterion:
    """What ranks units: which units it can rank, what it needs, and whether this version carries it out."""

    summary: str
    units: tuple[str, ...]
    needs: str = ""
    ready: bool = True


CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion("mean absolute weight of the unit", UNITS),
    "l1": Criterion("sum of absolute weights", UNITS),
    "l2": Criterion("Euclidean norm of the weights; of a layer their root mean square", UNITS),
    "bn-scale": Criterion("absolute scale of the batch norm behind the filter", ("filters",), "batch norm"),
    "random": Criterion("a seeded uniform draw", UNITS),
    "fpgm": Criterion("distance to the geometric median", ("filters",), ready=False),
    "taylor": Criterion("first-order change of the loss", ("weights", "filters", "neurons"), "data", False),
    "snip": Criterion("connection sensitivity", UNITS, "data", False),
    "grasp": Criterion("gradient signal preservation", UNITS, "data", False),
    "synflow": Criterion("synaptic flow", ("weights", "filters", "neurons"), ready=False),
    "hrank": Criterion("rank of the feature maps", ("filters", "layers", "blocks"), "data", False),
    "cka": Criterion("similarity of representations", ("layers", "blocks"), "data", False),
    "expected-abs": Criterion("expected absolute activation", ("layers", "blocks"), "data", False),
}

#: What ranks units where the plan does not say. Filters by their norm: under Kaiming initialisation norms are alike
#: in all layers, while mean absolute weights shrink and sums grow with the fan-in, so that a global ranking by them
#: empties wide or narrow layers.
DEFAULT_CRITERIA = {"weights": "magnitude", "filters": "l2", "neurons": "l2", "layers": "l1"}

#: Rivals that `compare` knows without an arm of that name -> whether this version carries them out.
RIVALS: dict[str, bool] = {"dense": True, "random-init": True, "random-structure": True, "early": False}
ALL_ARMS = "all"

#: What `report` can show -> whether this version measures it.
METRICS: dict[str, bool] = {
    "accuracy": True, "loss": True, "sparsity": True, "params": True, "flops": True, "rounds": True,
    "train-time": True, "latency": False, "memory": False, "energy": False, "carbon": False,
    "early-stop": False, "robustness": False, "barrier": False,
}  # fmt: skip
#: What a `stop when` or an `until` condition can watch.
WATCHABLE = ("accuracy", "loss", "sparsity", "params", "flops")


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
    "schedule": OptionType("word", "", ("constant", "milestones", "cosine", "one-cycle", "linear")),
    "milestones": OptionType("moments", "where the rate drops"),
    "gamma": OptionType("float", "factor at a milestone", above=0),
    "warmup": OptionType("moment", "linear warm-up from 0"),
    "max-lr": OptionType("float", "one-cycle's peak", above=0),
    "pct-start": OptionType("share", "one-cycle's rising share"),
    "div": OptionType("float", "one-cycle: peak / first rate", above=0),
    "final-div": OptionType("float", "one-cycle: first rate / last rate", above=0),
    "precision": OptionType("word", "", ("fp32", "bf16", "auto")),
    "augment": OptionType("words", "", ("none", "crop", "flip", "rotation")),
    "label-smoothing": OptionType("float", "", least=0),
}
COMPARE_OPTIONS: dict[str, OptionType] = {
    "levels": OptionType("word", "judge rivals at", ("all", "last")),
    "within": OptionType("share", "how far below dense a ticket may lie and still win"),
    "budget": OptionType("word", "a rival's training length", ("epochs", "flops")),
}
SPLIT_OPTIONS: dict[str, OptionType] = {}
