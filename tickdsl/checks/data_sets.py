"""Check the data sets that must be read to know their images: image folders, and those of plug-ins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.engine.graph_cache import data_facts
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plan.model import Data
from tickdsl.printable import printable_line
from tickdsl.training import catalogue

_MAX_NAMED = 3
#: Data sets that can be read at once wherever tickdsl is installed.
_INSTALLED = ("digits", "mnist-small")


def diagnostics(data: Data, root: Path) -> Iterator[Diagnostic]:
    """Yield findings about a data set. Raises TickdslError if it cannot be read."""
    if catalogue.DATASETS[data.name].shape is not None:
        if data.name in _INSTALLED and "samples" in data.options and "validation" in data.options:
            data_facts(data, root)  # raises TooFewError if the samples of a class cannot be divided
        return
    facts = data_facts(data, root)
    for note in facts.notes:
        yield Diagnostic("TD531", f"{data.name}: {note}", data.span)
    for classes, kind in ((facts.untested, "test"), (facts.untrained, "training")):
        if classes:
            names = ", ".join(map(printable_line, classes[:_MAX_NAMED])) + (", …" if len(classes) > _MAX_NAMED else "")
            message = f"{data.name}: no {kind} images in {len(classes)} of {facts.classes} classes: {names}"
            yield Diagnostic("TD532", message, data.span, help=f"add {kind} images to each class, or remove the class")
