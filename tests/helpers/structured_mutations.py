"""Well-formed but senseless plans: statements in any place, any option on any statement, any kind of value anywhere."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from mutations import plans

from tickdsl.lang import option_schemas, registries, syntax, vocabulary
from tickdsl.lang.reading.parse import parse
from tickdsl.training import catalogue


@attrs.define
class Node:
    """A statement: its text up to the block, and the statements of the block (None: it has no block)."""

    head: str
    body: list[Node] | None = None

    def __str__(self) -> str:
        if self.body is None:
            return self.head
        return "\n".join([self.head + " {", *map(str, self.body), "}"])


#: Values by class; each class is drawn as often as another.
VALUES: dict[str, tuple[str, ...]] = {
    "small number": ("0", "1", "2", "3", "7", "100", "007"),
    "large number": ("1000", "65536", "1000000", "2147483648", "999999999999", "999999999999999999"),
    "decimal": ("0.0", "0.5", "1.0", "0.999999", "1e-300", "5e-324", "1e18", "1.7e308", "1e400", "0.1"),
    "percentage": ("0%", "0.0000001%", "5%", "50%", "99.9999%", "100%", "100.1%", "999999999999999999%"),
    "length": ("0ep", "1ep", "0.5ep", "0.0001ep", "12ep", "13ep", "1it", "7 steps", "999999999999999999ep", "1.5it"),
    "word": ("init", "pretrained", "on", "off", "none", "default", "lr", "weights", "global", "original", "x", "a.b-c"),
    "name": (
        *vocabulary.CONTROLS, *vocabulary.METRICS, vocabulary.ALL_ARMS, vocabulary.MASK_DISTANCE,
        *registries.CRITERIA.builtin, *registries.SCHEDULES.builtin, *catalogue.DATASETS.builtin,
        "small-cnn", "lenet5", "mlp", "resnet20", "vgg16", "vit-tiny", "ticket", "a", "one",
    ),
    "string": ('""', '"*"', '"fc"', '"a:b"', '"no.such:thing"', '"json:loads"', '"\\""', '"/dev/null"', '"[a-"', '"%"'),
    "list": ("[0]", "[1, 2]", "[10%, 20%]", "[3ep, 1ep]", "[init, 5%]", "[[1], [2]]", '["*", fc]', "[1, a]", "[crop]"),
    "reference": ("$budget", "$scope", "$nothing", "$round", "$loop", "$many", "$few"),
    "range": ("1..3", "3..1", "0..0", "5..999999999999999999"),
}  # fmt: skip
#: Definitions of the references, of every kind that a reference can have; `$nothing` is undefined.
DEFINITIONS = (
    "let budget = 12ep", "let scope = global", "let round = $loop", "let loop = $round", "let many = [1, 2, 3]",
    "let few = 1", "sweep budget in [1ep, 2ep]", "sweep scope in [local, global]", "sweep many in 1..40",
    "sweep few in [$budget, 20%, fc]", "sweep scope in 1..9999",
)  # fmt: skip
_VALUE = re.compile(r'"(?:[^"\\\n]|\\.)*"|\[[^\]]*\]|\$\w+|(?<=[ =,\[])[\w.%-]+')
_OPTION = re.compile(r"(?<==)(?:\"[^\"]*\"|\[[^\]]*\]|[^\s;]+)")


@functools.cache
def _options(keyword: str = "") -> tuple[str, ...]:
    """The options of a statement; those of all statements, and one that there is not, if it has none."""
    known: set[str] = set(option_schemas.STATEMENT_OPTIONS.get(keyword, ()))
    registry = {"model": catalogue.MODELS, "data": catalogue.DATASETS}.get(keyword)
    if registry is not None:
        known |= {name for info in registry.builtin.values() for name in info.options}
    if known:
        return tuple(sorted(known))
    return (*sorted({name for options in option_schemas.STATEMENT_OPTIONS.values() for name in options}), "no-such")


def trees() -> list[list[Node]]:
    """The valid plans of the repository as trees."""
    return [list(_nodes(parse(syntax.Source("x.plan", text))[0].statements)) for text in plans()]


def _nodes(statements: tuple[syntax.Statement, ...]) -> Iterator[Node]:
    for statement in statements:
        body: Any = getattr(statement, "body", None)
        text = statement.span.text
        if body is None or not text.endswith("}"):
            yield Node(text)
        else:
            yield Node(text[: text.index("{")].rstrip(), list(_nodes(body)))


def value(dice: random.Random) -> str:
    """Any value of any class."""
    return dice.choice(VALUES[dice.choice(list(VALUES))])


def mutate_structure(tree: list[Node], others: list[list[Node]], dice: random.Random) -> str:
    """The text of a plan after one to five changes of its structure, each with statements of the other plans."""
    top = _copy(tree)
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5))):
        dice.choice(_CHANGES)(top, others, dice)
    separator = dice.choice(("\n", "\n", "; "))
    return separator.join(map(str, top)) + "\n"


def _copy(nodes: list[Node]) -> list[Node]:
    return [Node(node.head, None if node.body is None else _copy(node.body)) for node in nodes]


def _blocks(nodes: list[Node]) -> Iterator[list[Node]]:
    """The block and all blocks in it."""
    yield nodes
    for node in nodes:
        if node.body is not None:
            yield from _blocks(node.body)


def _any_block(top: list[Node], dice: random.Random) -> list[Node]:
    return dice.choice(list(_blocks(top)))


def _any_node(top: list[Node], dice: random.Random) -> Node:
    nodes = [node for block in _blocks(top) for node in block]
    return dice.choice(nodes) if nodes else Node("prune")


def _insert(top: list[Node], node: Node, dice: random.Random) -> None:
    block = _any_block(top, dice)
    block.insert(dice.randrange(len(block) + 1), node)


def _move(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    block = _any_block(top, dice)
    if block:
        _insert(top, block.pop(dice.randrange(len(block))), dice)


def _delete(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    block = _any_block(top, dice)
    if block:
        del block[dice.randrange(len(block))]


def _repeat(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    _insert(top, _copy([_any_node(top, dice)])[0], dice)


def _transplant(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    _insert(top, _copy([_any_node(dice.choice(others), dice)])[0], dice)


def _define(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    top.insert(0, Node(dice.choice(DEFINITIONS)))


def _wrap(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    """Put a run of statements into a block of their own."""
    block = _any_block(top, dice)
    start = dice.randrange(len(block) + 1)
    end = start + dice.randrange(3)
    head = dice.choice((f"cycle {value(dice)}", "cycle 2", "arm a", "arm ticket", "arm dense", "transfer to mnist"))
    block[start:end] = [Node(head, block[start:end])]


def _unwrap(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    """Replace a block by its statements."""
    block = _any_block(top, dice)
    for index, node in enumerate(block):
        if node.body is not None:
            block[index : index + 1] = node.body
            return


def _add_option(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    node = _any_node(top, dice)
    keyword = node.head.partition(" ")[0] if dice.random() < 0.7 else ""
    node.head += f" {dice.choice(_options(keyword))}={value(dice)}"


def _change_value(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    """Replace a value, one of an option by preference."""
    node = _any_node(top, dice)
    places = list((_OPTION if dice.random() < 0.5 else _VALUE).finditer(node.head))
    if places:
        start, end = dice.choice(places).span()
        node.head = node.head[:start] + value(dice) + node.head[end:]


def _add_clause(top: list[Node], others: list[list[Node]], dice: random.Random) -> None:
    node = _any_node(top, dice)
    condition = f"until {dice.choice((*vocabulary.CONDITION_METRICS, vocabulary.MASK_DISTANCE))} <"
    clause = dice.choice(("x", "until", "by", "at", "in", "except", "of", "to", condition))
    node.head += f" {clause} {value(dice)}"


_Change = Callable[[list[Node], list[list[Node]], random.Random], None]
_CHANGES: tuple[_Change, ...] = (
    _move, _move, _move, _delete, _repeat, _transplant, _transplant, _define, _wrap, _unwrap,
    _add_option, _add_option, _change_value, _change_value, _change_value, _add_clause,
)  # fmt: skip
