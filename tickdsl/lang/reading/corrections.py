"""Help texts for common syntax mistakes, chosen by the unexpected token and the words before it."""

from __future__ import annotations

import re

from tickdsl.lang import option_schemas, registries, vocabulary
from tickdsl.lang.reading.statements import StatementText

_NAME = re.compile(r"[A-Za-z_][\w.-]*")


def suggest_correction(
    piece: StatementText, offset: int, found: str, before: list[str], expected: set[str]
) -> str | None:
    """What to write instead, if the syntax error is a known mistake; else None.

    `offset` is the offset of the error in `piece`, `found` the token there ("" at the end of the statement), `before`
    the words of the statement before it, and `expected` the terminals that the parser would accept.
    """
    first, last = (before[0], before[-1]) if before else ("", "")
    if not found and "RSQB" in expected:
        return "close the list with `]`"
    number = re.match(r"\d+(\.\d+)?", found)
    if first == "arm" and (correction := _correct_arm_name(before[1:], found)):
        return correction
    if expected == {"EQUAL"} and (correction := _correct_option(first, before[1:], found)):
        return correction
    if number:
        return _correct_number(found, number[0], first, last, before, expected)
    if found == "." and (decimal := re.search(r"\d*\.\d+", piece.text[max(0, offset - 20) : offset + 20])):
        if first == "prune" and decimal[0][0] != ".":
            return f"write the amount as a percentage: `{float(decimal[0]) * 100:g}%`"
        return f"write a zero before the decimal point: `0{decimal[0]}`" if decimal[0][0] == "." else None
    if found == "-" and last in ("<", "<=", ">", ">="):
        return "write the number right after its minus sign: `-120`"
    if found == "%" and last.startswith("-"):
        return f"only numbers can be negative: `{last}`"
    if found in (".", "*") and first in ("prune", "let", "sweep") and not last[0].isdigit():
        return 'layers are written as `layer1`, `layer1.**` or `conv*`; quote other patterns: `"0.*"`'
    if found == "=" and first in _EXAMPLES:
        return f"remove the `=`: {example(before)}"
    if found == "{" and first in ("arm", "cycle"):
        missing = "a name" if first == "arm" else "the number of rounds"
        return f"add {missing}: `{_EXAMPLES[first]}`"
    if found == "{" and first == "prune" and re.match(r"\{\s*[\w\".*-]+\s*:", piece.text[offset:]):
        return 'write rates by layer in brackets: `["conv*": 10%, fc: 20%]`'
    if found == "{" or (not found and "LBRACE" in expected):
        return "`{` goes on the same line as its statement: `arm NAME {`"
    if found == "," and first in ("train", "retrain", "model", "data") and len(before) > 1:
        return "separate options by spaces, not by commas"
    if first == "prune" and {"PERCENT", "TO"} <= expected and found in _CLAUSE_KEYWORDS:
        return f"the amount per round comes first: `20% {found} …`"
    if first == "prune" and found == "," and last.endswith("%"):
        return f"write the amounts of the stages as a list: `[{last}, …]`"
    if first == "prune" and found in registries.CRITERIA.builtin:
        return f"the criterion goes after `by`: `by {found}`"
    if "DOLLAR" in expected and first != "arm" and _NAME.fullmatch(found) and found not in _RESERVED_WORDS:
        return f"{example(before)}; for a variable, write `${found}`"
    if not found or found not in _CORRECTIONS:
        return _correct_missing_comma(found, before, expected)
    return _CORRECTIONS[found].format(example=_EXAMPLES.get(first, "arm a { … }"))


#: Unexpected token -> what to write instead.
_CORRECTIONS = {
    "//": "comments start with `#`",
    "}": "remove it: no `{{` is open here",
    ":": "remove the `:`, for example `{example}`",
    "times": "write the number of rounds as `x 8`",
    "for": "write the number of rounds as `x 8`",
    "x": "write the number of rounds as `x 8` or `x $name`",
    "percent": "write `%`",
    "'": 'use double quotes for strings: `"…"`',
    "(": "remove it: plans have no parentheses",
    "-": "write the value itself: plans have no arithmetic, and only bounds of conditions are negative",
    "+": "write the value itself: plans have no arithmetic",
    "*": "plans have no arithmetic; write the number of rounds as `x 8`",
    "/": "write the value itself: plans have no arithmetic",
}


#: Words that are not a forgotten `$name`.
_RESERVED_WORDS = {*vocabulary.STATEMENTS, *vocabulary.CLAUSE_WORDS, *_CORRECTIONS}
#: The words that start a clause of `prune`.
_CLAUSE_KEYWORDS = ("by", "at", "in", "except", "until", "x", "from", "via")


def _correct_arm_name(name: list[str], found: str) -> str | None:
    """The help for an invalid arm name: one with spaces, or one that starts with a digit."""
    if not name and found[:1].isdigit():
        return f"a name must start with a letter: `arm a{found} {{`"
    if name and _NAME.fullmatch(found):
        return f"a name cannot contain spaces: `arm {'-'.join([*name, found])} {{`"
    return None


def _correct_option(first: str, arguments: list[str], found: str) -> str | None:
    """The help for a bare word where the parser expects `key=value`."""
    word = arguments[-1] if arguments else ""
    if match := re.fullmatch(r"([\w-]+=[\d.]+)[A-Za-z]+", word):
        return f"remove the unit: `{match[1]}`"
    value = found if re.match(r"[\w$]", found) and word in ("from", "at", "to", "on", "=") else word
    match first:
        case "model" if len(arguments) == 2:
            return f"the data set goes after `on`: `model {arguments[0]} on {word}`"
        case "rewind":
            return f"the moment goes after `to`: `rewind {arguments[0]} to {value}`"
        case "transfer" if word in ("reset", "keep"):
            return f"write options as `key=value`: `head={word}`"
        case "train" if word in option_schemas.TRAIN_OPTIONS["schedule"].words:
            return f"write options as `key=value`: `schedule={word}`"
        case "let" if found:
            return f"write `let {word} = {found}`"
        case _:
            return None


def _correct_number(
    found: str, number: str, first: str, last: str, before: list[str], expected: set[str]
) -> str | None:
    if first == "prune" and last == "to" and not found.endswith("%"):
        return f"write the amount as a percentage: `to {number}%`"
    if first == "prune" and last.endswith(":") and not found.endswith("%"):
        return f"write the rate as a percentage: `{last.lstrip('[')} {_as_percentage(number)}`"
    if first == "prune" and "COLON" in expected and found.endswith("%"):
        return f"put a colon after the layer: `{last.lstrip('[')}: {found}`"
    if first == "prune" and "PATTERN" in expected and "LSQB" not in expected:
        return f'quote a layer whose name starts with a digit: `"{found}"`'
    if first == "prune" and len(before) == 1:
        return f"the unit to prune comes first: `prune filters {found}`"
    if last.lower().rstrip("s") in ("epoch", "step", "iteration", "iter"):
        return f"the unit goes after the number: `{number}{'ep' if last.lower().startswith('e') else 'it'}`"
    if expected == {"EQUAL"}:
        return f"write options as `key=value`: `{last}={found}`"
    if "SPAN" in expected and "NUMBER" not in expected and first in ("train", "retrain", "rewind", "prune"):
        return f"add a unit to the length: `{number}ep` or `{number}it`"
    return None


def _as_percentage(number: str) -> str:
    """The percentage that was probably meant: 20% for both `0.2` and `20`."""
    value = float(number)
    return f"{100 * value if value < 1 else value:g}%"


def _correct_missing_comma(found: str, before: list[str], expected: set[str]) -> str | None:
    first = before[0] if before else ""
    if first in ("compare", "report") and expected == {"EQUAL"} and len(before) > 2:
        other = found if found and before[-1] in ("and", "vs", "with", "or", "against") else before[-1]
        return f"separate names by commas: `{before[-2]}, {other}`"
    if first == "report" and len(before) > 1 and "_COMMA" in expected and found:
        return f"separate names by commas: `{before[-1]}, {found}`"
    if first == "prune" and "_COMMA" in expected and found and (found[0].isalpha() or found[0] == '"'):
        return f"separate layers by commas: `{before[-1]}, {found}`"
    return None


def example(before: list[str]) -> str | None:
    """``for example `…` ``: a valid statement with the same keyword as the words `before`; None if there is none."""
    statement = _EXAMPLES.get(before[0]) if before else None
    return f"for example `{statement}`" if statement else None


_EXAMPLES = {
    "plan": "plan 1",
    "let": "let budget = 160ep",
    "include": 'include "common.plan"',
    "seeds": "seeds 3",
    "sweep": "sweep scope in [local, global]",
    "model": "model vgg16 on cifar10",
    "data": "data cifar10",
    "split": "split classes 2",
    "train": "train 160ep lr=0.1 batch=128 milestones=[80ep, 120ep]",
    "prune": "prune filters global 20% x 8 by l1",
    "overlap": "overlap 2 of 2",
    "refill": "refill filters by l1",
    "regroup": "regroup groups=8",
    "union": "union of first, second",
    "recalibrate": "recalibrate",
    "grow": "grow weights all",
    "evolve": "evolve weights 30% grow=gradient every=100it until=75%",
    "rewind": "rewind weights to 5%",
    "perturb": "perturb 5%",
    "retrain": "retrain fine-tune 40ep lr=0.001",
    "distill": "distill from dense temperature=5",
    "stretch": "stretch to resnet32 order=interpolate",
    "squeeze": "squeeze to resnet20 drop=last",
    "transfer": "transfer to cifar10 head=reset",
    "cycle": "cycle 8 { prune filters global 20%; rewind lr }",
    "arm": "arm lth { prune weights global 20% x 8; rewind weights to init }",
    "compare": "compare random-init, dense",
    "report": "report accuracy, sparsity, params",
    "stop": "stop when accuracy < 90%",
}
