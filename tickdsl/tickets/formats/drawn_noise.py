"""The random numbers that a network draws in `forward`, such as a VAE's, recorded or given from outside.

A program that runs without tickdsl takes them as inputs: only so are its outputs determined by its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tickdsl.errors import TickdslError
from tickdsl.tickets.preprocessing import InputPreprocessing
from tickdsl.training.named_tensors import run_network

#: Functions that draw from the standard normal distribution.
_STANDARD_NORMAL = (torch.randn, torch.randn_like)
#: Functions that draw from distributions whose numbers cannot be inputs yet.
_OTHERS = (
    torch.rand, torch.rand_like, torch.randint, torch.randint_like, torch.randperm, torch.bernoulli, torch.multinomial,
    torch.poisson, Tensor.uniform_, Tensor.bernoulli_, Tensor.random_, Tensor.exponential_, Tensor.multinomial,
    Tensor.bernoulli,
)  # fmt: skip
_HINT = "draw them with `torch.randn` or `torch.randn_like`, or use `--format ticket`"


class NormalDraws(TorchFunctionMode):
    """Within it, what is drawn from a normal distribution is drawn by `_draw`, from the standard one.

    Raises TickdslError for draws from other distributions. Results and the states of torch's generators on the CPU are
    those without it.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _STANDARD_NORMAL:
            return self._draw(lambda: func(*args, **kwargs))
        if func is torch.normal:
            return self._normal(*args, **kwargs)
        if func is Tensor.normal_:
            return self._normal_in_place(*args, **kwargs)
        if func in _OTHERS or (func in (F.dropout, torch.dropout) and _is_training(args, kwargs)):
            self._refuse(func)
        return func(*args, **kwargs)

    def _draw(self, standard: Callable[[], Tensor]) -> Tensor:
        """Numbers in place of those that `standard` would draw."""
        raise NotImplementedError

    def _normal(
        self, mean: Any, std: Any = 1.0, size: Any = None, *, generator: torch.Generator | None = None, **options: Any
    ) -> Tensor:
        like = [value for value in (mean, std) if isinstance(value, Tensor)]
        shape = size if size is not None else sum(like[1:], like[0]).shape
        if like:
            options = {"dtype": like[0].dtype, "device": like[0].device}
        drawn: Tensor = mean + std * self._draw(lambda: torch.empty(shape, **options).normal_(generator=generator))
        return drawn

    def _normal_in_place(self, tensor: Tensor, mean: float = 0.0, std: float = 1.0, **options: Any) -> Tensor:
        drawn = self._draw(lambda: torch.empty_like(tensor).normal_(**options))
        return tensor.copy_(drawn if (mean, std) == (0.0, 1.0) else mean + std * drawn)

    def _refuse(self, func: Callable[..., Any]) -> NoReturn:
        raise TickdslError(
            f"the network draws random numbers with `{func.__name__}`, and a file of this format can take those of a "
            "normal distribution only",
            _HINT,
        )


class RecordedDraws(NormalDraws):
    """Records what is drawn from a normal distribution, in `drawn`: standard normal numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []

    def _draw(self, standard: Callable[[], Tensor]) -> Tensor:
        self.drawn.append(standard())
        return self.drawn[-1]


class GivenDraws(NormalDraws):
    """Gives the network `noise`, in order, instead of what it would draw."""

    def __init__(self, noise: Sequence[Tensor]) -> None:
        super().__init__()
        self._noise: Iterator[Tensor] = iter(noise)

    def _draw(self, standard: Callable[[], Tensor]) -> Tensor:
        return next(self._noise)


def drawn_shapes(network: nn.Module, preprocessing: InputPreprocessing) -> tuple[tuple[int, ...], ...]:
    """The shapes [B, …], without the batch, of what a network draws for a batch of inputs; empty if it draws nothing.

    The network is in eval mode. Raises TickdslError if it draws from another distribution than a normal one, or as
    many numbers for every batch.
    """
    was_training = network.training
    network.eval()
    try:
        drawn = _shapes_drawn(network, preprocessing, 2)
        if not drawn:
            return ()
        found = [drawn, _shapes_drawn(network, preprocessing, 3)]
    finally:
        network.train(was_training)
    shapes = tuple(shape[1:] for shape in found[0])
    if found != [[(count, *shape) for shape in shapes] for count in (2, 3)]:
        raise TickdslError(
            f"the network {type(network).__name__} draws random numbers that are not one set for each input: "
            f"{' and '.join(str(list(shape)) for shape in found[0]) or 'none'} for 2 inputs",
            "draw a tensor [B, …] for a batch of B inputs, or use `--format ticket`",
        )
    return shapes


def _shapes_drawn(network: nn.Module, preprocessing: InputPreprocessing, count: int) -> list[tuple[int, ...]]:
    """The shapes of what a network draws for `count` inputs."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), RecordedDraws() as recorded:
        fixed: Any = preprocessing.fixed(count)
        run_network(network, preprocessing(fixed))
    return [tuple(tensor.shape) for tensor in recorded.drawn]


def _is_training(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    rate = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    training = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
    return bool(training) and bool(rate)
