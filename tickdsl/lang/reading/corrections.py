"""Cures of the slips that newcomers make, by what was found and what stands before it."""

from __future__ import annotations

import re

from tickdsl.lang import option_schemas, registries, vocabulary
from tickdsl.lang.reading.statements import StatementText

_NAME = re.compile(r"[A-Za-z_][\w.-]*")


def suggest_correction(
    piece: StatementText, place: int, found: str, before: list[str], expected: set[str]
) -> str | None:
    """The cure of a slip that newcomers make."""
    first, last = (before[0], before[-1]) if before else ("", "")
    if not found and "RSQB" in expected:
        return "close the list with `]`"
    number = re.match(r"\d+(\.\d+)?", found)
    if first == "arm" and (headed := _correct_arm_name(before[1:], found)):
        return headed
    if expected == {"EQUAL"} and (said := _correct_option(first, before[1:], found)):
        return said
    if number:
        return _correct_number(found, number[0], first, last, before, expected)
    if found == "." and (decimal := re.search(r"\d*\.\d+", piece.text[max(0, place - 20) : place + 20])):
        if first == "prune" and decimal[0][0] != ".":
            return f"an amount is a percentage: `{float(decimal[0]) * 100:g}%`"
        return f"write a zero before the point: `0{decimal[0]}`" if decimal[0][0] == "." else None
    if found in (".", "*") and first in ("prune", "let", "sweep") and not last[0].isdigit():
        return 'patterns with `*` stand in quotes: `"layer1.*"`'
    if found == "=" and first in _EXAMPLES:
        return f"no `=` here: {example(before)}"
    if found == "{" and first in ("arm", "cycle"):
        return f"{'an arm has a name' if first == 'arm' else 'how many rounds'}: `{_EXAMPLES[first]}`"
    if found == "{" or (not found and "LBRACE" in expected):
        return "`{` stands on the line of its statement: `arm NAME {`"
    if found == "," and first in ("train", "retrain", "model", "data") and len(before) > 1:
        return "options are separated by blanks, not by commas"
    if first == "prune" and {"PERCENT", "TO"} <= expected and found in _CLAUSE_KEYWORDS:
        return f"the amount of a round comes first: `20% {found} …`"
    if first == "prune" and found == "," and last.endswith("%"):
        return f"amounts for each stage are a list: `[{last}, …]`"
    if first == "prune" and found in registries.CRITERIA.builtin:
        return f"the criterion stands behind `by`: `by {found}`"
    if "DOLLAR" in expected and first != "arm" and _NAME.fullmatch(found) and found not in _RESERVED_WORDS:
        return f"{example(before)}; a variable is written `${found}`"
    if not found or found not in _CORRECTIONS:
        return _correct_missing_comma(found, before, expected)
    return _CORRECTIONS[found].format(example=_EXAMPLES.get(first, "arm a { … }"))


#: What is found -> its cure.
_CORRECTIONS = {
    "//": "comments begin with `#`",
    "}": "no `{{` is open here: remove it",
    ":": "no `:` here: for example `{example}`",
    "times": "rounds are written `x 8`",
    "for": "rounds are written `x 8`",
    "x": "rounds are written `x 8`, or `x $name`",
    "percent": "write `%`",
    "'": 'strings stand in double quotes: `"…"`',
    "(": "plans have no parentheses",
    "-": "plans have no arithmetic and no negative numbers; write the value itself",
    "+": "plans have no arithmetic; write the value itself",
    "*": "plans have no arithmetic; rounds are written `x 8`",
    "/": "plans have no arithmetic; write the value itself",
}


#: Words that nobody means as a variable.
_RESERVED_WORDS = {*vocabulary.STATEMENTS, *vocabulary.CLAUSE_WORDS, *_CORRECTIONS}
#: The words that clauses of `prune` begin with.
_CLAUSE_KEYWORDS = ("by", "at", "in", "except", "until", "x")


def _correct_arm_name(name: list[str], found: str) -> str | None:
    """The name of an arm that is none."""
    if not name and found[:1].isdigit():
        return f"a name begins with a letter: `arm a{found} {{`"
    if name and _NAME.fullmatch(found):
        return f"a name has no blanks: `arm {'-'.join([*name, found])} {{`"
    return None


def _correct_option(first: str, said: list[str], found: str) -> str | None:
    """A word that stands where only `key=value` can."""
    word = said[-1] if said else ""
    if match := re.fullmatch(r"([\w-]+=[\d.]+)[A-Za-z]+", word):
        return f"there is no unit here: `{match[1]}`"
    value = found if re.match(r"[\w$]", found) and word in ("from", "at", "to", "on", "=") else word
    match first:
        case "model" if len(said) == 2:
            return f"the data set stands behind `on`: `model {said[0]} on {word}`"
        case "rewind":
            return f"the moment stands behind `to`: `rewind {said[0]} to {value}`"
        case "transfer" if word in ("reset", "keep"):
            return f"options are written with `=`: `head={word}`"
        case "train" if word in option_schemas.TRAIN_OPTIONS["schedule"].words:
            return f"options are written with `=`: `schedule={word}`"
        case "let" if found:
            return f"write `let {word} = {found}`"
        case _:
            return None


def _correct_number(
    found: str, number: str, first: str, last: str, before: list[str], expected: set[str]
) -> str | None:
    if first == "prune" and last == "to" and not found.endswith("%"):
        return f"an amount is a percentage: `to {number}%`"
    if first == "prune" and len(before) == 1:
        return f"the unit comes first: `prune filters {found}`"
    if last.lower().rstrip("s") in ("epoch", "step", "iteration", "iter"):
        return f"the unit comes behind the number: `{number}{'ep' if last.lower().startswith('e') else 'it'}`"
    if expected == {"EQUAL"}:
        return f"options are written with `=`: `{last}={found}`"
    if "SPAN" in expected and "NUMBER" not in expected and first in ("train", "retrain", "rewind", "prune"):
        return f"a length has a unit: `{number}ep` or `{number}it`"
    return None


def _correct_missing_comma(found: str, before: list[str], expected: set[str]) -> str | None:
    first = before[0] if before else ""
    if first in ("compare", "report") and expected == {"EQUAL"} and len(before) > 2:
        other = found if found and before[-1] in ("and", "vs", "with", "or", "against") else before[-1]
        return f"names are separated by commas: `{before[-2]}, {other}`"
    if first == "report" and len(before) > 1 and "_COMMA" in expected and found:
        return f"names are separated by commas: `{before[-1]}, {found}`"
    if first == "prune" and "_COMMA" in expected and found and (found[0].isalpha() or found[0] == '"'):
        return f"layers are separated by commas: `{before[-1]}, {found}`"
    return None


def example(before: list[str]) -> str | None:
    example = _EXAMPLES.get(before[0]) if before else None
    return f"for example `{example}`" if example else None


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
    "rewind": "rewind weights to 5%",
    "retrain": "retrain fine-tune 40ep lr=0.001",
    "distill": "distill from dense temperature=5",
    "transfer": "transfer to cifar10 head=reset",
    "cycle": "cycle 8 { prune filters global 20%; rewind lr }",
    "arm": "arm lth { prune weights global 20% x 8; rewind weights to init }",
    "compare": "compare random-init, dense",
    "report": "report accuracy, sparsity, params",
    "stop": "stop when accuracy < 90%",
}
