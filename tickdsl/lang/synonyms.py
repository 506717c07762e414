"""Words from other tools and from papers, with the plan language's words for them."""

from __future__ import annotations

#: Other word -> our word.
SYNONYMS: dict[str, str] = {
    # units
    "channels": "filters", "channel": "filters", "kernels": "filters", "connections": "weights", "edges": "weights",
    "nodes": "neurons", "units": "neurons", "hidden-units": "neurons", "head": "heads", "attention-heads": "heads",
    "attention_heads": "heads", "head_dims": "head-dims", "head-dim": "head-dims", "head_dim": "head-dims",
    # options of a training
    "learning_rate": "lr", "learning-rate": "lr", "weight_decay": "decay", "weight-decay": "decay", "wd": "decay",
    "clip_norm": "clip", "grad_clip": "clip", "clip-norm": "clip", "grad-clip": "clip", "max_norm": "clip",
    "accum": "accumulate", "grad_accum": "accumulate", "accumulation": "accumulate", "micro-batches": "accumulate",
    "gradient_accumulation_steps": "accumulate", "ema_decay": "ema", "ema-decay": "ema",
    "model_ema": "ema", "l2": "decay", "batch_size": "batch", "batch-size": "batch", "bs": "batch", "optim": "opt",
    "scheduler": "schedule", "lr_scheduler": "schedule", "warm-up": "warmup", "smoothing": "label-smoothing",
    "augmentation": "augment", "lr_schedule": "schedule", "sched": "schedule", "optimizer": "opt",
    "pretrained": "weights", "root": "path", "dir": "path", "image_size": "size", "img_size": "size",
    "resolution": "size",
    # data sets, criteria, schedules
    "fmnist": "fashion-mnist", "fashionmnist": "fashion-mnist", "tinyimagenet": "tiny-imagenet", "abs": "magnitude",
    "weight": "magnitude", "norm": "l2", "l1-norm": "l1", "l2-norm": "l2", "bn": "bn-scale", "bn-gamma": "bn-scale",
    "gamma": "bn-scale", "slimming": "bn-scale", "geometric-median": "fpgm", "rank": "hrank", "slr": "scaled",
    "clr": "one-cycle", "1cycle": "one-cycle", "onecycle": "one-cycle", "ft": "fine-tune", "step": "milestones",
    "multistep": "milestones", "steplr": "milestones", "multisteplr": "milestones", "onecyclelr": "one-cycle",
    "cosineannealinglr": "cosine",
    # controls and metrics
    "baseline": "dense", "unpruned": "dense", "original": "dense", "full": "dense", "reinit": "random-init",
    "acc": "accuracy", "top1": "accuracy", "top-1": "accuracy", "macs": "flops", "parameters": "params",
    "size": "params", "time": "train-time", "co2": "carbon", "speed": "latency",
}  # fmt: skip

#: Option that a statement does not have, because something else says it -> what to write.
SAID_ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(
        ("epochs", "epoch", "length", "max_epochs"), "write the length before the options, e.g. `train 160ep`"
    ),
    **dict.fromkeys(
        ("steps", "iterations", "iters", "max_steps"), "write the length before the options, e.g. `train 500it`"
    ),
    **dict.fromkeys(("seed", "seeds", "random_state", "manual_seed"), "use the statement `seeds 3`"),
    **dict.fromkeys(("device", "gpu", "cuda"), "choose the device with `tickdsl run --device`"),
    **dict.fromkeys(
        ("workers", "num_workers", "jobs"), "choose how many steps run at a time with `tickdsl run --jobs`"
    ),
    **dict.fromkeys(("amp", "fp16", "half", "mixed_precision"), "use `precision=bf16`"),
    **dict.fromkeys(
        ("dropout", "num_classes", "in_channels"), "a network is changed in its own code: see `tickdsl graph --list`"
    ),
}
