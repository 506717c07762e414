"""The arguments of `tickdsl.prune`: what they mean, and what is wrong with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

import attrs
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.pruning.amounts import round_half_up
from tickdsl.pruning.cost_targets import TARGET_WORDS, Target
from tickdsl.pruning.criteria import CRITERIA, Criterion, get_criterion
from tickdsl.pruning.criteria.plugin import RowScore, own_criterion
from tickdsl.pruning.patterns import matches
from tickdsl.pruning.scope import CHANNEL_KINDS, LAYERS, Pool, find_scope

Unit = Literal["filters", "neurons", "channels", "heads", "head-dims", "weights", "layers", "blocks"]
Scope = Literal["global", "local"]

#: A share of the units (`"50%"` or 0.5), a number of units (3), or a share by pattern of layers.
Amount = str | float | int | Mapping[str, str | float]
By = str | Criterion | type[Criterion] | RowScore
#: The layers that are not pruned: patterns of module paths, or modules.
Exclude = str | nn.Module | Iterable[str | nn.Module]
_PERCENT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*")


@attrs.frozen
class PruneArguments:
    """Valid arguments of `tickdsl.prune`.

    One of `share` (0 to 1), `count` and `shares` (0 to 1 by pattern) is the whole amount, over all rounds.
    """

    unit: str
    scope: str
    criterion: Criterion
    exclude: tuple[str, ...]
    rounds: int
    multiple: int
    target: Target | None
    share: float | None = None
    count: int | None = None
    shares: Mapping[str, float] | None = None

    def scope_arguments(self) -> dict[str, Any]:
        """The arguments of a `prune` step, without an amount."""
        return {"unit": self.unit, "scope": self.scope, "by": self.criterion, "protect": self.exclude}

    def for_round(self, graph: ModelGraph, start: Structure, number: int) -> dict[str, Any]:
        """The arguments of round `number` (from 0), as those of a `prune` step.

        `start` is the structure before the first round; the amounts of all rounds are shares of its units, and add up
        exactly.
        """
        args = self.scope_arguments()
        if self.target is not None:
            return args
        pools = find_scope(graph, start, args).pools
        progress = Fraction(number, self.rounds), Fraction(number + 1, self.rounds)
        if self.scope == "global":
            total = sum(pool.remaining for pool in pools)
            before, after = (self._amount(total, self.share, p) for p in progress)
            return {**args, "count": after - before}
        kept = {}
        for pool in pools:
            share = self.share if self.shares is None else self._share_of_layer(_layer_of_pool(graph, self.unit, pool))
            kept[pool.name] = pool.remaining - self._amount(pool.remaining, share, progress[1])
        return {**args, "keep": kept}

    def _amount(self, units: int, share: float | None, progress: Fraction) -> int:
        """The number of so many units that have been removed when a part of the rounds is done."""
        return round_half_up((share * units if share is not None else self.count or 0) * float(progress))

    def _share_of_layer(self, path: str) -> float:
        """The share of the first pattern that matches; layers that none matches are not pruned."""
        assert self.shares is not None
        return next((share for pattern, share in self.shares.items() if matches(pattern, path)), 0.0)


def _layer_of_pool(graph: ModelGraph, unit: str, pool: Pool) -> str:
    return graph.weights[pool.name].module if unit == "weights" else graph.group(pool.name).producers[0]


def read_arguments(
    model: nn.Module,
    amount: Amount,
    unit: str,
    scope: str,
    by: By,
    target: Target | None,
    exclude: Exclude,
    multiple: int,
    rounds: int,
    between: Callable[[nn.Module], nn.Module | None] | None,
) -> PruneArguments:
    """Validate the arguments that need no model graph. Raises TickdslError, or TypeError for values of a wrong type."""
    _require_choice("unit", unit, [*CHANNEL_KINDS, "weights", *LAYERS])
    if scope == "searched":
        raise TickdslError(
            '`scope="searched"` evaluates networks on validation data and stores what it finds, which only plans do',
            "write it in a plan, `prune filters searched to 40% of flops`, and run that by `tickdsl.run`; or pass "
            '`scope="global"` or `"local"`',
        )
    _require_choice("scope", scope, get_args(Scope))
    if target is not None:
        _require_choice("target", target, list(TARGET_WORDS))
    _require_positive("rounds", rounds)
    _require_positive("multiple", multiple)
    if between is not None and not callable(between):
        raise TickdslError(f"`between` cannot be {between!r}", "pass a function that trains the network it is given")
    if between is not None and rounds == 1:
        raise TickdslError("`between` is called between rounds, but there is only one", "pass `rounds=2` or more")
    if unit in ("weights", *LAYERS) and multiple > 1:
        raise TickdslError(f"`multiple` is about the widths of layers, which pruning {unit} does not change")
    if unit == "weights" and target is not None:
        raise TickdslError(
            f"masked weights are still stored and computed, so pruning weights removes no {TARGET_WORDS[target]}",
            "leave out `target`, or prune `filters`, `channels` or `layers`",
        )
    if unit in LAYERS:
        scope = "global"
    arguments = PruneArguments(
        unit, scope, _find_criterion(by), _patterns(model, exclude), rounds, multiple, target, **_read_amount(amount)
    )
    if arguments.shares is not None and (scope != "local" or target is not None):
        raise TickdslError(
            "an amount for each layer ranks the units of each layer by themselves",
            'pass `scope="local"`, without `target`',
        )
    if target is not None and arguments.share is None:
        raise TickdslError(f'with `target="{target}"`, the amount is a share', 'pass `amount="50%"`, for example')
    return arguments


def _require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.4)
        raise TickdslError(
            f"`{name}` cannot be {value!r}",
            (f"did you mean `{close[0]}`? " if close else "") + f"It is one of {', '.join(choices)}",
        )


def _require_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TickdslError(f"`{name}` must be an integer of at least 1, not {value!r}")


def _read_amount(amount: Amount) -> dict[str, Any]:
    if isinstance(amount, Mapping):
        if not amount:
            raise TickdslError("`amount` names no layer", 'pass shares by pattern, such as {"layer1": "30%"}')
        return {"shares": {pattern: _read_share(share, allow_zero=True) for pattern, share in amount.items()}}
    if isinstance(amount, int) and not isinstance(amount, bool):
        if amount < 1:
            raise TickdslError(f"an amount of {amount} removes nothing", 'pass a share such as "50%", or a count')
        return {"count": amount}
    return {"share": _read_share(amount)}


def _read_share(amount: object, allow_zero: bool = False) -> float:
    share: object = amount
    if isinstance(amount, str):
        found = _PERCENT.fullmatch(amount)
        share = float(found[1]) / 100 if found else None
    if isinstance(share, bool) or not isinstance(share, int | float) or not share >= 0:
        raise TickdslError(f"`amount` cannot be {amount!r}", 'pass a share such as "50%" or 0.5')
    if share >= 1:
        raise TickdslError(f"an amount of {amount} removes everything", 'pass a share below 100%, such as "50%"')
    if share == 0 and not allow_zero:
        raise TickdslError(f"an amount of {amount} removes nothing", 'pass a share such as "50%"')
    return float(share)


def _find_criterion(by: By) -> Criterion:
    if not isinstance(by, str):
        return own_criterion(by)
    if by not in CRITERIA:
        close = difflib.get_close_matches(by, CRITERIA, n=1)
        try:
            return get_criterion(by)
        except TickdslError as error:
            hint = f"did you mean `{close[0]}`? " if close else ""
            raise TickdslError(
                f"there is no criterion `{by}`", f"{hint}The criteria are {', '.join(CRITERIA)}"
            ) from error
    return get_criterion(by)


def _patterns(model: nn.Module, exclude: Exclude) -> tuple[str, ...]:
    items = [exclude] if isinstance(exclude, str | nn.Module) else list(exclude)
    paths = {id(module): path for path, module in model.named_modules()}
    patterns = []
    for item in items:
        if isinstance(item, nn.Module):
            if not paths.get(id(item)):
                raise TickdslError(
                    f"`exclude` has a {type(item).__name__} that is not a layer of the network",
                    "pass a layer of this network, or its path",
                )
            patterns.append(paths[id(item)])
        else:
            patterns.append(item)
    return tuple(patterns)
