"""Pretrained weights: torchvision's, or those of a file."""

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
from tickdsl.training.catalogue import DEFAULT_WEIGHTS, TORCHVISION_PREFIX
from tickdsl.training.torchvision_import import import_torchvision

StateDict = Mapping[str, Tensor]
#: Prefixes of auxiliary classifiers, which networks are built without.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def load_pretrained(module: nn.Module, classifier_path: str, name: str, weights: str) -> None:
    """Load pretrained weights into a network, in place.

    classifier_path: the classifier's module path; if its number of outputs differs from the weights', it keeps its
    initial weights. weights: `default` for torchvision's best weights of the model `name`, or the path of a
    `.safetensors` file or of a state dict saved with `torch.save`.

    Raises TickdslError if the weights cannot be downloaded or read, or are those of another network.
    """
    state = _torchvision_weights(name) if weights == DEFAULT_WEIGHTS else _weights_from_file(Path(weights))
    model_state = module.state_dict()
    unexpected = [key for key in state if key not in model_state and not key.startswith(_AUXILIARY)]
    missing = [key for key in model_state if key not in state and not key.endswith("num_batches_tracked")]
    if unexpected or missing:
        key = (unexpected or missing)[0]
        raise TickdslError(
            f"weights={weights} are not those of {name}: {'the network has no' if unexpected else 'they lack'} {key}",
            "use weights that were saved from this network",
        )
    matching = {key: tensor for key, tensor in state.items() if key in model_state}
    mismatched = [key for key, tensor in matching.items() if tensor.shape != model_state[key].shape]
    mismatched_body = [key for key in mismatched if not key.startswith(f"{classifier_path}.")]
    if mismatched_body:
        shapes = f"{tuple(matching[mismatched_body[0]].shape)}, not {tuple(model_state[mismatched_body[0]].shape)}"
        raise TickdslError(
            f"weights={weights} do not fit {name} on this data: {mismatched_body[0]} is {shapes}",
            "use images of the size that the weights were trained on",
        )
    # If the classifier does not match, load neither its weight nor its bias.
    loadable = {
        key: tensor for key, tensor in matching.items() if not (mismatched and key.startswith(f"{classifier_path}."))
    }
    module.load_state_dict(loadable, strict=False)


def _torchvision_weights(name: str) -> StateDict:
    import_torchvision()
    from torchvision.models import get_model_weights

    try:
        best = get_model_weights(name.removeprefix(TORCHVISION_PREFIX)).DEFAULT
        state: StateDict = best.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TickdslError(
            f"cannot download the weights of {name}: {reason}",
            'download them on another machine and set `weights="resnet18.pth"`',
        ) from error
    return state


def _weights_from_file(path: Path) -> StateDict:
    if not path.is_file():
        raise TickdslError(f"there is no weights file {path}", "paths are relative to the folder in which tickdsl runs")
    try:
        state: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise TickdslError(
            f"cannot read weights from {path}: {str(error).splitlines()[0]}",
            "save a state dict with torch.save or safetensors; files that contain code are not loaded",
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # training scripts often wrap it
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise TickdslError(f"{path} does not contain a state dict", "save `model.state_dict()`")
    return {str(key).removeprefix("module."): tensor for key, tensor in state.items()}
