"""Python code that builds a compact network of tickdsl's own, and needs torch and safetensors only."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator

from torch import nn

from tickdsl import __version__
from tickdsl.errors import TicketError
from tickdsl.graph.surgery.compact import CloneIdentity
from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.catalogue import MODELS
from tickdsl.training.models.resnet import BasicBlock, ResNet

#: Layers whose `repr` is the call that builds them.
_LAYERS = (
    nn.AdaptiveAvgPool2d, nn.BatchNorm2d, nn.Conv2d, nn.Flatten, nn.Identity, nn.Linear, nn.MaxPool2d, nn.ReLU,
)  # fmt: skip
#: Classes of tickdsl whose code is written out.
_CLASSES = (CloneIdentity, BasicBlock, ResNet)
_INDENT = "    "

_HEAD = '''\
"""{title}, as tickdsl pruned it: the network of `weights.safetensors`.

Needs torch and safetensors. In this folder:

    import network

    model = network.load()
    {outputs} = model(network.normalize({inputs}))  # {inputs}: float [N, {channels}, {height}, {width}]{values}

Written by tickdsl {version}.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
{imports}
CLASSES = {classes}
#: Of the training {data}, by channel.
MEAN, STD = {mean}, {std}
'''
_TAIL = '''\


def build() -> nn.Module:
    """The network, with weights that torch draws."""
    return {network}


def load(path: Path = Path(__file__).with_name("weights.safetensors")) -> nn.Module:
    """The network with its weights, in eval mode."""
    network = build()
    network.load_state_dict(load_file(path))
    return network.eval()


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


def network_code(ticket: Ticket, network: nn.Module) -> str:
    """The module that builds the compact network of a ticket. Raises TicketError if it is not one of tickdsl's own."""
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
    floats = isinstance(preprocessing, FloatPreprocessing)
    inputs = preprocessing.input_name
    used = {type(module) for module in network.modules()}
    head = _HEAD.format(
        title=ticket.source.title,
        channels=preprocessing.channels,
        height=preprocessing.height,
        width=preprocessing.width,
        inputs=inputs,
        outputs=ticket.outputs[0].name if ticket.outputs else "logits",
        values="" if floats else " in 0 to 1",
        data="data" if floats else "images",
        version=__version__,
        classes=json.dumps(list(ticket.classes)),
        mean=list(preprocessing.mean),
        std=list(preprocessing.std),
        imports="from torch.nn import functional as F\n" if used & {BasicBlock, ResNet} else "",
    )
    classes = "".join(_class_code(known) for known in _CLASSES if known in used)
    return (
        head
        + classes
        + _TAIL.format(
            network=_expression(network, name, 1),
            inputs=inputs,
            what="numbers [N, C, H, W]" if floats else "float images [N, C, H, W] in 0 to 1",
        )
    )


def _class_code(known: type[nn.Module]) -> str:
    """A class whose submodules and attributes are passed to it, with the `forward` of tickdsl's class."""
    summary = (inspect.getdoc(known) or known.__name__).partition("\n")[0]
    if not summary.endswith("."):
        summary += "."
    forward = textwrap.indent(textwrap.dedent(inspect.getsource(known.forward)), _INDENT)
    head = _CLASS.format(name=known.__name__, summary=summary)
    return head + forward


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


def _plain_attributes(module: nn.Module) -> Iterator[tuple[str, int]]:
    for key, value in vars(module).items():
        if type(value) is int and not key.startswith("_"):
            yield key, value
