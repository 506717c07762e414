"""Small plans with every criterion, control and metric, to be run on a device that is not the CPU."""

from __future__ import annotations

SMALL = "model small-cnn width=0.5\ndata synthetic size=8 train=128 test=64 classes=4\n"
RECIPES = "train 3ep lr=0.05 batch=32 decay=5e-4 milestones=[2ep]\n"
RESNET = "model resnet20 width=0.25\ndata synthetic size=8 train=64 test=64 classes=4\n"
EVERYTHING = "report accuracy, params, flops, train-time, memory, latency, energy, carbon, robustness, barrier\n"
PLANS = {
    "at initialisation": SMALL + RECIPES + """\
sweep criterion in [snip, grasp, magnitude, random]
arm once { prune weights to 80% by $criterion at init }
arm flow { prune weights to 80% x 5 by synflow at init }
compare once, flow, random-init, random-structure, dense
""",
    "filters": SMALL + RECIPES + """\
sweep criterion in [l1, l2, fpgm, bn-scale, taylor, hrank, expected-abs, random]
arm filters { prune filters local 30% x 2 by $criterion; rewind lr to 1ep }
compare filters, dense
""",
    "overlap": SMALL + RECIPES + """\
seeds 2
arm colt { split classes 2; prune weights global 40% x 2 except fc; overlap; rewind weights to init }
arm imp { prune weights global 40% x 2 except fc; rewind weights to 1ep }
compare colt, imp, random-init, dense within=1%
""" + EVERYTHING,
    "distillation": SMALL + RECIPES + """\
arm kd { prune weights global to 80% except fc; rewind weights to 1ep; distill from dense temperature=5 weight=0.9 }
compare kd, dense
""",
    "sparse training": SMALL + """\
train 3ep lr=0.05 batch=32 decay=5e-4 milestones=[2ep] bn-l1=1e-4
sweep grow in [gradient, random, momentum]
arm evolving { prune weights erk to 80% by random at init; evolve weights 30% grow=$grow every=2it fan-in=constant }
arm exchanged { prune weights to 50% x 2; rewind lr; evolve weights 30% every=3it }
arm gradual { prune weights to 80% from 1it to 2ep every 2it; grow weights 10% by gradient; rewind lr }
arm moved { prune weights local to 80% from 1it to 2ep every 3it by movement }
arm sensitive { prune weights to 80% from 1it to 2ep every 3it by snip }
arm changed { prune weights to 80% by delta; rewind lr; grow weights all; retrain fine-tune 1ep lr=0.01 }
arm penalised { prune filters local 30% by l2 via penalty step=0.5 every=1it to=1 hold=3it; rewind lr }
arm soft { prune filters local 30% by l2 via zeroing every=1ep; rewind lr }
arm refilled { prune weights to 60% except fc; refill filters by saliency extra=10%; rewind weights to 1ep }
arm regrouped { prune weights to 60% except fc; regroup groups=2 min-rows=2; recalibrate; rewind lr }
compare all, random-init, dense
report accuracy, sparsity, train-flops, barrier, pruned
""",
    "early bird": SMALL + """\
train 6ep lr=0.05 batch=32
arm early-bird { prune filters global 50% by bn-scale until mask-distance < 0.3; rewind lr }
compare early-bird, dense
""",
    "retraining": SMALL + RECIPES + """\
arm fine-tune { prune filters local 60%; retrain fine-tune 2ep }
arm one-cycle { prune filters local 60%; retrain one-cycle 2ep }
arm scratch { prune filters local 60%; retrain scratch }
compare all, dense budget=flops
""",
    "layers": RESNET + RECIPES + """\
sweep criterion in [snip, grasp, hrank, cka, expected-abs, random]
arm layers { prune layers 3 by $criterion at init }
arm filters { prune filters global matching layers by snip at init }
compare layers, filters, dense
""",
    "transfer": """\
data synthetic size=8 train=128 test=64 classes=4 channels=1
model small-cnn
train 3ep lr=0.05 batch=32
arm colt { split classes 2; prune weights 50% x 2 except fc; overlap; rewind weights to init; transfer to digits }
compare colt, random-init, dense
""",
}  # fmt: skip
