"""Python code that builds a compact network of tickdsl's own, and needs torch and safetensors only."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from tickdsl import __version__
from tickdsl.errors import TicketError
from tickdsl.graph.surgery.compact import CloneIdentity
from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.formats.drawn_noise import drawn_shapes
from tickdsl.tickets.formats.file_interface import part_interface
from tickdsl.tickets.parts import part_of
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.catalogue import MODELS
from tickdsl.training.models.fast_resnet import LOGIT_DIVISOR, FastResNet, Stage
from tickdsl.training.models.generative import (
    AsMap,
    Autoencoder,
    Dcgan,
    GanOutputs,
    Posterior,
    Vae,
    VaeEncoder,
    VaeOutputs,
)
from tickdsl.training.models.resnet import BasicBlock, ResNet
from tickdsl.training.models.unet import ConvPair, UNet, UNetEncoder

#: Layers whose `repr` is the call that builds them.
_LAYERS = (
    nn.AdaptiveAvgPool2d, nn.BatchNorm2d, nn.Conv2d, nn.ConvTranspose2d, nn.Flatten, nn.Identity, nn.LeakyReLU,
    nn.Linear, nn.MaxPool2d, nn.ReLU, nn.Tanh, nn.Unflatten,
)  # fmt: skip
#: Classes of tickdsl whose code is written out, with what that refers to.
_CLASSES: Mapping[type[nn.Module], str] = {
    CloneIdentity: "",
    BasicBlock: "",
    ResNet: "",
    Stage: "",
    FastResNet: f"LOGIT_DIVISOR = {LOGIT_DIVISOR}",
    ConvPair: "",
    UNet: "",
    UNetEncoder: "",
    AsMap: "",
    Autoencoder: "",
    VaeEncoder: inspect.getsource(Posterior),
    Vae: inspect.getsource(VaeOutputs),
    Dcgan: inspect.getsource(GanOutputs),
}
_INDENT = "    "

_HEAD = '''\
"""{title}, as tickdsl pruned it: the network of `weights.safetensors`.

Needs torch and safetensors. In this folder:

    import network

    model = network.load()
    {call}
{noise}
Written by tickdsl {version}.
"""

from collections import OrderedDict
from pathlib import Path
{imports}
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
'''
_DATA = """
CLASSES = {classes}
#: Of the training {data}, by channel.
MEAN, STD = {mean}, {std}
"""
_TAIL = '''\


def build() -> nn.Module:
    """The network, with weights that torch draws."""
    return {network}


def load(path: Path = Path(__file__).with_name("weights.safetensors")) -> nn.Module:
    """The network with its weights, in eval mode."""
    network = build()
    network.load_state_dict(load_file(path))
    return network.eval()
'''
_NORMALIZE = '''\


def normalize({inputs}: Tensor) -> Tensor:
    """Normalise {what}, as in the training."""
    mean, std = (torch.tensor(values, dtype={inputs}.dtype, device={inputs}.device) for values in (MEAN, STD))
    return ({inputs} - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
'''
_CLASS = '''

class {name}(nn.Module):
    """{summary}"""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)

'''


def network_code(ticket: Ticket, network: nn.Module, part: str = "") -> str:
    """The module that builds the compact network of a ticket, or a part of it.

    Raises TicketError if it is not one of tickdsl's own.
    """
    name = ticket.source.name
    if ticket.source.is_own or name not in MODELS or not MODELS[name].is_builtin:
        raise TicketError(
            f"--format state-dict writes code that builds the network, and `{name}` is not a network of tickdsl's own",
            "use --format ticket, which `tickdsl.load` reads, or --format pt2 or onnx, which need no code",
        )
    preprocessing = ticket.preprocessing
    if not isinstance(preprocessing, Preprocessing | FloatPreprocessing):
        raise TicketError(
            f"--format state-dict writes code for networks of images, and `{name}` takes tokens",
            "use --format ticket, pt2 or onnx",
        )
    if not part:
        names = [output.name for output in ticket.outputs] or ["logits"]
        return _code(
            ticket, network, _of_inputs(names, preprocessing), noise=bool(drawn_shapes(network, preprocessing))
        )
    interface = part_interface(ticket, network, part)
    names = [output.name for output in interface.outputs]
    if interface.of_inputs:
        return _code(ticket, part_of(network, part), _of_inputs(names, preprocessing), part=part)
    (taken,) = interface.inputs
    call = f"{', '.join(names)} = model({taken.name})  # {taken.in_words.replace('`', '')}"
    return _code(ticket, part_of(network, part), call, part=part, of_inputs=False)


def _of_inputs(outputs: Sequence[str], preprocessing: Preprocessing | FloatPreprocessing) -> str:
    """A line that calls a network with its inputs."""
    inputs, values = preprocessing.input_name, "" if isinstance(preprocessing, FloatPreprocessing) else " in 0 to 1"
    shape = ", ".join(map(str, preprocessing.shape))
    return f"{', '.join(outputs)} = model(network.normalize({inputs}))  # {inputs}: float [N, {shape}]{values}"


def _code(
    ticket: Ticket, network: nn.Module, call: str, *, part: str = "", of_inputs: bool = True, noise: bool = False
) -> str:
    """The module with the code of a network. call: how to run it. noise: it draws random numbers."""
    preprocessing: Any = ticket.preprocessing
    floats = isinstance(preprocessing, FloatPreprocessing)
    used = {type(module) for module in network.modules()}
    definitions = "".join(_class_code(known) for known in _CLASSES if known in used)
    blocks = [
        _HEAD.format(
            title=f"{f'`{part}` of ' if part else ''}{ticket.source.title}",
            call=call,
            noise="\nIt draws random numbers: `torch.manual_seed` makes them the same again.\n" if noise else "",
            version=__version__,
            imports="from typing import NamedTuple\n" if "NamedTuple" in definitions else "",
        )
    ]
    if "F." not in definitions:
        blocks[0] = blocks[0].replace("from torch.nn import functional as F\n", "")
    if of_inputs:
        blocks.append(
            _DATA.format(
                data="data" if floats else "images",
                classes=json.dumps(list(ticket.classes)),
                mean=list(preprocessing.mean),
                std=list(preprocessing.std),
            )
        )
    blocks += [definitions, _TAIL.format(network=_expression(network, ticket.source.name, 1))]
    if of_inputs:
        what = "numbers [N, C, H, W]" if floats else "float images [N, C, H, W] in 0 to 1"
        blocks.append(_NORMALIZE.format(inputs=preprocessing.input_name, what=what))
    return "".join(blocks)


def _class_code(known: type[nn.Module]) -> str:
    """A class whose submodules and attributes are passed to it, with the `forward` of tickdsl's class."""
    summary = (inspect.getdoc(known) or known.__name__).partition("\n")[0]
    if not summary.endswith("."):
        summary += "."
    forward = textwrap.indent(textwrap.dedent(inspect.getsource(known.forward)), _INDENT)
    head = _CLASS.format(name=known.__name__, summary=summary)
    needed = _CLASSES[known]
    return (f"\n\n{needed.strip()}\n" if needed else "") + head + forward


def _expression(module: nn.Module, name: str, depth: int) -> str:
    """The call that builds a module."""
    if type(module) in _LAYERS:
        return f"nn.{module!r}".replace(", bias=True, track", ", track")  # an argument that is new in torch 2.13
    inner, outer = _INDENT * (depth + 1), _INDENT * depth
    children = [(key, _expression(child, name, depth + 1)) for key, child in module.named_children()]
    if type(module) is nn.Sequential:
        pairs = [(key, _expression(child, name, depth + 2)) for key, child in module.named_children()]
        lines = "".join(f"{inner}{_INDENT}({json.dumps(key)}, {code}),\n" for key, code in pairs)
        return f"nn.Sequential(\n{inner}OrderedDict([\n{lines}{inner}])\n{outer})"
    if type(module) in _CLASSES:
        parts = [*((key, repr(value)) for key, value in _plain_attributes(module)), *children]
        if not parts:
            return f"{type(module).__name__}()"
        lines = "".join(f"{inner}{key}={code},\n" for key, code in parts)
        return f"{type(module).__name__}(\n{lines}{outer})"
    raise TicketError(
        f"no code can be written for `{type(module).__name__}` in the pruned `{name}`",
        "use --format ticket, pt2 or onnx",
    )


def _plain_attributes(module: nn.Module) -> Iterator[tuple[str, int | float]]:
    for key, value in vars(module).items():
        if type(value) in (int, float) and not key.startswith("_"):
            yield key, value
