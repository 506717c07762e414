"""The classifier in whose features generated images are judged outside a run: that of the run, or one trained anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.engine.steps.judging_features import FEATURES
from tickdsl.engine.steps.result_files import load_weights
from tickdsl.records.bucket_store import open_store
from tickdsl.results.formatting import percent
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.features import classifier_features, train_classifier
from tickdsl.training.tasks import Features

#: The store that runs use unless they are told otherwise.
DEFAULT_STORE = Path(".tick/store")


@attrs.frozen(eq=False)
class Judge:
    """Features to judge generated images by, and a sentence for the user about where they come from."""

    features: Features
    note: str


def judge_for(data: Dataset, origin: Mapping[str, Any], store: Path | None = None) -> Judge:
    """The judge of images that are generated like those of `data`, a data set for classification.

    origin: where a ticket was found, as in `Origin`; if the store (default: the one in this folder) has the classifier
    of its run, and this was trained on the same data, it judges. Else the same one is trained, in seconds.

    Raises TickdslError if the data have no labels.
    """
    stored = stored_judge(data, (origin.get("keys") or {}).get(FEATURES), store or DEFAULT_STORE)
    if stored is not None:
        return Judge(stored, "images were judged in the features of the classifier that the run used")
    model, history = train_classifier(data)
    return Judge(
        classifier_features(data, model.state_dict()),
        f"images were judged in the features of a classifier that was trained on {data.name} now, as runs train theirs "
        f"(accuracy {percent(history.figures['accuracy'], 2)}): distances can be compared on the same data only",
    )


def stored_judge(data: Dataset, key: str | None, folder: Path) -> Features | None:
    """The features by a classifier in a store; None if it is not there, or was trained on other data than `data`."""
    if not key or not folder.is_dir():
        return None
    store = open_store(folder, lambda warning: None)
    if not store.check(key):
        return None
    result = store.get(key)
    if result.data["parts"]["args"]["data"]["fingerprint"] != data.fingerprint:
        return None
    return classifier_features(data, load_weights(result.folder))
