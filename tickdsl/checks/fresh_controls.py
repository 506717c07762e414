"""Check that networks which start from fresh weights can be drawn anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph, image_shape_and_classes
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plan.model import Arm, Plan, Retrain
from tickdsl.plurals import plural
from tickdsl.training.catalogue import MODELS, PLUGIN_FAMILY, architecture_options


def diagnostics(plan: Plan, data: Path | None) -> Iterator[Diagnostic]:
    """Yield a finding about every plug-in network whose weights are not random, if fresh ones are asked for."""
    seen = set()
    for arm in plan.arms:
        name = arm.model.name
        asks = "random-init" in plan.rivals or any(
            isinstance(tail, Retrain) and tail.fresh for group in arm.rounds for tail in group.tail
        )
        if not asks or name in seen or name not in MODELS or MODELS[name].family != PLUGIN_FAMILY:
            continue
        seen.add(name)
        try:
            given = _given_weights(arm, data)
        except TickdslError:
            continue  # reported where the network is traced
        if given:
            names = ", ".join(given[:2]) + (", …" if given[2:] else "")
            verb = "is" if len(given) == 1 else "are"
            yield Diagnostic(
                "TD424",
                f"{plural(len(given), 'weight')} of `{name}` ({names}) {verb} "
                "not drawn at random, so a fresh network keeps the same ones",
                arm.model.span or arm.span,
                help="let the network's code draw its weights, and load others with `weights=`",
            )


def _given_weights(arm: Arm, data: Path | None) -> list[str]:
    """The convolution and linear weights that the network's code does not draw."""
    from tickdsl.training.models import create
    from tickdsl.training.models.initialiser_record import InitialisationRecorder

    shape, classes = image_shape_and_classes(arm.data, data or DEFAULT_DATA_DIR)
    recorder = InitialisationRecorder()
    with recorder:
        options = architecture_options(arm.model.options)
        network = create(arm.model.name, classes=classes, shape=shape, seed=0, options=options)
    weights = dense_graph(arm, data).weights
    return [name for name, origin in recorder.origins(network).items() if name in weights and origin.kind == "given"]
