"""Random meaningful plans with settings, lets, sweeps, arms and cycles; most of them have no errors."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

MODELS = ("small-cnn", "lenet-300-100", "conv4 width=0.5", "resnet20", "torchvision.resnet18")
DATA = ("digits", "mnist samples=1000", "synthetic classes=4 size=16", 'folder path="here \\"or\\" there"', "cifar10")
TRAIN = (
    "train 10ep", "train 400it lr=0.05", "train 16ep lr=0.1 milestones=[8ep, 12ep] gamma=0.2 warmup=1ep",
    "train 10ep schedule=cosine opt=adam decay=1e-4", "train 12ep max-lr=0.4 pct-start=20% div=10 augment=[crop, flip]",
    "train 10ep lr=1 momentum=0.5 nesterov=on precision=auto label-smoothing=0.1 batch=32",
    "train 10ep augment=[flip, RandomErasing, \"ColorJitter(hue=0.1, saturation=(0.5, 1))\"]",
    "train 10ep loss=\"focal(gamma=1)\" class-weights=balanced sampling=balanced",
    "train 10ep clip=1 accumulate=4 ema=0.999 mixup=0.2 cutmix=1 warmup=1ep warmup-start=0.1",
    "train 10ep lr=0.2 bias-lr=64 schedule=linear warmup=20% resize-from=62.5%",
)  # fmt: skip
AMOUNTS = ("20%", "12.5% of original", "to 87.5%", "0.0625%", "33.3333333333% of remaining")
MOMENTS = ("init", "2ep", "25%", "33.3%", "10it")
RETRAIN = (
    "retrain fine-tune 3ep lr=0.001", "retrain one-cycle 8ep div=50", "retrain cyclic $quarter pct-start=12.5%",
    "retrain scaled 7ep pct-start=30%", "retrain scaled 9ep gamma=0.3 min-lr=0.002", "retrain linear batch=16",
    "retrain scratch 7ep decay=1e-3 augment=flip", "retrain scaled", "retrain one-cycle lr=0.2 opt=adam",
    "retrain recipe 9ep", "retrain recipe 8ep schedule=cosine opt=adam warmup=1ep", "retrain recipe lr=0.02 clip=1",
    "retrain recipe 9ep milestones=[3ep, 6ep] gamma=0.3 ema=0.99",
)  # fmt: skip
CRITERIA = ("", "by l1", "by random", "by snip", "by synflow")
SWEEPS = {
    "scope": "[local, global, uniform]", "share": "[20%, 40%]", "n": "1..3", "by": "[l1, l2, snip]",
    "length": "[8ep, 12ep]", "lr": "[0.1, 1e-2]", "at": "[init, 2ep]", "net": "[small-cnn, conv4]",
    "what": "[lr, weights]",
}  # fmt: skip


@st.composite
def plans(draw: Any) -> str:
    """The text of a plan."""
    pick = lambda words: draw(st.sampled_from(words))  # noqa: E731
    swept = draw(st.lists(st.sampled_from(sorted(SWEEPS)), max_size=2, unique=True))
    lines = [f"sweep {name} in {SWEEPS[name]}" for name in swept]
    patterns = '["layer1.*", conv*, layer2.**, "a \\\\ b"]'
    lets = {"some": "30%", "few": "2", "late": "3ep", "quarter": "25%", "pattern": patterns}
    lines += [f"let {name} = {value}" for name, value in lets.items()]

    def word(name: str, *others: str) -> str:
        return pick((f"${name}", *others)) if name in swept else pick(others)

    model = word("net", *MODELS)
    data = pick(DATA)
    lines += [f"model {model}", f"data {data}"]
    lines += [f"train $length lr={word('lr', '0.1')}" if "length" in swept else pick(TRAIN)]
    lines += [pick(("seeds 2", "seeds [3, 1]", "seeds 4..5", ""))]
    split = pick((True, False, False))
    if split:
        lines.append(pick(("split classes 2", "split samples 3")))

    def tail(others: list[str]) -> str:
        rewind = f"rewind weights to {word('at', *MOMENTS, '$late')}"
        if split:
            return f"overlap; {rewind}" + pick(("", "; retrain linear 3ep"))
        what = f"rewind {word('what', 'lr', 'weights', 'signs', 'magnitudes')} to {pick(MOMENTS)}"
        of = pick(("of next seed", "of seed 7"))
        donated = pick(
            (
                f"rewind mask {of}{pick(('', ' align=dense match=activations'))}; rewind weights to {pick(MOMENTS)}",
                f"rewind signs {of}{pick(('', ' align=current', ' align=dense match=activations images=200'))}",
                f"rewind weights {of} to {pick(MOMENTS)}{pick(('', ' align=dense'))}; perturb 5%",
            )
        )
        if pick((False, False, False, True)):
            return donated
        then = pick((rewind, what, pick(RETRAIN), f"{rewind}; {pick(RETRAIN[:6])}", ""))
        teachers = ["dense", *others]
        coarser = pick(("", "", "", "refill filters by count extra=5%; ", "regroup groups=4 ratio=2 min-rows=0; "))
        then = coarser + pick(("", "", "recalibrate; ")) + then if then else pick(("", "recalibrate"))
        distill = f"; distill from {pick(teachers)}" + pick(("", " temperature=3 weight=50%", " until=50%"))
        if then in ("", "recalibrate"):
            return then
        grown = f"{then}; grow weights {pick(('all', '20%', '30 by random', '10% by gradient'))}; rewind lr"
        then = pick((then, then, then, grown))
        options = pick(("", " grow=random", " until=2ep every=3it fan-in=constant"))
        then += pick(("", "", f"; evolve weights 20%{options}"))
        return then + (distill if pick((True, False)) else "")

    def prune(others: list[str], *, once: bool = False) -> str:
        unit = pick(("weights", "filters", "blocks"))
        scope = word("scope", "", "local", "global")
        amount = word("share", *AMOUNTS, "$some")
        amount = f"matching {pick(others)}" if others and pick((True, False, False, False)) else amount
        times = f"x {word('n', '1', '2', '$few')}" if not once and pick((True, False)) else ""
        ends = (
            pick(("", "", "", "until 90%", "until accuracy < 50%", "until mask-distance < 0.1"))
            if not times and not once
            else ""
        )
        at = pick(("", "", "at init", "at 1ep"))
        by = pick(("by $by", "")) if "by" in swept else pick(CRITERIA)
        layers = pick(("", "", "in $pattern", "except fc", 'except "**.conv1", $pattern'))
        during = ""
        if unit != "blocks" and not (times or ends or at):
            gradual = f"from {pick(('init', '5it', '10%'))} to {pick(('2ep', '60%'))} every 3it"
            ways = (gradual, f"{gradual} curve=linear") if unit == "weights" else ("via zeroing every=1ep",)
            penalty = "via penalty step=0.1 every=2it to=1 hold=10it"
            during = pick(("", "", *ways, penalty, f"{penalty} lr=0.01 batch=16"))
        return " ".join(["prune", unit, scope, amount, times, ends, by, at, layers, during])

    def pipeline(others: list[str]) -> list[str]:
        parts = []
        for _ in range(pick((1, 1, 2, 3))):
            if pick((True, False)):
                parts += [prune(others), tail(others)]
                if not split and pick((False, False, True)):
                    parts.append(f"cycle {pick((2, 3))} {{ {pick(('rewind lr', 'perturb 5%; rewind signs to 1ep'))} }}")
            else:
                body = [part for _ in range(pick((1, 2, 3))) for part in (prune(others, once=True), tail(others))]
                inner = "; ".join(part for part in body if part)
                parts.append(f"cycle {pick((1, 2, 3))} {{ {inner} }}")
        if "resnet20" in model and pick((False, False, True)):
            parts.append(pick(("stretch to resnet32", "stretch to resnet56 order=interpolate")))
        if not split and pick((False, False, True)):
            parts.append(
                f"transfer to synthetic size=8 head={pick(('reset', 'keep'))}" + pick(("", " { retrain linear }"))
            )
        return [part for part in parts if part]

    names = pick(([], [], ["a"], ["a", "b"], ["late", "a-20", "b"]))
    if not names:
        lines += pipeline([])
    elif pick((True, False)):
        lines.append(prune([]))
    for index, name in enumerate(names):
        own = pick(("", "", "train 6ep", "model conv4"))
        lines.append(f"arm {name} {{ {'; '.join(part for part in (own, *pipeline(names[:index])) if part)} }}")
    controls = pick(
        ("", "random-init", "dense, random-structure", "early", "shuffled-mask, by-magnitude", "by-snip, by-synflow")
    )
    compared = pick((["all"], names[-1:], names))
    if (controls or compared) and pick((True, True, False)):
        shown = ", ".join([*compared, *([controls] if controls else [])])
        lines.append(f"compare {shown} {pick(('', 'levels=last', 'within=0.5%', 'budget=flops'))}")
    lines.append(pick(("", "report accuracy, robustness, params", "report latency, carbon batch=32 watts=65.5")))
    lines.append(pick(("", "stop when accuracy < 12.5%", "stop when loss >= 2.5")))
    unread = [f"sweep {name} " for name in swept if not any(f"${name}" in line for line in lines)]
    return "\n".join(line for line in lines if not line.startswith(tuple(unread))) + "\n"
