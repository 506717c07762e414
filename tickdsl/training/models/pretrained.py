"""Pretrained weights: torchvision's, or those of a file."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tickdsl.errors import TickdslError, UnreadableWeightsError
from tickdsl.training import weights_files
from tickdsl.training.catalogue import DEFAULT_WEIGHTS, TORCHVISION_PREFIX
from tickdsl.training.part_map import PartMap
from tickdsl.training.torchvision_import import import_torchvision
from tickdsl.training.weights_fit import require_fit

StateDict = Mapping[str, Tensor]
#: The code that a pickle would run, in torch's message.
_REFUSED_CODE = re.compile(r"GLOBAL ([\w.]+)")


def load_pretrained(
    module: nn.Module, classifier_path: str, name: str, weights: str, part: PartMap | None = None
) -> None:
    """Load pretrained weights into a network, in place.

    classifier_path: the classifier's module path; if its number of outputs differs from the weights', it keeps its
    initial weights. weights: `default` for torchvision's best weights of the model `name`, or the path of a
    `.safetensors` file or of a state dict saved with `torch.save`. part: the parts of the weights that are loaded, and
    where they go; everything else keeps its initial weights.

    Raises TickdslError if the weights cannot be downloaded or read, or are those of another network.
    """
    state = _torchvision_weights(name) if weights == DEFAULT_WEIGHTS else _weights_from_file(Path(weights))
    found, expected = (
        {key: tuple(tensor.shape) for key, tensor in each.items()} for each in (state, module.state_dict())
    )
    loadable = require_fit(weights, name, found, expected, classifier_path, part=part)
    if part is not None:
        state = part.rename(state, expected, weights)
    module.load_state_dict({key: state[key] for key in loadable}, strict=False)


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
    weights_files.inspect(path)
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # torch warns of pickles that it then refuses
            # torch.load would go by the suffix of a path, not by the content.
            is_safe = weights_files.is_safetensors(path)
            state: Any = load_file(path) if is_safe else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a damaged file raises anything
        raise _refused(path, error) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # training scripts often wrap it
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UnreadableWeightsError(f"{path} does not contain a state dict", "save `model.state_dict()`")
    return {weights_files.loaded_name(str(key)): tensor for key, tensor in state.items()}


def _refused(path: Path, error: Exception) -> UnreadableWeightsError:
    """The error for a file that cannot be loaded, without torch's advice to load it with the code in it."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and (code := _REFUSED_CODE.search(text)) is not None:
        return UnreadableWeightsError(
            f"{path} holds more than weights: it refers to the code `{code[1]}`",
            "save only `model.state_dict()`; files that contain code are not loaded",
        )
    if "weights_only" in text:
        return UnreadableWeightsError(f"{path} does not contain a state dict", "save `model.state_dict()`")
    reason = text.splitlines()[0] if text else type(error).__name__
    return UnreadableWeightsError(f"the weights file {path} is damaged: {reason}", "download or save it again")
