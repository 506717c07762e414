"""Words from other tools and from papers, with the plan language's words for them."""

from __future__ import annotations

#: Other word -> our word.
SYNONYMS: dict[str, str] = {
    # units
    "channels": "filters", "channel": "filters", "kernels": "filters", "connections": "weights", "edges": "weights",
    "nodes": "neurons", "units": "neurons",
    # options of a training
    "learning_rate": "lr", "learning-rate": "lr", "weight_decay": "decay", "weight-decay": "decay", "wd": "decay",
    "l2": "decay", "batch_size": "batch", "batch-size": "batch", "bs": "batch", "optim": "opt",
    "scheduler": "schedule", "lr_scheduler": "schedule", "warm-up": "warmup", "smoothing": "label-smoothing",
    "augmentation": "augment",
    # data sets, criteria, schedules
    "fmnist": "fashion-mnist", "fashionmnist": "fashion-mnist", "tinyimagenet": "tiny-imagenet", "abs": "magnitude",
    "weight": "magnitude", "norm": "l2", "l1-norm": "l1", "l2-norm": "l2", "bn": "bn-scale", "bn-gamma": "bn-scale",
    "gamma": "bn-scale", "slimming": "bn-scale", "geometric-median": "fpgm", "rank": "hrank", "slr": "scaled",
    "clr": "one-cycle", "1cycle": "one-cycle", "onecycle": "one-cycle", "ft": "fine-tune", "step": "milestones",
    # controls and metrics
    "baseline": "dense", "unpruned": "dense", "original": "dense", "full": "dense", "reinit": "random-init",
    "acc": "accuracy", "top1": "accuracy", "top-1": "accuracy", "macs": "flops", "parameters": "params",
    "size": "params", "time": "train-time", "co2": "carbon", "speed": "latency",
}  # fmt: skip
