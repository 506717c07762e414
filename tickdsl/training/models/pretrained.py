"""Weights from elsewhere: torchvision's own, or a file; the classifier stays fresh where its classes are others."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.catalogue import DEFAULT_WEIGHTS, PREFIX
from tickdsl.training.torchvision_import import import_torchvision

State = Mapping[str, Tensor]
#: Classifiers beside the main one, which networks are built without.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def load_pretrained(module: nn.Module, head: str, name: str, weights: str) -> None:
    """Put weights into a network in place: `default`, torchvision's best of that name, or those of a file.

    `head` is the classifier's module path: where the weights' has another number of outputs, it stays as it is. Files
    are `.safetensors`, or of torch.save with nothing but tensors in them. Raises TickdslError where the weights cannot
    be had, or are those of another network.
    """
    state = _default(name) if weights == DEFAULT_WEIGHTS else _file(Path(weights))
    own = module.state_dict()
    foreign = [key for key in state if key not in own and not key.startswith(_AUXILIARY)]
    lacking = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if foreign or lacking:
        odd = (foreign or lacking)[0]
        raise TickdslError(
            f"weights={weights} are not those of {name}: {'the network has no' if foreign else 'they lack'} {odd}",
            "take weights that were saved from this network",
        )
    given = {key: tensor for key, tensor in state.items() if key in own}
    unlike = [key for key, tensor in given.items() if tensor.shape != own[key].shape]
    others = [key for key in unlike if not key.startswith(f"{head}.")]
    if others:
        shapes = f"{tuple(given[others[0]].shape)}, not {tuple(own[others[0]].shape)}"
        raise TickdslError(
            f"weights={weights} do not fit {name} on this data: {others[0]} is {shapes}",
            "give the pictures the size that the weights were trained on",
        )
    # A classifier for other classes is left out whole: half of it would be no classifier.
    kept = {key: tensor for key, tensor in given.items() if not (unlike and key.startswith(f"{head}."))}
    module.load_state_dict(kept, strict=False)


def _default(name: str) -> State:
    import_torchvision()
    from torchvision.models import get_model_weights

    try:
        best = get_model_weights(name.removeprefix(PREFIX)).DEFAULT
        found: State = best.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TickdslError(
            f"the weights of {name} cannot be fetched: {why}",
            'fetch them elsewhere and name the file: `weights="resnet18.pth"`',
        ) from error
    return found


def _file(path: Path) -> State:
    if not path.is_file():
        raise TickdslError(f"there are no weights at {path}", "paths are relative to the folder where tickdsl runs")
    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise TickdslError(
            f"{path} cannot be read as weights: {str(error).splitlines()[0]}",
            "save a state dict, by torch.save or safetensors; files that hold code are not opened",
        ) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]  # as training scripts wrap it
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise TickdslError(f"{path} holds no state dict", "save `model.state_dict()`")
    return {str(key).removeprefix("module."): tensor for key, tensor in found.items()}
