"""The networks of timm and transformers, as far as their names tell; see `tickdsl.plugins.libraries`."""

from __future__ import annotations

from collections.abc import Mapping

from tickdsl.plugins import Library, Registry, library_of
from tickdsl.training.catalogue.models import HF_FAMILY, TIMM_FAMILY, VECTOR_TASKS, ModelInfo, plugin_model
from tickdsl.training.catalogue.models import models as built_in_models
from tickdsl.training.catalogue.options import MAP, Option

#: The largest options of a transformer: those of tickdsl's own.
_MAX_LAYERS, _MAX_HEADS, _MAX_DIM = 64, 64, 4096

_TIMM_OPTIONS: Mapping[str, Option] = {
    "weights": Option(str, "", "load the initial weights: `default` (timm's), or a .safetensors or .pth file"),
    "map": MAP,
    "dropout": Option(
        float, 0.0, "the share of values that dropout before the classifier zeroes", least=0.0, most=0.95
    ),
}


def _hf_options(purposes: tuple[str, ...]) -> dict[str, Option]:
    """The options of networks of transformers; sizes of 0 are those of `config`, or else of the type."""
    takes_images = "images" in purposes
    sizes = ("its type's",) * 3 if takes_images else ("2", "4", "64")
    layers, heads, dim = (f"0: {size}, or what `config` says" for size in sizes)
    options = {
        "layers": Option(int, 0, f"number of layers ({layers})", least=1, most=_MAX_LAYERS),
        "heads": Option(int, 0, f"heads of attention per layer ({heads})", least=1, most=_MAX_HEADS),
        "dim": Option(int, 0, f"channels per token, a multiple of `heads` ({dim})", least=1, most=_MAX_DIM),
    }
    if takes_images:
        options["patch"] = Option(int, 0, "pixels per side of a patch (0: as its type says)", least=1, most=64)
    if {"sequences", "language"} <= {*purposes}:
        options["head"] = Option(
            str, "", "what the outputs are: one answer for a text, or the next token", among=("classify", "language")
        )
    return options | {
        "config": Option(str, "", "a folder with a config.json, or the name of a repository of the Hugging Face Hub"),
        "weights": Option(str, "", "load the initial weights: `default` (those of `config`), or a .safetensors file"),
        "map": MAP,
    }


def library_model(library: Library, name: str) -> ModelInfo:
    """A network of an installed library. Raises KeyError if the library has none of this name."""
    purposes = library.names()[library.base_name(name)]
    if library.prefix == TIMM_FAMILY:
        return ModelInfo(name, f"timm's {name.partition('.')[2]}, random weights", TIMM_FAMILY, residual=True,
                         options=_TIMM_OPTIONS)  # fmt: skip
    takes_images, takes_texts = "images" in purposes, bool({"sequences", "language"} & {*purposes})
    answers = {"images", "sequences"} & {*purposes}
    return ModelInfo(
        name,
        f"transformers' type {name.partition('.')[2]}, random weights",
        HF_FAMILY,
        residual=True,
        inputs="any" if takes_images and takes_texts else "images" if takes_images else "tokens",
        tasks=(*(VECTOR_TASKS if answers else ()), *(("language",) if "language" in purposes else ())),
        options=_hf_options(purposes),
    )


class ModelRegistry(Registry[ModelInfo]):
    """tickdsl's models and torchvision's, users' plug-ins, and the networks of installed libraries by their prefix.

    Iterating leaves out the networks of libraries, which are many.
    """

    def __getitem__(self, name: str) -> ModelInfo:
        library = library_of(name)
        if library is None or name in self.builtin:
            return super().__getitem__(name)
        if not library.is_installed:
            raise library.missing
        return library_model(library, name)

    def __contains__(self, name: object) -> bool:
        library = library_of(name) if isinstance(name, str) else None
        if library is None or name in self.builtin:
            return super().__contains__(name)
        return library.has(str(name))


MODELS = ModelRegistry("model", built_in_models(), plugin_model)
