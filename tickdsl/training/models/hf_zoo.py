"""Networks of Hugging Face's transformers, built from a configuration."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.errors import InputsMismatchError, TickdslError, UnreadableWeightsError
from tickdsl.plugins import LIBRARIES
from tickdsl.training.catalogue import DEFAULT_WEIGHTS, HF_FAMILY
from tickdsl.training.catalogue.input_shapes import (
    IMAGE,
    INTEGERS,
    InputShape,
    NamedShapes,
    OneShape,
    inputs_in_words,
    is_tokens,
)
from tickdsl.training.models.keyword_inputs import require_keywords
from tickdsl.training.models.offline import first_line, no_download
from tickdsl.training.models.transformers import PADDING
from tickdsl.training.rng import stream_seed
from tickdsl.training.torchvision_import import import_torchvision

#: The sizes of networks on tokens, unless a plan or a configuration gives others: those of tickdsl's own transformers.
_SMALL = {"layers": 2, "heads": 4, "dim": 64}
#: Options of plans -> the names of settings in configurations.
_SETTINGS = {
    "layers": ("num_hidden_layers",),
    "heads": ("num_attention_heads", "num_key_value_heads"),
    "dim": ("hidden_size",),
    "patch": ("patch_size",),
}
#: The dropout of attention, which is left out: networks whose code runs other operators in training cannot be cut.
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "attn_dropout")
#: What a feed-forward network is wider than a token, in BERT and in GPT-2.
_EXPANSION = 4
#: The name under which attention with masks that do not depend on their values is registered.
_ATTENTION = "tickdsl_sdpa"


def build(name: str, classes: int, shape: InputShape, seed: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a network of the type `hf.TYPE`, initialised by its own code; its forward maps inputs to logits.

    Images [N, C, H, W] and texts int64 [N, T] have one vector of `classes` numbers; if the outputs are those of the
    next token, texts have logits [N, T, V]. Padding is not attended to. `config` is a folder or a repository of the
    Hub with the configuration, and with `weights=default` also the weights.

    Several inputs are passed on by keyword, such as `input_ids` and `attention_mask`.

    Raises TickdslError if transformers is missing, or there is no such network; InputsMismatchError if it does not take
    inputs of these names.
    """
    transformers = _import_transformers()
    kind, inputs = _type_name(name), shape
    shape = _main_shape(name, inputs)
    is_language = _is_language(name, classes, inputs, options)
    configuration = _configured(
        _configuration(transformers, kind, options), kind, shape, options, is_language=is_language
    )
    network_class = _network_class(transformers, name, configuration, shape, is_language)
    if isinstance(inputs, NamedShapes):
        require_keywords(name, functools.partial(network_class.forward, None), inputs, any_keyword=False)
        if "token_type_ids" in inputs and hasattr(configuration, "type_vocab_size"):
            types = inputs.input("token_type_ids").values
            configuration.type_vocab_size = max(configuration.type_vocab_size, types)
    pretrained = options.get("weights") == DEFAULT_WEIGHTS
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, "init"))
        try:
            module = (
                network_class.from_pretrained(
                    options["config"], config=configuration, ignore_mismatched_sizes=True, use_safetensors=True,
                    dtype=torch.float32,
                )
                if pretrained
                else network_class(configuration)
            )  # fmt: skip
        except Exception as error:  # its code may raise anything for settings that do not go together
            if pretrained and isinstance(error, OSError):
                raise no_download(f"{name} from {options['config']}", error) from error
            raise TickdslError(
                f"transformers cannot build {name} for {inputs_in_words(shape)}: {first_line(error)}",
                "use other values of its options, or another size of the data",
            ) from error
    if is_tokens(shape) and not is_language and configuration._attn_implementation == "sdpa":
        _register_attention()
        module.set_attn_implementation(_ATTENTION)
    original: Any = type(module)
    if isinstance(inputs, NamedShapes):
        module.__class__ = _named_logits_class(original, is_tokens(shape) and not is_language)
    else:
        module.__class__ = _logits_class(original, is_tokens(shape), is_language)
    network: nn.Module = module.float().train()
    return network


def has_replaceable_head(classes: int, shape: InputShape, name: str, options: Mapping[str, Any]) -> bool:
    """Whether the last layer of a network gives one answer, so that it is drawn anew for the number of classes."""
    return not _is_language(name, classes, shape, options)


def _is_language(name: str, classes: int, shape: InputShape, options: Mapping[str, Any]) -> bool:
    """Whether the outputs are logits of the next token: as `head` says, or if there is one for each token."""
    purposes = LIBRARIES[HF_FAMILY].names()[_type_name(name)]
    if isinstance(shape, NamedShapes):
        shape, classes = _main_shape(name, shape), 0  # targets of arrays are classes or numbers, and no tokens
    if not is_tokens(shape) or "language" not in purposes:
        return False
    asked = options.get("head") or ("language" if "sequences" not in purposes else "")
    return asked == "language" if asked else classes == shape[1]


def _main_shape(name: str, shape: InputShape) -> OneShape:
    """The shape of the tokens or images of several inputs. Raises InputsMismatchError if there are neither."""
    if not isinstance(shape, NamedShapes):
        return shape
    main = next((word for word in ("input_ids", "pixel_values") if word in shape), None)
    if main is None or shape.input(main).kind != (INTEGERS if main == "input_ids" else IMAGE):
        raise InputsMismatchError(
            f"{name} needs the input `input_ids` of whole numbers, or `pixel_values` of images: the inputs are "
            f"{', '.join(known.in_words for known in shape.inputs)}",
            "rename the arrays and `inputs=`, and store tokens as integers [N, T] and images as uint8",
        )
    return shape[main]


def _type_name(name: str) -> str:
    return name.removeprefix(f"{HF_FAMILY}.")


def _import_transformers() -> ModuleType:
    library = LIBRARIES[HF_FAMILY]
    if not library.is_installed:
        raise TickdslError(library.missing.message, library.missing.hint)
    import_torchvision()
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    module: ModuleType = transformers
    return module


def _configuration(transformers: ModuleType, kind: str, options: Mapping[str, Any]) -> Any:
    """The configuration of `config`, or the type's own. Raises TickdslError if it cannot be read, or is of another."""
    source = options.get("config")
    if not source:
        return transformers.AutoConfig.for_model(kind)
    try:
        found = transformers.AutoConfig.from_pretrained(source)
    except Exception as error:  # damaged files and failed downloads raise anything
        raise UnreadableWeightsError(
            f"config={source!r} cannot be read: {first_line(error)}",
            "name a folder with a config.json, or a repository of the Hub if there is a network",
        ) from error
    if found.model_type != kind:
        raise UnreadableWeightsError(
            f"config={source!r} is that of a {found.model_type}, not of a {kind}",
            f"use `model {HF_FAMILY}.{found.model_type}`",
        )
    return found


def _configured(
    configuration: Any, kind: str, shape: OneShape, options: Mapping[str, Any], *, is_language: bool
) -> Any:
    """The configuration with what the data and the options of a plan set."""
    changes: dict[str, Any] = {word: 0.0 for word in _ATTENTION_DROPOUT if hasattr(configuration, word)}
    if hasattr(configuration, "use_cache"):
        changes["use_cache"] = False
    small = is_tokens(shape) and not options.get("config")
    for option, settings in _SETTINGS.items():
        value = options.get(option) or (_SMALL.get(option) if small else None)
        known = [setting for setting in settings if hasattr(configuration, setting)]
        if value and options.get(option) and not known:
            raise TickdslError(f"{HF_FAMILY}.{kind} has no setting for `{option}`", f"remove `{option}=`")
        changes |= {setting: value for setting in known if value}
    width = changes.get("hidden_size")
    heads = changes.get("num_attention_heads") or getattr(configuration, "num_attention_heads", None)
    if width and hasattr(configuration, "intermediate_size"):
        changes["intermediate_size"] = _EXPANSION * width
    if not isinstance(heads, int):
        heads = None
    has_head_dim = isinstance(getattr(configuration, "head_dim", None), int)
    if width and heads and has_head_dim and not isinstance(getattr(type(configuration), "head_dim", None), property):
        changes["head_dim"] = width // heads
    if width and heads and width % heads:
        raise TickdslError(f"dim={width} is not a multiple of heads={heads}", f"use dim={-(-width // heads) * heads}")
    if is_tokens(shape):
        changes |= _token_settings(configuration, shape, options)
        changes["pad_token_id"] = None if is_language else PADDING
    else:
        channels, height, width = shape
        if hasattr(configuration, "image_size"):
            if height != width:
                raise TickdslError(
                    f"{HF_FAMILY}.{kind} needs square images; the data has {channels}x{height}x{width}",
                    f"add size={height} to `data`",
                )
            changes["image_size"] = height
        if hasattr(configuration, "num_channels"):
            changes["num_channels"] = channels
    return _with_changes(configuration, kind, changes, is_given=bool(options.get("config")))


def _with_changes(configuration: Any, kind: str, changes: Mapping[str, Any], *, is_given: bool) -> Any:
    """The configuration with other settings. Raises TickdslError if they do not go together.

    is_given: whether it is that of a folder or a repository, whose other settings stay; else they follow from these.
    """
    settings = configuration.to_dict() if is_given else {}
    if "num_hidden_layers" in changes:
        settings.pop("layer_types", None)
    names = configuration.attribute_map
    settings |= {names.get(setting, setting): value for setting, value in changes.items()}
    try:
        return type(configuration).from_dict(settings) if is_given else type(configuration)(**settings)
    except Exception as error:  # configurations check themselves, each in its own way
        raise TickdslError(
            f"transformers refuses these settings of {HF_FAMILY}.{kind}: {first_line(error)}",
            "use other values of its options",
        ) from error


def _token_settings(configuration: Any, shape: OneShape, options: Mapping[str, Any]) -> dict[str, Any]:
    length, vocabulary = shape
    changes: dict[str, Any] = {}
    if not options.get("config") or configuration.vocab_size < vocabulary:
        changes["vocab_size"] = vocabulary
    positions = getattr(configuration, "max_position_embeddings", None)
    offset = 2  # RoBERTa and its descendants count positions from there
    if isinstance(positions, int) and (not options.get("config") or positions < length + offset):
        changes["max_position_embeddings"] = length + offset
    for token in ("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id"):
        if isinstance(getattr(configuration, token, None), int) and getattr(configuration, token) >= vocabulary:
            changes[token] = None
    return changes


def _network_class(
    transformers: ModuleType, name: str, configuration: Any, shape: OneShape, is_language: bool
) -> type[Any]:
    """The class of the network with the head that its outputs need. Raises TickdslError if its type has none."""
    auto = (
        transformers.AutoModelForCausalLM
        if is_language
        else transformers.AutoModelForSequenceClassification
        if is_tokens(shape)
        else transformers.AutoModelForImageClassification
    )
    try:
        found = auto._model_mapping[type(configuration)]
    except (KeyError, ImportError, ModuleNotFoundError) as error:
        raise TickdslError(
            f"transformers has no network of the type {name} for {inputs_in_words(shape)}", first_line(error)
        ) from error
    network_class: type[Any] = found[0] if isinstance(found, tuple | list) else found
    return network_class


def _register_attention() -> None:
    """Attention whose mask is always built, so that what runs does not depend on the values of a mask."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
    from transformers.modeling_utils import AttentionInterface

    def whole_mask(*args: Any, **kwargs: Any) -> Any:
        return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})

    AttentionInterface.register(_ATTENTION, sdpa_attention_forward)
    AttentionMaskInterface.register(_ATTENTION, whole_mask)


@functools.cache
def _logits_class(network_class: Any, takes_tokens: bool, is_language: bool) -> type[Any]:
    """A subclass that maps a tensor of inputs to a tensor of logits; the names of its parameters stay the same."""

    class Logits(network_class):  # type: ignore[misc]
        def forward(self, inputs: Tensor) -> Tensor:
            more: dict[str, Any] = {"input_ids": inputs} if takes_tokens else {"pixel_values": inputs}
            if takes_tokens and not is_language:
                more["attention_mask"] = _text_mask(inputs)
            logits: Tensor = super().forward(return_dict=True, **more).logits
            return logits

    Logits.__name__ = Logits.__qualname__ = network_class.__name__
    return Logits


@functools.cache
def _named_logits_class(network_class: Any, masks_padding: bool) -> type[Any]:
    """A subclass that takes its inputs by keyword and returns a tensor of logits.

    masks_padding: whether padding is masked if the inputs have no `attention_mask`.
    """

    class Logits(network_class):  # type: ignore[misc]
        def forward(self, **inputs: Tensor) -> Tensor:
            given = {name: tensor.long() if tensor.dtype == torch.bool else tensor for name, tensor in inputs.items()}
            if masks_padding and "attention_mask" not in given:
                given["attention_mask"] = _text_mask(given["input_ids"])
            logits: Tensor = super().forward(return_dict=True, **given).logits
            return logits

    Logits.__name__ = Logits.__qualname__ = network_class.__name__
    return Logits


def _text_mask(tokens: Tensor) -> Tensor:
    """1 where there is no padding; the first token is looked at, so that a text without any has an answer too."""
    is_text = tokens != PADDING
    is_text = is_text | (torch.arange(tokens.shape[1], device=tokens.device) == 0)
    return is_text.long()
