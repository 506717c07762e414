"""What can be named: networks, data sets and their options. A table without torch: names are checked at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.plugins import Plugin, PluginDescription, Registry

#: The families of networks that are not defined here: torchvision's, and those that users add.
TORCHVISION_FAMILY, PLUGIN_FAMILY = "torchvision", "own"
TORCHVISION_PREFIX = "torchvision."
#: `weights=` of a torchvision network: the best that torchvision offers.
DEFAULT_WEIGHTS = "default"


@attrs.frozen
class Option:
    """One `key=value` of a model or a data set: its type, what it is when left out, the least it may be."""

    type: type
    default: Any
    summary: str
    least: float | None = None


@attrs.frozen
class ModelInfo:
    """A network by name, and what it can be fed.

    channels: the exact number of input channels, or None for any. size: (height, width) in pixels; exact
    where `exact_size`, otherwise the least it takes; None for any. multiple: where above 1, pictures must be
    square, with sides that are multiples of it (the patches of vision transformers).
    """

    name: str
    summary: str
    family: str
    channels: int | None = None
    size: tuple[int, int] | None = None
    exact_size: bool = False
    multiple: int = 1
    batch_norm: bool = True
    residual: bool = False
    options: Mapping[str, Option] = attrs.field(factory=dict)

    @property
    def is_builtin(self) -> bool:
        """Whether the network is defined here, with the initialisation documented here."""
        return self.family not in (TORCHVISION_FAMILY, PLUGIN_FAMILY)

    @property
    def has_fetchable_weights(self) -> bool:
        """Whether there are weights of it to fetch."""
        return self.family == TORCHVISION_FAMILY


@attrs.frozen
class DatasetInfo:
    """A data set by name. shape (C, H, W), classes and sizes are None where they are known only once read.

    factory_options: those that a plug-in's factory takes itself.
    """

    name: str
    summary: str
    shape: tuple[int, int, int] | None = None
    classes: int | None = None
    train: int | None = None
    test: int | None = None
    options: Mapping[str, Option] = attrs.field(factory=dict)
    factory_options: tuple[str, ...] = ()


_WIDTH_OPTIONS = {
    "width": Option(float, 1.0, "multiplies every hidden width", least=0.01),
    "weights": Option(str, "", "initial weights from a .safetensors or .pth file"),
}
_WEIGHTS_OPTION = {
    "weights": Option(str, "", "initial weights: `default` (torchvision's), or a .safetensors or .pth file")
}
#: The types that options have.
_OPTION_TYPES = (bool, int, float, str)


def _builtin_model(name: str, family: str, summary: str, least: int, **more: Any) -> ModelInfo:
    return ModelInfo(name, summary, family, size=(least, least), options=_WIDTH_OPTIONS, **more)


_BUILTIN_MODELS = (
    _builtin_model("small-cnn", "plain", "3 convolutions with batch norm, 16-32-32; seconds on a CPU", 4),
    _builtin_model("lenet-300-100", "lenet", "fully connected 300-100, for MNIST (LeCun 1998)", 1, batch_norm=False),
    _builtin_model("lenet5", "lenet", "2 convolutions and 3 linear layers (LeCun 1998), ReLU", 12, batch_norm=False),
    _builtin_model("conv2", "convs", "2 convolutions, 3 linear layers (Frankle 2019)", 2, batch_norm=False),
    _builtin_model("conv4", "convs", "4 convolutions, 3 linear layers (Frankle 2019)", 4, batch_norm=False),
    _builtin_model("conv6", "convs", "6 convolutions, 3 linear layers (Frankle 2019)", 8, batch_norm=False),
    _builtin_model("conv3", "plain", "3 convolutions with batch norm, 64-128-256, global pooling (COLT)", 8),
    *(
        _builtin_model(f"vgg{n}", "vgg", f"VGG-{n} for CIFAR: batch norm, one linear layer", 16)
        for n in (11, 13, 16, 19)
    ),
    *(
        _builtin_model(f"resnet{n}", "resnet", f"ResNet-{n} for CIFAR (He 2016), 1x1 shortcuts", 4, residual=True)
        for n in (20, 32, 44, 56, 110)
    ),
    _builtin_model(
        "resnet18-cifar", "resnet", "ResNet-18, 64-512 channels, 3x3 stem for small pictures", 8, residual=True
    ),
)

#: Every classification network of torchvision, as its registry names them (a test compares).
TORCHVISION_MODELS = (
    "alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "densenet121",
    "densenet161", "densenet169", "densenet201", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2",
    "efficientnet_b3", "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7",
    "efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3", "mobilenet_v2", "mobilenet_v3_large",
    "mobilenet_v3_small", "regnet_x_16gf", "regnet_x_1_6gf", "regnet_x_32gf", "regnet_x_3_2gf",
    "regnet_x_400mf", "regnet_x_800mf", "regnet_x_8gf", "regnet_y_128gf", "regnet_y_16gf", "regnet_y_1_6gf",
    "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_400mf", "regnet_y_800mf", "regnet_y_8gf", "resnet101",
    "resnet152", "resnet18", "resnet34", "resnet50", "resnext101_32x8d", "resnext101_64x4d",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0", "squeezenet1_0", "squeezenet1_1", "swin_b", "swin_s", "swin_t", "swin_v2_b",
    "swin_v2_s", "swin_v2_t", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19",
    "vgg19_bn", "vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32", "wide_resnet101_2",
    "wide_resnet50_2",
)  # fmt: skip
#: The least picture that a family takes where that is more than a pixel; found by running them.
_MIN_SIZES = {
    "alexnet": 63, "convnext": 32, "densenet": 29, "googlenet": 15, "inception": 75, "squeezenet1_0": 21,
    "squeezenet1_1": 17, "swin": 4, "vgg": 32, "vit_b_16": 16, "vit_l_16": 16, "vit_b_32": 32, "vit_l_32": 32,
    "vit_h_14": 14, "maxvit": 224,
}  # fmt: skip
_WITHOUT_BATCH_NORM = ("alexnet", "squeezenet", "vit_", "swin_", "convnext_")
_WITHOUT_RESIDUALS = ("alexnet", "vgg", "squeezenet", "googlenet", "inception", "densenet")


def _torchvision(name: str) -> ModelInfo:
    least = next((least for start, least in _MIN_SIZES.items() if name.startswith(start)), 1)
    without_batch_norm = name.startswith(_WITHOUT_BATCH_NORM) or (name.startswith("vgg") and not name.endswith("_bn"))
    return ModelInfo(
        TORCHVISION_PREFIX + name,
        f"{name} as torchvision defines it, random weights",
        TORCHVISION_FAMILY,
        channels=3,
        size=(least, least),
        exact_size=name.startswith("maxvit"),
        multiple=least if name.startswith("vit_") else 1,
        batch_norm=not without_batch_norm,
        residual=not name.startswith(_WITHOUT_RESIDUALS),
        options=_WEIGHTS_OPTION,
    )


def _models() -> dict[str, ModelInfo]:
    """Names of ours come first, and win; each torchvision network is also reachable as `torchvision.NAME`."""
    torchvision_models = [_torchvision(name) for name in TORCHVISION_MODELS]
    builtin_models = {info.name: info for info in _BUILTIN_MODELS}
    return {
        **builtin_models,
        **{info.name.removeprefix(TORCHVISION_PREFIX): info for info in torchvision_models} | builtin_models,
        **{i.name: i for i in torchvision_models},
    }


def _plugin_options(described: PluginDescription, always_given: tuple[str, ...] = ()) -> dict[str, Option]:
    """The parameters of a factory that a plan can give: those whose default is a number, a word or a flag.

    `always_given` are those that it gets in any case.
    """
    return {
        name.replace("_", "-"): Option(type(default), default, f"`{name}` of the factory")
        for name, default in described.parameters.items()
        if isinstance(default, _OPTION_TYPES) and name not in always_given
    }


def _plugin_model(plugin: Plugin, described: PluginDescription) -> ModelInfo:
    options = _plugin_options(described, ("classes", "shape")) | {"weights": _WIDTH_OPTIONS["weights"]}
    return ModelInfo(plugin.name, described.summary or plugin.origin, PLUGIN_FAMILY, options=options)


MODELS: Registry[ModelInfo] = Registry("model", _models(), _plugin_model)


def architecture_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A model's options without those that say what its weights are: what its graph depends on."""
    return {name: value for name, value in options.items() if name != "weights"}


_COMMON_OPTIONS = {
    "size": Option(int, 0, "resize the pictures to this many pixels a side", least=1),
    "channels": Option(int, 0, "3: repeat grey pictures in three channels", least=1),
    "samples": Option(int, 0, "use only that many training pictures, a fixed random choice", least=1),
}
_PATH_OPTION = {"path": Option(str, "", "where the data lies, instead of the data folder")}


def _dataset(
    name: str,
    summary: str,
    shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    train: int | None = None,
    test: int | None = None,
) -> DatasetInfo:
    return DatasetInfo(name, summary, shape, classes, train, test, options=_COMMON_OPTIONS | _PATH_OPTION)


_SYNTHETIC_OPTIONS = _COMMON_OPTIONS | {
    "classes": Option(int, 10, "how many classes", least=2),
    "size": Option(int, 32, "pixels a side", least=1),
    "channels": Option(int, 3, "1 or 3", least=1),
    "train": Option(int, 2_000, "training pictures", least=1),
    "test": Option(int, 500, "test pictures", least=1),
}

_DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            "digits", "8x8 scans of hand-written digits (UCI), installed with tickdsl",
            (1, 8, 8), 10, 1437, 360, options=_COMMON_OPTIONS,
        ),
        _dataset("mnist", "hand-written digits (LeCun 1998)", (1, 28, 28), 10, 60_000, 10_000),
        _dataset("fashion-mnist", "pictures of clothes (Zalando)", (1, 28, 28), 10, 60_000, 10_000),
        _dataset("cifar10", "photographs of 10 kinds of things (Krizhevsky 2009)", (3, 32, 32), 10, 50_000, 10_000),
        _dataset("cifar100", "photographs of 100 kinds of things", (3, 32, 32), 100, 50_000, 10_000),
        _dataset("tiny-imagenet", "ImageNet at 64 pixels, 200 classes", (3, 64, 64), 200, 100_000, 10_000),
        _dataset("folder", "your pictures: a folder or an archive of train/CLASS/* and test/CLASS/*"),
        DatasetInfo(
            "synthetic", "seeded patterns, one a class; for tests and timing",
            (3, 32, 32), 10, 2_000, 500, options=_SYNTHETIC_OPTIONS,
        ),
    )
}  # fmt: skip


def _plugin_dataset(plugin: Plugin, described: PluginDescription) -> DatasetInfo:
    """What it holds is known once it is read; `size`, `channels` and `samples` are ours where the factory has none."""
    options = _plugin_options(described, ("root",))
    return DatasetInfo(
        plugin.name,
        described.summary or plugin.origin,
        options=_COMMON_OPTIONS | options,
        factory_options=tuple(options),
    )


DATASETS: Registry[DatasetInfo] = Registry("data set", _DATASETS, _plugin_dataset)


def known_size(name: str, field: str, options: Mapping[str, Any]) -> int | None:
    """`classes` of a data set, or how many pictures there are to `train` on, as far as known before reading it."""
    info = DATASETS[name]
    size: int | None = getattr(info, field)
    if field == "train" and options.get("samples") and "samples" not in info.factory_options:
        size = options["samples"]
    elif field in options and field not in info.factory_options:  # a factory may mean anything by it
        size = options[field]
    return size
