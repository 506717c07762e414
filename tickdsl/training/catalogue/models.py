"""The models that a plan can name, with their options and the images that they accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.plugins import Plugin, PluginDescription
from tickdsl.training.catalogue.options import MAP, Option, plugin_options

#: The families of models that tickdsl does not define: torchvision's, and users' plug-ins.
TORCHVISION_FAMILY, PLUGIN_FAMILY = "torchvision", "own"
#: The families of libraries that are installed by an extra; they are also the prefixes of the names of their networks.
TIMM_FAMILY, HF_FAMILY = "timm", "hf"
TORCHVISION_PREFIX = "torchvision."
#: The largest factor of `width=`; every layer of a network this much wider has thousands of channels.
MAX_WIDTH = 32
#: The value of `weights=` that selects the best weights that torchvision offers.
DEFAULT_WEIGHTS = "default"

#: The tasks of networks with one vector of outputs for an input.
VECTOR_TASKS = ("classify", "tag", "regress")


@attrs.frozen
class ModelInfo:
    """A model and the images that it accepts.

    channels: the number of input channels (None: any). size: (height, width) in pixels, the minimum, or the only
    accepted size if `exact_size` (None: any). multiple: if above 1, images must be square with sides that are
    multiples of it (the patches of vision transformers). any_size: whether one network takes images of several sizes,
    as those with global pooling do. inputs: `images`, `tokens`, or `any`. task: the task that the
    model is made for, whatever the data's is, such as `reconstruct`; "" for that of the data. tasks: those that its
    outputs fit; empty for any.
    """

    name: str
    summary: str
    family: str
    channels: int | None = None
    size: tuple[int, int] | None = None
    exact_size: bool = False
    any_size: bool = True
    multiple: int = 1
    batch_norm: bool = True
    residual: bool = False
    inputs: str = "images"
    task: str = ""
    tasks: tuple[str, ...] = VECTOR_TASKS
    options: Mapping[str, Option] = attrs.field(factory=dict)

    @property
    def is_builtin(self) -> bool:
        """Whether tickdsl defines the model and its initialisation."""
        return self.family not in (TORCHVISION_FAMILY, PLUGIN_FAMILY, TIMM_FAMILY, HF_FAMILY)

    @property
    def takes_several_inputs(self) -> bool:
        """Whether its `forward` may take several inputs by keyword."""
        return self.family in (PLUGIN_FAMILY, HF_FAMILY)

    @property
    def has_fetchable_weights(self) -> bool:
        """Whether pretrained weights can be downloaded."""
        return self.family in (TORCHVISION_FAMILY, TIMM_FAMILY, HF_FAMILY)


_BUILTIN_OPTIONS = {
    "width": Option(float, 1.0, "multiply the width of every hidden layer", least=0.01, most=MAX_WIDTH),
    "weights": Option(str, "", "load the initial weights from a .safetensors or .pth file, or a ticket"),
    "map": MAP,
}
_TORCHVISION_OPTIONS = {
    "weights": Option(str, "", "load the initial weights: `default` (torchvision's), or a .safetensors or .pth file"),
    "map": MAP,
}


#: The most levels of a U-Net, whose lowest one then has 64 times the channels of its highest.
_MAX_DEPTH = 6
_UNET_OPTIONS = {
    **_BUILTIN_OPTIONS,
    "depth": Option(int, 2, "how often the resolution is halved", least=1, most=_MAX_DEPTH),
}


def _builtin_model(name: str, family: str, summary: str, min_size: int, **fields: Any) -> ModelInfo:
    return ModelInfo(name, summary, family, size=(min_size, min_size), **{"options": _BUILTIN_OPTIONS, **fields})


def _generative_model(name: str, task: str, summary: str, *further: str) -> ModelInfo:
    """A model that learns from images alone; further: its options besides those that all have."""
    options = {**_BUILTIN_OPTIONS, **{option: _GENERATIVE_OPTIONS[option] for option in ("latent", *further)}}
    convolutional = name.startswith(("conv-", "dcgan"))
    size, multiple = ((4, 4), 4) if convolutional else ((1, 1), 1)
    return ModelInfo(
        name, summary, "generative", size=size, multiple=multiple, batch_norm=convolutional,
        task=task, tasks=(task,), options=options,
    )  # fmt: skip


_GENERATIVE_OPTIONS = {
    "latent": Option(int, 32, "numbers in a code, from which images are made", least=1, most=4096),
    "beta": Option(float, 1.0, "weight of the KL divergence in the training loss (beta-VAE)", least=0, most=1e6),
}
_GENERATIVE_MODELS = (
    _generative_model("autoencoder", "reconstruct", "linear autoencoder, 256-128-latent-128-256"),
    _generative_model("conv-autoencoder", "reconstruct", "convolutional autoencoder, 32-64-latent-64-32"),
    _generative_model("vae", "vae", "linear variational autoencoder, 256-128-latent-128-256", "beta"),
    _generative_model("conv-vae", "vae", "convolutional variational autoencoder, 32-64-latent-64-32", "beta"),
    _generative_model("dcgan", "generate", "DCGAN (Radford 2016): `generator` and `discriminator`, 32-64 channels"),
)
#: The largest transformer: GPT-2 XL has 48 layers of 25 heads and 1600 dims.
MAX_LAYERS, MAX_HEADS, MAX_DIM = 64, 64, 4096


def _transformer(
    name: str, summary: str, inputs: str = "tokens", further: Mapping[str, Option] | None = None, **fields: Any
) -> ModelInfo:
    """A transformer; further: its options besides those that all have."""
    options = {
        "layers": Option(
            int, 2, "number of layers, each of attention and a feed-forward network", least=1, most=MAX_LAYERS
        ),
        "heads": Option(int, 4, "heads of attention per layer; they divide `dim`", least=1, most=MAX_HEADS),
        "dim": Option(
            int, 64, "channels per token; feed-forward networks have four times as many", least=1, most=MAX_DIM
        ),
        "dropout": Option(float, 0.0, "the share of values that dropout zeroes in training", least=0.0, most=0.95),
        **(further or {}),
        "weights": _BUILTIN_OPTIONS["weights"],
        "map": MAP,
    }
    return ModelInfo(
        name, summary, "transformer", batch_norm=False, residual=True, inputs=inputs, options=options, **fields
    )


#: Networks whose linear layers read all pixels, without batch norm.
_ONE_SIZE = {"batch_norm": False, "any_size": False}
_BUILTIN_MODELS = (
    _builtin_model("small-cnn", "plain", "3 convolutions with batch norm, 16-32-32; trains in seconds on a CPU", 4),
    _builtin_model(
        "lenet-300-100",
        "lenet",
        "fully connected 300-100, for MNIST (LeCun 1998)",
        1,
        batch_norm=False,
        any_size=False,
        options={**_BUILTIN_OPTIONS, "depth": Option(int, 1, "how many layers of 300 there are", least=1, most=64)},
    ),
    _builtin_model("lenet5", "lenet", "2 convolutions and 3 linear layers (LeCun 1998), ReLU", 12, **_ONE_SIZE),
    _builtin_model("conv2", "convs", "2 convolutions, 3 linear layers (Frankle 2019)", 2, **_ONE_SIZE),
    _builtin_model("conv4", "convs", "4 convolutions, 3 linear layers (Frankle 2019)", 4, **_ONE_SIZE),
    _builtin_model("conv6", "convs", "6 convolutions, 3 linear layers (Frankle 2019)", 8, **_ONE_SIZE),
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
        "fast-resnet",
        "resnet",
        "8 layers, 64-256 channels: learns much in few epochs (after Jordan 2024)",
        9,
        residual=True,
    ),
    _builtin_model(
        "resnet18-cifar", "resnet", "ResNet-18, 64-512 channels, 3x3 stem for small images", 8, residual=True
    ),
    _builtin_model(
        "unet",
        "unet",
        "U-Net (Ronneberger 2015) with batch norm: 16 channels, doubled at each of 2 levels",
        4,
        tasks=("segment",),
        options=_UNET_OPTIONS,
    ),
    _builtin_model(
        "unet-encoder",
        "unet",
        "encoder of the U-Net, with one vector of outputs: its weights start a `unet`",
        4,
        options=_UNET_OPTIONS,
    ),
    *_GENERATIVE_MODELS,
    _transformer("gpt", "decoder that predicts the next token (GPT-2: Radford 2019)", tasks=("language",)),
    _transformer("bert", "encoder with one answer for a text (BERT: Devlin 2019)"),
    _transformer(
        "vit",
        "encoder of images in patches (ViT: Dosovitskiy 2021)",
        "images",
        any_size=False,
        further={
            "patch": Option(int, 4, "pixels per side of a patch; they divide those of the images", least=1, most=64)
        },
    ),
)

#: torchvision's classification models, by their names in its registry (a test compares the two lists).
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
#: Those of its networks for segmentation whose last layer alone depends on the number of classes.
TORCHVISION_SEGMENTATION = (
    "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet101", "deeplabv3_resnet50", "fcn_resnet101", "fcn_resnet50",
)  # fmt: skip
#: The smallest image side, in pixels, of model families that need more than 1 pixel; found by running them.
_MIN_SIZES = {
    "alexnet": 63, "convnext": 32, "densenet": 29, "googlenet": 15, "inception": 75, "squeezenet1_0": 21,
    "squeezenet1_1": 17, "swin": 4, "vgg": 32, "vit_b_16": 16, "vit_l_16": 16, "vit_b_32": 32, "vit_l_32": 32,
    "vit_h_14": 14, "maxvit": 224,
}  # fmt: skip
_WITHOUT_BATCH_NORM = ("alexnet", "squeezenet", "vit_", "swin_", "convnext_")
_WITHOUT_RESIDUALS = ("alexnet", "vgg", "squeezenet", "googlenet", "inception", "densenet")


def _torchvision_model(name: str) -> ModelInfo:
    min_size = next((size for prefix, size in _MIN_SIZES.items() if name.startswith(prefix)), 1)
    without_batch_norm = name.startswith(_WITHOUT_BATCH_NORM) or (name.startswith("vgg") and not name.endswith("_bn"))
    return ModelInfo(
        TORCHVISION_PREFIX + name,
        f"torchvision's {name}, random weights",
        TORCHVISION_FAMILY,
        channels=3,
        size=(min_size, min_size),
        exact_size=name.startswith("maxvit"),
        any_size=not name.startswith(("maxvit", "vit_")),
        multiple=min_size if name.startswith("vit_") else 1,
        batch_norm=not without_batch_norm,
        residual=not name.startswith(_WITHOUT_RESIDUALS),
        tasks=("segment",) if name in TORCHVISION_SEGMENTATION else VECTOR_TASKS,
        options=_TORCHVISION_OPTIONS,
    )


def models() -> dict[str, ModelInfo]:
    """All built-in models by name: tickdsl's own come first; torchvision's are also called `torchvision.NAME`."""
    torchvision_models = [_torchvision_model(name) for name in (*TORCHVISION_MODELS, *TORCHVISION_SEGMENTATION)]
    builtin_models = {info.name: info for info in _BUILTIN_MODELS}
    return {
        **builtin_models,
        **{info.name.removeprefix(TORCHVISION_PREFIX): info for info in torchvision_models} | builtin_models,
        **{info.name: info for info in torchvision_models},
    }


def plugin_model(plugin: Plugin, description: PluginDescription) -> ModelInfo:
    """A model of a plug-in."""
    options = plugin_options(description, ("classes", "shape")) | {
        "weights": _BUILTIN_OPTIONS["weights"],
        "map": MAP,
    }
    return ModelInfo(
        plugin.name, description.summary or plugin.origin, PLUGIN_FAMILY, inputs="any", tasks=(), options=options
    )


def architecture_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a model's graph depends on: all except `weights`, and which parts of them are meant."""
    return {name: value for name, value in options.items() if name not in ("weights", "map")}
