"""Optimisers of one's own: checked before anything is trained with them, and called with messages of their errors."""

from __future__ import annotations

import inspect
import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.plugins import Call, Plugin, PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.training.recipes.recipe import Recipe

#: Options that the recipe has words for.
_RECIPE_OPTIONS = {"lr": "lr=", "weight_decay": "decay="}
#: Steps of the trial, before and after its state is saved.
_TRIAL_STEPS = 2
#: Keys of an optimiser's state that hold a moving average of the gradient.
MOMENTUM_KEYS = ("momentum_buffer", "exp_avg")


class OwnOptimiser:
    """An optimiser of a plug-in, as far as a training uses it.

    Every parameter group keeps its share of the learning rate: a group that the factory gave twice the rate always has
    twice that of the recipe.
    """

    def __init__(self, plugin: Plugin, optimiser: torch.optim.Optimizer, lr: float) -> None:
        self._plugin, self._optimiser = plugin, optimiser
        self._shares = [float(group.get("lr", lr)) / lr for group in optimiser.param_groups]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups."""
        return self._optimiser.param_groups

    @property
    def state(self) -> Mapping[Any, Any]:
        """The state by parameter."""
        return self._optimiser.state

    def set_rate(self, lr: Any) -> None:
        """Set the learning rate of the next step."""
        for group, share in zip(self.param_groups, self._shares, strict=True):
            group["lr"] = lr if share == 1 else lr * share

    def step(self) -> None:
        """Take a step. Raises PluginError if the plug-in fails."""
        call_plugin(self._plugin, self._optimiser.step)

    def zero_grad(self) -> None:
        """Remove the gradients."""
        self._optimiser.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state."""
        return call_plugin(self._plugin, self._optimiser.state_dict)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        call_plugin(self._plugin, self._optimiser.load_state_dict, dict(state))


def build(parameters: Sequence[nn.Parameter], recipe: Recipe) -> OwnOptimiser:
    """The recipe's optimiser with fresh state. Raises PluginError if it cannot be used for these parameters."""
    optimiser = _make(parameters, recipe)
    _require_continuation(parameters, recipe)
    return optimiser


def _make(parameters: Sequence[nn.Parameter], recipe: Recipe) -> OwnOptimiser:
    call = Call.parse(recipe.optimizer)
    plugin = require_plugin("optimiser", call.name)
    factory = load_plugin(plugin)
    if not callable(factory):
        raise PluginError(
            f"`{call.name}` is {type_in_words(factory)}, not an optimiser",
            "name a class or function of parameters and lr",
        )
    for name, word in _RECIPE_OPTIONS.items():
        if name in call.options:
            raise PluginError(f"`{recipe.optimizer}` sets {name}", f"write `{word}` of `train` instead")
    options = dict(call.options)
    if _takes(factory, "weight_decay"):
        options["weight_decay"] = recipe.decay
    elif recipe.decay:
        raise PluginError(f"`{call.name}` has no weight decay", "leave out `decay=`")
    optimiser = call_plugin(plugin, factory, list(parameters), lr=recipe.lr, **options)
    if not isinstance(optimiser, torch.optim.Optimizer):
        raise PluginError(
            f"`{call.name}` makes {type_in_words(optimiser)}, not an optimiser", "return a torch.optim.Optimizer"
        )
    held = [id(parameter) for group in optimiser.param_groups for parameter in group["params"]]
    if sorted(held) != sorted(map(id, parameters)):
        raise PluginError(f"`{call.name}` does not update every parameter it is given once", "put each into one group")
    for parameter in inspect.signature(optimiser.step).parameters.values():
        if parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY,
        ):  # fmt: skip
            raise PluginError(
                f"a step of `{call.name}` needs a {parameter.name}: it computes the loss several times",
                "use an optimiser that takes a step from one gradient",
            )
    return OwnOptimiser(plugin, optimiser, recipe.lr)


def _takes(factory: Any, name: str) -> bool:
    try:
        return name in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # implemented in C
        return False


def _require_continuation(parameters: Sequence[nn.Parameter], recipe: Recipe) -> None:
    """Raise PluginError if what `state_dict` returns does not continue a training with the same bits.

    A trial takes a few steps on copies of the smallest parameters of each number of dimensions.
    """
    smallest: dict[int, nn.Parameter] = {}
    for parameter in parameters:
        known = smallest.get(parameter.dim())
        if known is None or parameter.numel() < known.numel():
            smallest[parameter.dim()] = parameter
    with torch.random.fork_rng(devices=[]):
        whole = _Trial(list(smallest.values()), recipe)
        whole.take(0)
        resumed = _Trial(whole.parameters, recipe)
        resumed.optimiser.load_state_dict(_through_a_file(whole.optimiser.state_dict(), recipe))
        for trial in (whole, resumed):
            trial.take(_TRIAL_STEPS)
    same = all(torch.equal(one, other) for one, other in zip(whole.parameters, resumed.parameters, strict=True))
    if not same and all(bool(parameter.isfinite().all()) for parameter in whole.parameters):
        raise PluginError(
            f"`{recipe.optimizer}` does not continue from its `state_dict`: a training could not be resumed",
            "keep everything that a step depends on in `state` or in the parameter groups",
        )


def _through_a_file(state: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The state as a checkpoint gives it back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        read: dict[str, Any] = torch.load(buffer, weights_only=True)
    except pickle.UnpicklingError as error:
        raise PluginError(
            f"the `state_dict` of `{recipe.optimizer}` holds objects that a checkpoint cannot",
            "keep tensors, numbers, words, lists and dictionaries in it",
        ) from error
    return read


class _Trial:
    """Steps on copies of parameters, with gradients drawn by the step."""

    def __init__(self, parameters: Sequence[Tensor], recipe: Recipe) -> None:
        self.parameters = [nn.Parameter(parameter.detach().cpu().clone()) for parameter in parameters]
        self.optimiser = _make(self.parameters, recipe)
        self._lr = recipe.lr

    def take(self, first: int) -> None:
        for step in range(first, first + _TRIAL_STEPS):
            torch.manual_seed(step)
            for parameter in self.parameters:
                parameter.grad = torch.randn_like(parameter)
            self.optimiser.set_rate(self._lr)
            self.optimiser.step()
