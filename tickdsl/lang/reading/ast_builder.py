"""Build the AST from Lark's parse tree, with one method per grammar rule. Values are not checked here."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from lark import Token, Transformer, Tree, v_args
from lark.tree import Meta

from tickdsl.lang import syntax
from tickdsl.moments import Moment

#: `next seed`.
_NEXT = object()
#: The children of a grammar rule: tokens, and AST nodes that are already built.
Children = list[Any]


def build(tree: Tree[Any], source: syntax.Source, start: int = 0) -> syntax.File:
    """Build the AST of a parsed plan, or of a part of it that starts at offset `start` of the source."""
    file: syntax.File = _Builder(source, start).transform(tree)
    return file


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace("%", "").strip()) / 100


@v_args(meta=True)
class _Builder(Transformer[Token, syntax.File]):
    """The Lark transformer. Clauses of `prune` are returned as (name, node) pairs."""

    def __init__(self, source: syntax.Source, offset: int) -> None:
        super().__init__()
        self.source, self.offset = source, offset

    def _at(self, node: Meta | Token) -> syntax.Span:
        start = getattr(node, "start_pos", None) or 0
        end = getattr(node, "end_pos", None)
        # The `}` that error recovery adds to an unclosed block lies beyond the end of the text.
        end = min(self.offset + (start if end is None else end), len(self.source.text))
        return syntax.Span(self.source, min(self.offset + start, end), end)

    def _word(self, token: Token) -> syntax.Word:
        return syntax.Word(str(token), span=self._at(token))

    def _value(self, item: Token | Any) -> Any:
        """Convert a token to the value it spells; return a node unchanged."""
        if not isinstance(item, Token):
            return item
        span, text = self._at(item), str(item)
        match item.type:
            case "INT":
                return syntax.Number(int(text), span=span)
            case "NEGATIVE" if text[1:].isdigit():
                return syntax.Number(int(text), span=span)
            case "NUMBER" | "NEGATIVE":
                return syntax.Number(float(text), span=span)
            case "PERCENT":
                return syntax.Percent(_fraction(text), span=span)
            case "SPAN":
                return syntax.Length(Moment.parse(text), span=span)
            case "STRING":
                return syntax.String(re.sub(r"\\(.)", r"\1", text[1:-1]), span=span)
            case _:
                return syntax.Word(text, span=span)

    def _only(self, meta: Meta, children: Children) -> Any:
        return self._value(children[0])

    value = number = negative = percent = length = string = name = pattern = word = unit = scope = what = split_by = (
        _only
    )
    moment = span = on_data = base = cost = count = share = portion = _only

    def ref(self, meta: Meta, children: Children) -> syntax.Ref:
        return syntax.Ref(str(children[0]), span=self._at(meta))

    def list(self, meta: Meta, children: Children) -> syntax.ListValue:
        return syntax.ListValue(tuple(self._value(child) for child in children), span=self._at(meta))

    def rates(self, meta: Meta, children: Children) -> syntax.Rates:
        return syntax.Rates(tuple(children), span=self._at(meta))

    def rate(self, meta: Meta, children: Children) -> syntax.Rate:
        layer, share = map(self._value, children)
        return syntax.Rate(layer, share, span=self._at(meta))

    def range(self, meta: Meta, children: Children) -> syntax.IntRange:
        return syntax.IntRange(int(children[0]), int(children[1]), span=self._at(meta))

    def option(self, meta: Meta, children: Children) -> syntax.Option:
        return syntax.Option(self._word(children[0]), children[1], span=self._at(meta))

    def condition(self, meta: Meta, children: Children) -> syntax.Condition:
        metric, comparison, bound = children
        return syntax.Condition(self._word(metric), str(comparison), self._value(bound), span=self._at(meta))

    # -- definitions and settings

    def version(self, meta: Meta, children: Children) -> syntax.Version:
        return syntax.Version(int(children[0]), span=self._at(meta))

    def let(self, meta: Meta, children: Children) -> syntax.Let:
        return syntax.Let(self._word(children[0]), children[1], span=self._at(meta))

    def include(self, meta: Meta, children: Children) -> syntax.Include:
        return syntax.Include(self._value(children[0]), span=self._at(meta))

    def seeds(self, meta: Meta, children: Children) -> syntax.Seeds:
        return syntax.Seeds(self._value(children[0]), span=self._at(meta))

    def sweep(self, meta: Meta, children: Children) -> syntax.Sweep:
        return syntax.Sweep(self._word(children[0]), children[1], span=self._at(meta))

    def model(self, meta: Meta, children: Children) -> syntax.Model:
        name, *rest = children
        options = tuple(item for item in rest if isinstance(item, syntax.Option))
        data = next((item for item in rest if not isinstance(item, syntax.Option)), None)
        return syntax.Model(name, data, options, span=self._at(meta))

    def data(self, meta: Meta, children: Children) -> syntax.Data:
        return syntax.Data(children[0], tuple(children[1:]), span=self._at(meta))

    def split(self, meta: Meta, children: Children) -> syntax.Split:
        by, parts, *options = children
        return syntax.Split(by, self._value(parts), tuple(options), span=self._at(meta))

    def train(self, meta: Meta, children: Children) -> syntax.Train:
        length, options = _length_and_options(children)
        return syntax.Train(length, options, span=self._at(meta))

    # -- pipeline

    def step(self, meta: Meta, children: Children) -> syntax.RoundAmount:
        base = children[1] if len(children) > 1 else None
        return syntax.RoundAmount(self._value(children[0]), base, span=self._at(meta))

    def target(self, meta: Meta, children: Children) -> syntax.TargetAmount:
        cost = children[1] if len(children) > 1 else None
        return syntax.TargetAmount(self._value(children[0]), cost, span=self._at(meta))

    def matching(self, meta: Meta, children: Children) -> syntax.Matching:
        return syntax.Matching(children[0], span=self._at(meta))

    def times(self, meta: Meta, children: Children) -> tuple[str, Any]:
        return "times", self._value(children[0])

    def until(self, meta: Meta, children: Children) -> tuple[str, Any]:
        return "until", self._value(children[0])

    def by(self, meta: Meta, children: Children) -> tuple[str, Any]:
        return "by", children[0]

    def at(self, meta: Meta, children: Children) -> tuple[str, Any]:
        return "at", children[0]

    def gradual(self, meta: Meta, children: Children) -> tuple[str, Any]:
        start, end, every = children
        return "gradual", syntax.Gradual(start, end, every, span=self._at(meta))

    def via(self, meta: Meta, children: Children) -> tuple[str, Any]:
        return "via", self._word(children[0])

    def within(self, meta: Meta, children: Children) -> tuple[str, Any]:
        return "within", tuple(self._value(child) for child in children)

    def except_(self, meta: Meta, children: Children) -> tuple[str, Any]:
        return "protect", tuple(self._value(child) for child in children)

    def prune(self, meta: Meta, children: Children) -> syntax.Prune:
        amount_index = next(i for i, c in enumerate(children) if isinstance(c, syntax.Amount))
        clauses: dict[str, Any] = {}
        repeated: Children = []
        written = children[amount_index + 1 :]
        for name, node in (clause for clause in written if not isinstance(clause, syntax.Option)):
            if name in ("within", "protect"):
                clauses[name] = clauses.get(name, ()) + node
            elif name in clauses:
                repeated.append(node)
            else:
                clauses[name] = node
        return syntax.Prune(
            unit=children[0],
            scope=children[1] if amount_index == 2 else None,
            amount=children[amount_index],
            times=clauses.get("times"),
            until=clauses.get("until"),
            by=clauses.get("by"),
            at=clauses.get("at"),
            within=clauses.get("within", ()),
            protect=clauses.get("protect", ()),
            options=tuple(clause for clause in written if isinstance(clause, syntax.Option)),
            gradual=clauses.get("gradual"),
            via=clauses.get("via"),
            repeated=tuple(repeated),
            span=self._at(meta),
        )

    def overlap(self, meta: Meta, children: Children) -> syntax.Overlap:
        at_least, parts = children or (None, None)
        return syntax.Overlap(at_least, parts, span=self._at(meta))

    def union(self, meta: Meta, children: Children) -> syntax.Union:
        return syntax.Union(tuple(children), span=self._at(meta))

    def refill(self, meta: Meta, children: Children) -> syntax.Refill:
        unit, *rest = children
        by, options = _length_and_options(rest)
        return syntax.Refill(unit, by, options, span=self._at(meta))

    def regroup(self, meta: Meta, children: Children) -> syntax.Regroup:
        return syntax.Regroup(tuple(children), span=self._at(meta))

    def recalibrate(self, meta: Meta, children: Children) -> syntax.Recalibrate:
        return syntax.Recalibrate(span=self._at(meta))

    def grow(self, meta: Meta, children: Children) -> syntax.Grow:
        unit, amount, *by = children
        return syntax.Grow(unit, amount, by[0] if by else None, span=self._at(meta))

    def everything(self, meta: Meta, children: Children) -> None:
        return None

    def rewind(self, meta: Meta, children: Children) -> syntax.Rewind:
        donor = next((child for child in children if isinstance(child, syntax.Donor)), None)
        to, options = _length_and_options([child for child in children[1:] if child is not donor])
        return syntax.Rewind(children[0], donor, to, options, span=self._at(meta))

    def donor(self, meta: Meta, children: Children) -> syntax.Donor:
        return syntax.Donor(self._value(children[0]) if children else None, span=self._at(meta))

    def stored_run(self, meta: Meta, children: Children) -> syntax.Donor:
        return syntax.Donor(None, self._value(children[0]), span=self._at(meta))

    def perturb(self, meta: Meta, children: Children) -> syntax.Perturb:
        return syntax.Perturb(children[0], span=self._at(meta))

    def retrain(self, meta: Meta, children: Children) -> syntax.Retrain:
        length, options = _length_and_options(children[1:])
        return syntax.Retrain(children[0], length, options, span=self._at(meta))

    def distill(self, meta: Meta, children: Children) -> syntax.Distill:
        return syntax.Distill(children[0], tuple(children[1:]), span=self._at(meta))

    def evolve(self, meta: Meta, children: Children) -> syntax.Evolve:
        unit, share, *rest = children
        options = tuple(item for item in rest if isinstance(item, syntax.Option))
        by = next((item for item in rest if not isinstance(item, syntax.Option)), None)
        return syntax.Evolve(unit, share, by, options, span=self._at(meta))

    def stretch(self, meta: Meta, children: Children) -> syntax.Elastic:
        return syntax.Elastic("stretch", children[0], tuple(children[1:]), span=self._at(meta))

    def squeeze(self, meta: Meta, children: Children) -> syntax.Elastic:
        return syntax.Elastic("squeeze", children[0], tuple(children[1:]), span=self._at(meta))

    def transfer(self, meta: Meta, children: Children) -> syntax.Transfer:
        body = children[-1] if isinstance(children[-1], tuple) else ()
        options = tuple(child for child in children[1:] if isinstance(child, syntax.Option))
        return syntax.Transfer(children[0], options, body, span=self._at(meta))

    def cycle(self, meta: Meta, children: Children) -> syntax.Cycle:
        return syntax.Cycle(self._value(children[0]), children[1], span=self._at(meta))

    # -- questions

    def arm(self, meta: Meta, children: Children) -> syntax.Arm:
        return syntax.Arm(self._word(children[0]), children[1], span=self._at(meta))

    def compare(self, meta: Meta, children: Children) -> syntax.Compare:
        names = tuple(child for child in children if not isinstance(child, syntax.Option))
        options = tuple(child for child in children if isinstance(child, syntax.Option))
        return syntax.Compare(names, options, span=self._at(meta))

    def line(self, meta: Meta, children: Children) -> syntax.Line:
        metric, start, end = children
        return syntax.Line(metric, start, None if end is _NEXT else end, span=self._at(meta))

    def neighbour(self, meta: Meta, children: Children) -> object:
        return _NEXT

    def report(self, meta: Meta, children: Children) -> syntax.Report:
        metrics = tuple(child for child in children if not isinstance(child, syntax.Option))
        options = tuple(child for child in children if isinstance(child, syntax.Option))
        return syntax.Report(metrics, options, span=self._at(meta))

    def stop(self, meta: Meta, children: Children) -> syntax.Stop:
        return syntax.Stop(children[0], span=self._at(meta))

    # -- blocks and files

    def block(self, meta: Meta, children: Children) -> tuple[Any, ...]:
        return tuple(children)

    def start(self, meta: Meta, children: Children) -> syntax.File:
        return syntax.File(tuple(children), self.source)


# Lark looks up the method `except`, which is a Python keyword.
setattr(_Builder, "except", _Builder.except_)


def _length_and_options(children: Children) -> tuple[Any, tuple[syntax.Option, ...]]:
    options = tuple(child for child in children if isinstance(child, syntax.Option))
    length = next((child for child in children if not isinstance(child, syntax.Option)), None)
    return length, options
