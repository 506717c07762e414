"""What people write who come from torch, other pruning tools or English, and how a plan says it."""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from tickdsl.lang.registries import CRITERIA
from tickdsl.lang.synonyms import SYNONYMS
from tickdsl.lang.vocabulary import UNITS

#: Longer statements were not written by hand, and would take long to search.
_MAX_LENGTH = 400
_NUMBER = r"(?P<number>\d+(?:\.\d+)?)"
_LAYERS = r"\[?\(?\s*(?P<layers>[\w.\"*-]+(?:\s*,\s*[\w.\"*-]+)*)\s*\)?\]?"
_AMOUNT = r"(?P<amount>\d+(?:\.\d+)?\s*%?|\.\d+)"


def _length(found: re.Match[str]) -> str:
    unit = (found["unit"] or "epoch").lower()
    return f"{found['number']}{'ep' if unit.startswith('e') else 'it'}"


def _share(text: str) -> str:
    """A share as a percentage: `0.2` and `.2` are `20%`."""
    number = float(text.rstrip("% "))
    return f"{number if '%' in text or number > 1 else number * 100:g}%"


def _written_out(found: re.Match[str]) -> str:
    """A number without its prefix: `10k` is `10000`."""
    return f"{float(found['number']) * 1000 ** (1 + 'kmg'.index(found['prefix'].lower())):.0f}"


def _layers(found: re.Match[str]) -> str:
    return re.sub(r"\s*,\s*", ", ", found["layers"])


@attrs.frozen
class _Phrase:
    """A way to write a statement with the keyword `keyword` ("" for any), and the help for it."""

    keyword: str
    pattern: re.Pattern[str]
    help: Callable[[re.Match[str]], str | None]


def _phrase(keyword: str, pattern: str, help: str | Callable[[re.Match[str]], str | None]) -> _Phrase:
    return _Phrase(keyword, re.compile(pattern), help if callable(help) else lambda found: found.expand(help))


_UNIT = r"(?P<unit>ep|epochs?|it|iters?|iterations?|steps?)\b"
#: The first phrase that matches counts.
_PHRASES = (
    # settings
    _phrase(
        "train", rf"\bfor\s+{_NUMBER}\s*(?:{_UNIT})?", lambda m: f"the length follows the keyword: `train {_length(m)}`"
    ),
    _phrase("train", r"\buntil\b", "a training has a fixed length: `train 160ep`"),
    _phrase("train", r"\bwith\b", "options follow without a word between: `train 160ep lr=0.1`"),
    _phrase(
        "model",
        r"^model\s+(?P<name>[\w.-]+)\s+(?P<options>\S+=.*?)\s+on\s+(?P<data>[\w.-]+)",
        r"the data set comes before the options: `model \g<name> on \g<data> \g<options>`",
    ),
    _phrase("model", r"\bpretrained\b", "for pretrained weights, write `weights=default` after the name"),
    _phrase(
        "seeds", r"(?P<first>\d+)\s*-\s*(?P<last>\d+)", r"write a range with two dots: `seeds \g<first>..\g<last>`"
    ),
    _phrase("seeds", r"range\s*\(\s*(?P<n>\d+)", r"`seeds \g<n>` are the seeds 1 to \g<n>"),
    _phrase(
        "seeds",
        r"\(?(?P<list>\d+(?:\s*,\s*\d+)+)",
        lambda m: f"write several seeds as a list: `seeds [{', '.join(re.findall(r'[0-9]+', m['list']))}]`",
    ),
    _phrase("include", r"<?(?P<path>[\w./\\-]+)>?", r'quote the path: `include "\g<path>"`'),
    _phrase("let", r"(?P<name>[A-Za-z_][\w-]*)\s*:=?\s*(?P<value>[^\s;]+)", r"write `let \g<name> = \g<value>`"),
    _phrase("plan", r"\S+", "`plan 1` states the language's version; a plan has the name of its file"),
    # prune
    _phrase(
        "prune",
        rf"{_AMOUNT}\s+(?P<scope>global|local|uniform)\b",
        r"the scope comes before the amount: `\g<scope> \g<amount>`",
    ),
    _phrase(
        "prune",
        r"^prune\s+(?P<scope>global|local|uniform)\s+(?P<unit>\w+)",
        r"the scope comes after the unit: `prune \g<unit> \g<scope> 20%`",
    ),
    _phrase(
        "prune", r"\b(?P<word>until|to)\s+(?P<share>[\d.]+%)\s+spars(?:e|ity)\b", r"write `\g<word> \g<share>` alone"
    ),
    _phrase("prune", r"\buntil\s+sparsity\s*(?:=+|is|of)?\s*(?P<share>[\d.]+%)", r"write `until \g<share>`"),
    _phrase(
        "prune",
        r"(?P<first>[\w.\"*-]+)\s+(?:and|&)\s+(?P<second>[\w.\"*-]+)",
        r"separate layers by commas: `\g<first>, \g<second>`",
    ),
    _phrase("prune", r"\b(?P<word>in|except)\s+layers?\s+(?P<layer>[\w.\"*-]+)", r"write `\g<word> \g<layer>`"),
    _phrase("prune", r"\bx\s*\d+\.\d+", "rounds are whole: `x 3`"),
    _phrase(
        "prune",
        r"\b(?:using|with|via)\s+(?P<name>[\w-]+)",
        lambda m: f"write the criterion as `by {m['name']}`" if m["name"] in CRITERIA.builtin else None,
    ),
    _phrase(
        "prune",
        r"\b(layer-?wise|per[- ]layer|each layer|locally)\b",
        "to rank within each layer, use the scope `local`: `prune weights local 20%`",
    ),
    _phrase(
        "prune", r"^prune\s+unstructured\b|\bunstructured\b", "to remove single weights, write `prune weights 20%`"
    ),
    _phrase("prune", r"\bstructured\b", "to remove whole filters, write `prune filters 20%`"),
    _phrase("prune", r"\b\d+:\d+", "N:M sparsity is not supported; for half of all weights, write `prune weights 50%`"),
    _phrase(
        "prune",
        rf"\b(X|times|for)\s*{_NUMBER}|(?<!\bat),?\s\b(?P<n>\d+)\s*(x|X|times|rounds?|iterations?|steps?)\b"
        r"|\b(?:iterative_)?(steps|rounds|iterations)\s*=\s*(?P<k>\d+)",
        lambda m: f"write the number of rounds with a small x: `x {m['number'] or m['n'] or m['k']}`",
    ),
    _phrase(
        "prune",
        r"\b(criterion|importance|method|score|by)\s*=\s*(?P<name>[\w-]+)",
        r"write the criterion as `by \g<name>`",
    ),
    _phrase(
        "prune",
        rf"\b(amount|ratio|rate|fraction|sparsity|pruning_ratio|ch_sparsity)\s*[=:]?\s*{_AMOUNT}",
        lambda m: (
            f"write the amount itself: `{_share(m['amount'])}`, or `to {_share(m['amount'])}` for all rounds together"
        ),
    ),
    _phrase(
        "prune",
        r"\bto\s+(?P<amount>0?\.\d+)",
        lambda m: f"write the amount as a percentage: `to {_share(m['amount'])}`",
    ),
    _phrase(
        "prune",
        rf"\b(?:(?:ignor(?:e|ing)|ignored_layers|without|exclud(?:e|ing)|skip(?:ping)?|not|but)\b\s*=?\s*|except\s*(?=[\[(])){_LAYERS}",
        lambda m: f"write `except {_layers(m)}`",
    ),
    _phrase("prune", r"\bfrom\s+\d.*", "a gradual prune has a span and an interval: `from 2ep to 20ep every 100it`"),
    _phrase(
        "prune",
        rf"\b(?:(?:on|only|from|for|layers?(?=\s*=))\b\s*=?\s*|in\s*(?=[\[(])){_LAYERS}",
        lambda m: f"write `in {_layers(m)}`",
    ),
    _phrase(
        "prune",
        r"\b(round_to|round-to|divisor|channel_divisor|channels_per_group)\s*[=:]?\s*(?P<n>\d+)",
        r"write what widths are multiples of as `multiple=\g<n>`",
    ),
    _phrase(
        "prune", r"(?<!=)\b(?P<order>lowest|highest)\b", r"write which end of the ranking goes as `order=\g<order>`"
    ),
    _phrase("prune", r"\bevery\b", "train between rounds: `prune weights 20% x 8; retrain fine-tune 5ep`"),
    _phrase("prune", r"\bbefore\b", "to prune before the training, write `at init`"),
    _phrase("prune", rf"\bafter\s+{_NUMBER}\s*{_UNIT}", lambda m: f"write `at {_length(m)}`"),
    _phrase("prune", r"\bafter\b", "a prune comes after the training unless it says `at …`: leave this out"),
    _phrase(
        "prune",
        r"(?P<share>\d+(?:\.\d+)?\s*%)\s*(?:of\s+)?(?:the\s+)?(?P<cost>flops|macs|params|parameters)\b(?!\s*[<>])",
        lambda m: f"write the share that goes as `to {m['share']} of {'params' if m['cost'][0] == 'p' else 'flops'}`",
    ),
    _phrase(
        "prune", r"\b(flops|macs|params)\b(?!\s*[<>])", r"prune in rounds until a cost is reached: `until \1 < 50%`"
    ),
    _phrase(
        "prune",
        r"^prune\s+(?P<layer>[A-Za-z_][\w.]*)\s+(?P<amount>\d+(?:\.\d+)?%)",
        lambda m: (
            None
            if m["layer"] in (*UNITS, *SYNONYMS)
            else f"name a unit, then the layer: `prune weights {m['amount']} in {m['layer']}`"
        ),
    ),
    _phrase(
        "prune",
        r"%\s+(?P<layer>[A-Za-z_][\w.]*)$",
        lambda m: None if m["layer"] in (*UNITS, *CRITERIA.builtin) else f"for a layer, write `in {m['layer']}`",
    ),
    _phrase("", r"(?P<number>\d+(?:\.\d+)?)\s+per\s?cent\b", r"write the share with its sign: `\g<number>%`"),
    # after a prune
    _phrase(
        "retrain",
        rf"^retrain\s+(?P<schedule>[\w-]+)\s+for\s+{_NUMBER}\s*(?:{_UNIT})?",
        lambda m: f"the length follows the schedule: `retrain {m['schedule']} {_length(m)}`",
    ),
    _phrase(
        "retrain", rf"^retrain\s+{_NUMBER}\s*{_UNIT}", lambda m: f"name the schedule: `retrain fine-tune {_length(m)}`"
    ),
    _phrase(
        "retrain", r"^retrain\s*$", "name the schedule: `retrain fine-tune 40ep`; to repeat the recipe, use `rewind lr`"
    ),
    _phrase(
        "distill",
        r"^distill\s+(?:teacher\s*=\s*)?(?P<arm>[\w.-]+)",
        r"name the teacher after `from`: `distill from \g<arm>`",
    ),
    _phrase("transfer", r"^transfer\s+(?P<data>[\w.-]+)", r"name the data after `to`: `transfer to \g<data>`"),
    _phrase("stretch", r"^stretch\s+(?P<model>[\w.-]+)", r"name the network after `to`: `stretch to \g<model>`"),
    _phrase("squeeze", r"^squeeze\s+(?P<model>[\w.-]+)", r"name the network after `to`: `squeeze to \g<model>`"),
    _phrase("cycle", r"^cycle\s+\(?(?P<n>\d+)", r"write `cycle \g<n> { … }`"),
    _phrase("arm", r"^arm\s+\"?(?P<name>[A-Za-z_][\w-]*)\"?\s*[:=]?\s*(?=\{)", r"write `arm \g<name> { … }`"),
    _phrase("rewind", r"^rewind\s+to\s+(?P<moment>[\w.%]+)", r"name what to rewind: `rewind weights to \g<moment>`"),
    _phrase(
        "rewind",
        r"^rewind\s+(?P<what>\w+)\s+(?:from|of|by|to)\s+(?:the\s+)?seeds?\s*=?\s*(?P<seed>\d+)",
        r"name the other seed after `of`: `rewind \g<what> of seed \g<seed>`",
    ),
    _phrase(
        "rewind",
        r"^rewind\s+(?P<what>\w+)\s+(?:from|of)\s+(?:an?|the|)\s*(?:other|another|next|neighbour)\b",
        r"write `rewind \g<what> of next seed`, or name a seed: `of seed 2`",
    ),
    _phrase("perturb", r"(?P<share>\d+(?:\.\d+)?\s*%)", r"write the norm of the noise alone: `perturb \g<share>`"),
    # questions
    _phrase("compare", r"^compare\s+(?:with|to|against)\s+(?P<name>[\w-]+)", r"write `compare \g<name>`"),
    _phrase("", r"[<>]=?\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<prefix>[kKmMgG])\b", lambda m: f"write `{_written_out(m)}`"),
    _phrase("", r"\bthen\b", "statements are separated by `;` or a newline"),
    _phrase(
        "",
        r"\b(?P<metric>accuracy|loss|sparsity|params|flops)\s+(?:is\s+|drops?\s+|falls?\s+|goes\s+|rises?\s+)*"
        r"(?P<word>below|under|less\s+than|above|over|more\s+than|greater\s+than|exceeds|reaches)\s+(?P<bound>[\d.]+%?)",
        lambda m: f"write `{m['metric']} {'<' if m['word'][:2] in ('be', 'un', 'le') else '>'} {m['bound']}`",
    ),
    _phrase("", r"\b(?:when|until)\b.*\b(drops?|falls?)\b", "compare with a value: `accuracy < 90%`"),
    _phrase("stop", r"^stop\s+(if|on|at|once)\b", "write `stop when accuracy < 90%`"),
    _phrase("", r"^\$(?P<name>[\w-]+)\s*=\s*(?P<value>[^\s;]+)", r"define a variable with `let \g<name> = \g<value>`"),
    _phrase("", r"^/\*", "comments start with `#`"),
)


def correct_phrase(statement: str, offset: int) -> str | None:
    """The help for a statement that does not parse at `offset`, if it is written in a known foreign way; else None."""
    text = statement.rstrip()
    if len(text) > _MAX_LENGTH:
        return None
    keyword = text.partition(" ")[0]
    for phrase in _PHRASES:
        if phrase.keyword in ("", keyword):
            is_whole = phrase.pattern.pattern.startswith("^")
            for found in phrase.pattern.finditer(text, 0 if is_whole else len(keyword)):
                if found.start() - 2 <= offset <= found.end() + 1 and (help := phrase.help(found)):
                    return help
    return None
