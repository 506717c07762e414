"""The words of the plan language and what they mean.

The parser's messages, syntax highlighting, the editors' grammar, completion, hover texts and the grammar tests read
these tables. `option_schemas` holds the options of statements, `registries` the words that plug-ins can extend.
"""

from __future__ import annotations

import re
from typing import Literal

import attrs

from tickdsl.training.catalogue.tasks import METRIC_SUMMARIES, TASK_METRICS, is_share

#: Grammar terminal -> the words it accepts -> what each one means.
CLOSED_WORDS: dict[str, dict[str, str]] = {
    "UNIT": {
        "weights": "individual weights of convolutional and linear layers, set to zero by a mask",
        "filters": "output channels of convolutions; channels joined by an addition are removed together",
        "neurons": "outputs of hidden linear layers, such as the hidden units of a transformer's feed-forward layers",
        "heads": "heads of attention, with their queries, keys and values",
        "head-dims": "dimensions within heads: the same one of all heads, of queries and keys or of values",
        "layers": "whole residual blocks, or convolutions whose input and output shapes are equal",
        "blocks": "same as `layers`",
    },
    "SCOPE": {
        "global": "rank the units of all layers together (default)",
        "local": "rank the units of each layer separately",
        "uniform": "same as `local`",
        "erk": "layer-wise densities by the Erdős–Rényi kernel: wide layers become sparser (weights only)",
        "balanced": "layer-wise densities that leave every layer as many weights (weights only)",
        "searched": "what each layer loses is searched: as much as makes the network best on validation data",
    },
    "BASE": {
        "remaining": "a share of the units that are left (default)",
        "original": "a share of the units of the dense network",
    },
    "COST": {
        "flops": "a share of the dense network's multiply-adds",
        "params": "a share of the dense network's parameters",
        "latency": "a share of the time that the dense network takes for one input on the machine that prunes",
    },
    "WHAT": {
        "lr": "keep the weights and replay the recipe from that moment",
        "weights": "restore the weights of the dense run at that moment and train from there",
        "signs": "give the weights the signs that they had at that moment, and replay the recipe from there",
        "magnitudes": "restore the dense run of that moment, but keep the signs of the weights",
        "mask": "take the mask of another seed",
    },
    "SPLIT_BY": {
        "classes": "each part holds some of the classes",
        "samples": "each part holds some of the images of every class",
    },
}
UNITS = tuple(CLOSED_WORDS["UNIT"])
#: The units of which a layer has a number that pruning makes smaller.
CHANNEL_UNITS = ("filters", "neurons", "heads", "head-dims")
SCOPES = tuple(CLOSED_WORDS["SCOPE"])
#: The scopes that set the densities of layers, for weights only.
DENSITY_SCOPES = ("erk", "balanced")
AMOUNT_BASES = tuple(CLOSED_WORDS["BASE"])
COSTS = tuple(CLOSED_WORDS["COST"])
REWIND_TARGETS = tuple(CLOSED_WORDS["WHAT"])
SPLIT_KINDS = tuple(CLOSED_WORDS["SPLIT_BY"])


@attrs.frozen
class StatementForm:
    """The kind, syntax and one-line summary of a statement."""

    kind: Literal["definition", "setting", "pipeline", "question"]
    form: str
    summary: str


STATEMENTS: dict[str, StatementForm] = {
    "plan": StatementForm("definition", "plan 1", "the language version"),
    "let": StatementForm("definition", "let NAME = VALUE", "define a variable; use it as `$NAME`"),
    "include": StatementForm(
        "definition", 'include "x.plan"', "insert the definitions, settings and arms of another file"
    ),
    "seeds": StatementForm(
        "definition",
        "seeds 5 | 1..5 | [1, 7]",
        "run everything once per seed; comparisons pair the arms of the same seed",
    ),
    "sweep": StatementForm(
        "definition", "sweep NAME in [a, b] | 1..5", "repeat every arm that uses `$NAME` once per value"
    ),
    "model": StatementForm("setting", "model NAME [on DATA] [key=value …]", "the network to prune"),
    "data": StatementForm("setting", "data NAME [key=value …]", "the data set"),
    "split": StatementForm(
        "setting",
        "split classes|samples K",
        "train and prune once per part of the data, always from the same initial weights",
    ),
    "train": StatementForm("setting", "train [LENGTH] [key=value …]", "the training recipe"),
    "prune": StatementForm(
        "pipeline",
        "prune UNIT [SCOPE] AMOUNT [x N] [until SHARE] [by CRITERION] [at MOMENT] [in LAYER, …] [except LAYER, …] "
        "[order=highest] [multiple=8] [from MOMENT to MOMENT every MOMENT] [via penalty|zeroing] [key=value …]",
        "train the network, rank its units and remove the lowest-ranked",
    ),
    "overlap": StatementForm("pipeline", "overlap [k of K]", "keep the units that at least k of the K parts kept"),
    "refill": StatementForm(
        "pipeline",
        "refill filters [by l1|count|saliency] [extra=SHARE]",
        "turn the pruned weights of each convolution into whole filters: the best are filled, the others emptied",
    ),
    "regroup": StatementForm(
        "pipeline",
        "regroup [groups=N] [ratio=FACTOR] [min-rows=N]",
        "turn the pruned weights of each convolution into dense blocks of similar filters",
    ),
    "union": StatementForm("pipeline", "union of ARM, …", "keep what the tickets of these arms keep, too"),
    "recalibrate": StatementForm(
        "pipeline", "recalibrate", "compute the statistics of batch norm anew, on the network that was pruned"
    ),
    "grow": StatementForm(
        "pipeline", "grow weights AMOUNT|all [by CRITERION]", "put removed weights back into the network"
    ),
    "rewind": StatementForm(
        "pipeline",
        "rewind lr|weights|signs|magnitudes|mask [of seed N|of next seed|of run NAME] [to MOMENT] [align=…] [match=…]",
        "set where the training after a prune starts from, or take a mask",
    ),
    "perturb": StatementForm(
        "pipeline", "perturb SHARE", "add noise to the weights that the next training starts from"
    ),
    "retrain": StatementForm(
        "pipeline", "retrain SCHEDULE [LENGTH] [key=value …]", "continue training with another schedule"
    ),
    "distill": StatementForm(
        "pipeline", "distill from ARM|dense [key=value …]", "add a distillation loss to the training"
    ),
    "evolve": StatementForm(
        "pipeline",
        "evolve weights SHARE [by magnitude] [grow=gradient|random|momentum] [key=value …]",
        "exchange weights of a sparse network while it trains (SET, RigL, SNFS)",
    ),
    "stretch": StatementForm(
        "pipeline",
        "stretch to MODEL [order=append|interpolate] [key=value …]",
        "train the ticket as a deeper network of its family, with copies of its blocks",
    ),
    "squeeze": StatementForm(
        "pipeline",
        "squeeze to MODEL [drop=last|alternate|[BLOCK, …]] [key=value …]",
        "train the ticket as a shallower network of its family, without some of its blocks",
    ),
    "transfer": StatementForm(
        "pipeline", "transfer to DATA [head=reset|keep]", "train the pruned structure on another data set"
    ),
    "cycle": StatementForm(
        "pipeline",
        "cycle N { prune …; rewind … } | cycle N { rewind … }",
        "repeat a block of statements, or a training, N times",
    ),
    "arm": StatementForm(
        "question", "arm NAME { settings and pipeline }", "one variant; the statements before the arms apply to all"
    ),
    "compare": StatementForm(
        "question",
        "compare ARM, …, random-init, dense [key=value …]",
        "test arms against controls and the dense network",
    ),
    "report": StatementForm(
        "question",
        "report METRIC, …, barrier of ARM to ARM|next seed [key=value …]",
        "the metrics shown in the results table",
    ),
    "stop": StatementForm(
        "question", "stop when METRIC <|<=|>|>= VALUE", "end an arm after the first level that meets the condition"
    ),
}

#: Keyword inside a statement -> what follows it.
CLAUSE_WORDS: dict[str, str] = {
    "on": "the model's data set",
    "in": "the only layers to prune; after `sweep NAME`: the values",
    "except": "layers that are not pruned",
    "of": "the base of a share (`20% of original`), a cost (`to 50% of flops`), the number of parts (`2 of 3`), "
    "another seed, the arms of a `union`, or the networks of a barrier",
    "to": "the final sparsity or share of a cost removed, the moment to rewind to, the data set to transfer to, the "
    "network to stretch or squeeze to, or the other network of a barrier",
    "matching": "the arm whose sparsity to match",
    "until": "prune in rounds until this share or condition is reached",
    "by": "the criterion that ranks the units",
    "at": "the moment of the training at which to prune (default: its end)",
    "from": "the arm to use as the teacher, or the moment at which a gradual prune starts",
    "every": "how often a gradual prune removes units",
    "via": "what happens to the chosen units before they are removed: `penalty` or `zeroing`",
    "all": "every unit that was removed",
    "seed": "another seed of the same arm, by its number",
    "run": "a stored run, by the name or the path of its folder, whose mask is taken",
    "next": "the seed after each seed of the plan; after the last one, the first",
    "when": "the condition that ends an arm",
}
#: Words for moments, besides lengths and shares.
MOMENT_WORDS: dict[str, str] = {
    "init": "initialisation, before the first training step",
    "pretrained": "the pretrained weights that the model was loaded with",
}

#: Matches `# ok TD505` at the end of a line; the first group holds the codes.
SILENCE_COMMENT = re.compile(r"#\s*ok\b([^#\n]*)")

#: Networks that `compare` builds without an arm of that name -> whether this version supports them.
CONTROLS: dict[str, bool] = {
    "dense": True, "random-init": True, "random-structure": True, "early": True,
    "shuffled-mask": True, "by-magnitude": True, "by-snip": True, "by-grasp": True, "by-synflow": True,
}  # fmt: skip
#: The controls that start from the ticket's weights and have its training, with another choice of what is left.
CHOICE_CONTROLS = ("shuffled-mask", "by-magnitude", "by-snip", "by-grasp", "by-synflow")
ALL_ARMS = "all"

#: Built-in metrics of `report`.
METRICS = (
    "accuracy", "loss", "sparsity", "params", "flops", "rounds", "train-time", "train-flops",
    "latency", "memory", "energy", "carbon",
    "early-stop", "pruned", "robustness", "barrier", "data", "fid", "distance", "sign-agreement", "mask-overlap",
    "ensemble",
)  # fmt: skip
#: Metric or control -> what it means.
WORD_SUMMARIES: dict[str, str] = {
    **METRIC_SUMMARIES,
    "sparsity": "share of the weights that are removed",
    "params": "number of weights left",
    "flops": "multiply-adds per image or other input",
    "drop": "how much worse than the dense network of its seed a ticket is in the primary metric",
    "rounds": "pruning rounds up to this level",
    "train-time": "training time in seconds",
    "train-flops": "multiply-adds of all trainings that led to a network; pruned weights take none",
    "latency": "seconds for one image or text, and for one batch",
    "memory": "bytes needed for the outputs of a batch, and to train for one step",
    "energy": "energy used by training, in joules: measured if the machine has a counter, else estimated from `watts`",
    "carbon": "CO2 emitted by training, in grams: the energy times `intensity`",
    "early-stop": "when the loss was lowest, on validation data or else on the test set",
    "data": "memory that the training data take, and the share of the training time spent waiting for them",
    "pruned": "test accuracy straight after the prune, before any retraining",
    "robustness": "accuracy on corrupted images and under adversarial attack",
    "barrier": "increase in test error along the line to the same network trained with another data order",
    "distance": "how far weights are from their initial values and from those of the next seed, relative to their norm",
    "sign-agreement": "share of the weights left that have their initial sign, and the sign that they have in the next "
    "seed",
    "mask-overlap": "of the weights that a seed or the next one has left, the share that both have",
    "ensemble": "the compared metric of the averaged outputs of all seeds of a network",
    "fid": "Fréchet inception distance of generated images, by the weights of Inception in `inception`",
    "dense": "the unpruned network; always included",
    "random-init": "the same structure, trained from new random weights",
    "random-structure": "the same number of units per layer (or, with `match=`, the same cost), chosen at random, with "
    "the original initial weights",
    "early": "the dense network, trained for a short time",
    "shuffled-mask": "the weights and the training of the ticket, with as many units in every layer, chosen at random",
    "by-magnitude": "the weights and the training of the ticket, pruned at once by `magnitude` to its size",
    "by-snip": "the weights and the training of the ticket, pruned at once by `snip` to its size",
    "by-grasp": "the weights and the training of the ticket, pruned at once by `grasp` to its size",
    "by-synflow": "the weights and the training of the ticket, pruned by `synflow` to its size in 100 steps",
    "all": "every arm",
}
#: Metrics of `report` that can be measured between the networks of two arms or seeds.
LINE_METRICS = ("barrier",)
#: How `grow` ranks the weights that were removed.
GROWTH_CRITERIA: dict[str, str] = {
    "magnitude": "the largest weights in the network that the last prune ranked come back",
    "gradient": "the weights with the largest gradients of the loss come back",
    "random": "weights come back at random",
}
#: How `refill` ranks filters.
REFILL_CRITERIA: dict[str, str] = {
    "l1": "the sum of the absolute weights that a filter has left",
    "count": "how many weights a filter has left",
    "saliency": "the sum of |output × gradient| of a filter over training images",
}
#: How much worse than the dense network of its seed a ticket is in the primary metric.
DROP = "drop"
#: Metrics of the size of a network, which conditions can test whatever its task is.
SIZE_METRICS = ("sparsity", "params", "flops")
#: Metrics that a `stop when` or `until` condition can test; tasks of plug-ins have others.
CONDITION_METRICS = (*TASK_METRICS, DROP, *SIZE_METRICS)
#: A further metric for `until`: how much the mask of this epoch differs from the masks of the epochs before.
MASK_DISTANCE = "mask-distance"


def is_test_result(metric: str) -> bool:
    """Whether a metric of a condition is a result on the test set: one of the task, built in or of a plug-in."""
    return metric not in (*SIZE_METRICS, MASK_DISTANCE)


def is_percentage(metric: str) -> bool:
    """Whether a plan gives a metric of a condition as a percentage. Metrics of plug-ins' tasks are not known here."""
    return metric == "sparsity" or is_share(metric)
