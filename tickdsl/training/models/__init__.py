"""Networks by name: `create` builds one with its initial weights for a data set's classes and image shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.training.catalogue import (
    DEFAULT_WEIGHTS,
    HF_FAMILY,
    MODELS,
    PLUGIN_FAMILY,
    TIMM_FAMILY,
    ModelInfo,
    architecture_options,
)
from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, is_tokens, one_shape, shape_in_words
from tickdsl.training.models import (
    conv_n,
    fast_resnet,
    generative,
    hf_zoo,
    lenet,
    plain_cnns,
    plugin,
    resnet,
    timm_zoo,
    torchvision_zoo,
    transformers,
    unet,
    vgg,
)
from tickdsl.training.models.fresh_weights import redraw
from tickdsl.training.models.initialisation import classifier_like, initialise, new_classifier
from tickdsl.training.models.initialiser_record import Origin
from tickdsl.training.models.keyword_inputs import one_input_error
from tickdsl.training.models.pretrained import load_pretrained
from tickdsl.training.models.without_memory import WithoutMemory
from tickdsl.training.part_map import PartMap

Builder = Callable[..., nn.Module]  # (classes, input shape, **options)

_BUILDERS: dict[str, Builder] = {
    "small-cnn": plain_cnns.small_cnn,
    "conv3": plain_cnns.conv3,
    "lenet-300-100": lenet.lenet_300_100,
    "lenet5": lenet.lenet5,
    **{f"conv{2 * pairs}": partial(conv_n.conv_n, pairs) for pairs in (1, 2, 3)},
    **{f"vgg{depth}": partial(vgg.vgg, depth) for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": partial(resnet.resnet_cifar, depth) for depth in (20, 32, 44, 56, 110)},
    "fast-resnet": fast_resnet.fast_resnet,
    "resnet18-cifar": resnet.resnet18_cifar,
    "unet": unet.unet,
    "unet-encoder": unet.unet_encoder,
    "autoencoder": generative.autoencoder,
    "conv-autoencoder": generative.conv_autoencoder,
    "vae": generative.vae,
    "conv-vae": generative.conv_vae,
    "dcgan": generative.dcgan,
    "gpt": transformers.gpt,
    "bert": transformers.bert,
    "vit": transformers.vit,
}


def create(
    name: str, *, classes: int, shape: InputShape, seed: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build the network `name` for inputs of `shape`, initialised from `seed`, on the CPU, in train mode.

    tickdsl's own networks are initialised by `initialise`; torchvision's by their constructors, with a new classifier;
    plug-ins' by their factory (see `plugin.ModelFactory`). Networks with the same name and seed share all weights that
    do not depend on `classes`. The option `weights` loads other weights (see `load_pretrained`).

    Raises TickdslError if the name or an option is unknown, or if the network does not accept inputs of this shape.
    """
    info = _checked_info(name, shape, options or {})
    weights = str((options or {}).get("weights", ""))
    if weights == DEFAULT_WEIGHTS and not info.has_fetchable_weights:
        raise TickdslError(
            f"{name} has no pretrained weights to download",
            "set weights= to a file, or use a torchvision model",
        )
    if not info.is_builtin:
        module = _foreign_network(info, name, classes, shape, seed, options or {})
        if weights and not (weights == DEFAULT_WEIGHTS and info.family in (TIMM_FAMILY, HF_FAMILY)):
            load_pretrained(module, classifier_path(module), name, weights, PartMap.of_model(options or {}))
        return module
    module = _builtin_architecture(info, classes, shape, options or {})
    initialise(module, seed)
    if weights:
        load_pretrained(module, classifier_path(module), name, weights, PartMap.of_model(options or {}))
    return module


def _foreign_network(
    info: ModelInfo, name: str, classes: int, shape: InputShape, seed: int, options: Mapping[str, Any]
) -> nn.Module:
    """A network that tickdsl does not define, with the weights that its own code draws, or a library's pretrained."""
    if info.family == PLUGIN_FAMILY:
        return plugin.build(name, classes, shape, seed, architecture_options(options))
    if info.family == TIMM_FAMILY:
        return timm_zoo.build(name, classes, one_shape(shape), seed, options)
    if info.family == HF_FAMILY:
        module = hf_zoo.build(name, classes, shape, seed, options)
        if not hf_zoo.has_replaceable_head(classes, shape, name, options):
            return module
    else:
        module = torchvision_zoo.build(info.name, one_shape(shape), seed)
    return replace_classifier(module, classes=classes, seed=seed, name=name)


def create_on_meta(
    name: str, *, classes: int, shape: InputShape, options: Mapping[str, Any] | None = None
) -> nn.Module | None:
    """Build what `create` builds on the meta device, where tensors have shapes but take no memory.

    None for plug-ins and libraries, whose code may need the values of its tensors. Raises TickdslError as `create`
    does.
    """
    info = _checked_info(name, shape, options or {})
    if info.family in (PLUGIN_FAMILY, TIMM_FAMILY, HF_FAMILY):
        return None
    with WithoutMemory():
        if info.is_builtin:
            return _builtin_architecture(info, classes, shape, options or {})
        module = torchvision_zoo.build(info.name, one_shape(shape), seed=0)
        path = classifier_path(module)
        parent_path, _, leaf = path.rpartition(".")
        setattr(module.get_submodule(parent_path), leaf, classifier_like(module.get_submodule(path), classes))
        return module


def _builtin_architecture(info: ModelInfo, classes: int, shape: InputShape, options: Mapping[str, Any]) -> nn.Module:
    arguments = {
        name.replace("-", "_"): option.type(options.get(name, option.default))
        for name, option in architecture_options(info.options).items()
    }
    with torch.random.fork_rng(devices=[]):  # constructors draw from torch's global generator
        return _BUILDERS[info.name](classes, shape, **arguments)


def _checked_info(name: str, shape: InputShape, options: Mapping[str, Any]) -> ModelInfo:
    """The model called `name`. Raises TickdslError if it does not exist or does not take such images or options."""
    info = _model_info(name)
    _check_shape(info, name, shape)
    unknown = sorted(set(options) - set(info.options))
    if unknown:
        raise TickdslError(
            f"{name} has no option `{unknown[0]}`",
            f"its options are {', '.join(info.options)}" if info.options else "leave it out",
        )
    return info


def reinitialise(
    module: nn.Module,
    *,
    seed: int,
    role: str,
    name: str,
    origins: Mapping[str, Origin],
    fan_in_shares: Mapping[str, float],
) -> None:
    """Re-initialise a pruned network `name` in place, for the shapes that it has now.

    tickdsl's own networks are initialised by `initialise`. For others, the module must hold slices of a network that
    was created from another seed: they are drawn again in the way that their own code draws them (see `redraw`).
    `origins` are those recorded in that creation, and `fan_in_shares` the shares of the inputs that weights keep.
    """
    if _model_info(name).is_builtin:
        initialise(module, seed, role)
    else:
        redraw(module, origins, fan_in_shares, seed=seed, role=role)


def classifier_path(module: nn.Module) -> str:
    """The module path of the classifier: the last linear layer, or if there is none, the last convolution.

    Raises TypeError if there is neither.
    """
    path = ""
    for kind in (nn.Conv2d, nn.Linear):
        paths = [
            path
            for path, layer in module.named_modules()
            # Attention's output projection is a subclass of Linear, never a classifier.
            if isinstance(layer, kind) and not isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear)
        ]
        path = paths[-1] if paths else path
    if not path:
        raise TypeError(f"{type(module).__name__} has no classifier")
    return path


def replace_classifier(module: nn.Module, *, classes: int, seed: int, name: str) -> nn.Module:
    """Replace the classifier with a new one with `classes` outputs, in place, and return the network.

    In tickdsl's own networks it is initialised by `initialise`, so it equals that of `create` if no layer before it
    is pruned.
    """
    path = classifier_path(module)
    parent_path, _, leaf = path.rpartition(".")
    parent = module.get_submodule(parent_path)
    with torch.random.fork_rng(devices=[]):
        fresh = new_classifier(module.get_submodule(path), classes, seed)
    if _model_info(name).is_builtin:
        holder = _wrap_at(path, fresh)
        initialise(holder, seed)
    setattr(parent, leaf, fresh)
    return module


def _wrap_at(path: str, layer: nn.Module) -> nn.Module:
    """A module with `layer` at `path` and nothing else."""
    for word in reversed(path.split(".")):
        holder = nn.Module()
        holder.add_module(word, layer)
        layer = holder
    return layer


def _model_info(name: str) -> ModelInfo:
    if name not in MODELS:
        raise TickdslError(f"unknown model `{name}`", f"use one of {', '.join(sorted(MODELS))}")
    return MODELS[name]


def _check_shape(info: ModelInfo, name: str, shape: InputShape) -> None:
    if isinstance(shape, NamedShapes):
        if not info.takes_several_inputs:
            raise one_input_error(name, shape)
        return
    if is_tokens(shape) != (info.inputs == "tokens") and info.inputs != "any":
        raise TickdslError(
            f"{name} needs {info.inputs}; the data has {shape_in_words(shape, 'x')}",
            "use a model for tokens, such as bert, or data with images"
            if is_tokens(shape)
            else f"use data with {info.inputs}, such as corpus or sentences, or a model for images",
        )
    if is_tokens(shape):
        return
    channels, height, width = shape
    actual = f"the data has {channels}x{height}x{width}"
    if info.channels is not None and channels != info.channels:
        hint = f"add channels={info.channels} to `data`, or " if channels == 1 else ""
        raise TickdslError(
            f"{name} needs images with {plural(info.channels, 'channel')}; {actual}", f"{hint}use small-cnn"
        )
    if info.size is None:
        return
    min_height, min_width = info.size
    unsuitable = (height, width) != info.size if info.exact_size else height < min_height or width < min_width
    if unsuitable:
        bound = "exactly" if info.exact_size else "at least"
        raise TickdslError(
            f"{name} needs images of {bound} {min_height}x{min_width}; {actual}",
            f"add size={min_height} to `data`, or use small-cnn",
        )
    if info.multiple > 1 and (height != width or height % info.multiple):
        nearest = max(1, round(height / info.multiple)) * info.multiple
        raise TickdslError(
            f"{name} needs square images with sides that are multiples of {info.multiple}; {actual}",
            f"add size={nearest} to `data`",
        )
