"""What `tickdsl.prune` needs of a network and its example inputs, and what it says if it is missing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tickdsl.api.prune_arguments import PruneArguments
from tickdsl.api.torch_masks import masked_tensors
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plurals import plural
from tickdsl.pruning.scope import CHANNEL_KINDS, LAYERS, find_scope, layer_names, matches_any


def require_matching_patterns(graph: ModelGraph, arguments: PruneArguments) -> None:
    """Raise TickdslError if a pattern of `exclude` or of the amounts matches no layer, with close names."""
    names = layer_names(graph)
    for pattern in (*arguments.exclude, *(arguments.shares or ())):
        if not any(matches_any([pattern], name) for name in names):
            candidates = dict.fromkeys(
                ".".join(name.split(".")[: depth + 1]) for name in names for depth in range(name.count(".") + 1)
            )
            close = difflib.get_close_matches(pattern, candidates, n=3)
            raise TickdslError(
                f"`{pattern}` matches no layer that can be pruned",
                f"did you mean {' or '.join(f'`{name}`' for name in close)}?"
                if close
                else f"the network has {', '.join(f'`{name}`' for name in names[:8])}{' …' if names[8:] else ''}",
            )


def require_scope(graph: ModelGraph, start: Structure, arguments: PruneArguments) -> None:
    """Raise TickdslError if nothing is in scope; it names the layers of this kind, and why they stay."""
    try:
        find_scope(graph, start, arguments.scope_arguments())
    except TickdslError as error:
        kinds = CHANNEL_KINDS.get(arguments.unit, frozenset())
        groups = [group for group in graph.channels if group.kind in kinds] or graph.channels
        fixed = [f"`{group.name}` ({group.reason})" for group in groups if group.reason is not None]
        if arguments.unit in LAYERS:
            fixed = [f"`{block.name}` ({block.reason})" for block in graph.blocks if block.reason is not None]
        others = sorted({g.kind for g in graph.channels if g.reason is None and g.kind in CHANNEL_KINDS} - kinds)
        stay = f"; these stay: {', '.join(fixed[:3])}{' and others' if fixed[3:] else ''}" if fixed else ""
        raise TickdslError(
            f"nothing to prune: no {arguments.unit} are in scope{stay}",
            ("exclude fewer layers, or choose another unit" if arguments.exclude else "choose another unit")
            + (f" (the network has {' and '.join(others)} that can be removed)" if others else ""),
        ) from error


def require_traceable(model: object, example_inputs: Any) -> None:
    """Raise TickdslError for a network or example inputs that cannot be traced, whatever the network's code does."""
    if not isinstance(model, nn.Module):
        raise TickdslError(f"expected a network (torch.nn.Module), not a {type(model).__name__}")
    wrapped = {
        "module": isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel),
        "_orig_mod": isinstance(getattr(model, "_orig_mod", None), nn.Module),  # by `torch.compile`
    }
    for attribute, is_wrapped in wrapped.items():
        if is_wrapped:
            raise TickdslError(
                f"the network is wrapped in {type(model).__name__}", f"pass `model.{attribute}`, and wrap the result"
            )
    if isinstance(model, torch.jit.ScriptModule):
        raise TickdslError("a TorchScript network cannot be pruned", "pass the network that it was compiled from")
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    lazy = [name for name, tensor in tensors.items() if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise TickdslError(f"`{lazy[0]}` has no shape yet", "run the network once before pruning it")
    on_meta = [name for name, tensor in tensors.items() if tensor.is_meta]
    if on_meta:
        raise TickdslError(
            f"{plural(len(on_meta), 'tensor')} of the network have no values: they are on the meta device",
            'load the weights first: `model.to_empty(device="cpu")`, then `load_state_dict`',
        )
    computed = next(iter(_computed_attributes(model)), None)
    if computed is not None:
        raise TickdslError(
            f"`{computed}` is computed by a hook, which cannot be pruned",
            "for weight and spectral norms, use those of torch.nn.utils.parametrizations, or remove them first",
        )
    if not any(isinstance(value, Tensor) for value in tree_leaves(example_inputs)):
        raise TickdslError(
            f"`example_inputs` has no tensor: it is {_short(example_inputs)}",
            "pass a tensor such as torch.randn(1, 3, 224, 224), a tuple of positional arguments, or a dictionary of "
            "keyword arguments",
        )


def _computed_attributes(model: nn.Module) -> Iterator[str]:
    """Tensors that hooks compute from parameters, as older norms of weights do; masks are known otherwise."""
    for path, module in model.named_modules():
        masked = set(masked_tensors(module).values())
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf and name not in masked:
                yield f"{path}.{name}" if path else name


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
