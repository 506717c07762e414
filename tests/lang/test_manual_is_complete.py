"""docs/reference/language.md documents every form that the grammar accepts, every word and every option."""

from __future__ import annotations

import re
from pathlib import Path

import lark
import pytest

from tickdsl import grammar
from tickdsl.lang import option_schemas, registries, vocabulary
from tickdsl.training.catalogue import DATASETS, MODELS

MANUAL = (Path(__file__).parents[2] / "docs" / "reference" / "language.md").read_text("utf-8")
EXAMPLES = [match[1] for match in re.finditer(r"^```plan[^\n]*\n(.*?)^```$", MANUAL, re.MULTILINE | re.DOTALL)]
#: How a text is divided into lines is no form that anybody looks up; nor is a trailing comma, which `fmt` removes.
LAYOUT_RULES = {"start", "__start_star_0"}


def section(title: str) -> str:
    match = re.search(rf"^(#+) {title}\n(.*?)(?=^##|\Z)", MANUAL, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[2]


def alternatives_used_by(texts: list[str]) -> tuple[set[lark.grammar.Rule], set[lark.grammar.Rule]]:
    """All alternatives of the grammar, and those that the texts exercise."""
    parser = grammar.build_parser()
    used: set[lark.grammar.Rule] = set()
    callbacks = parser.parser.parser.parser.callbacks
    for rule, callback in list(callbacks.items()):
        callbacks[rule] = lambda children, rule=rule, callback=callback: (used.add(rule), callback(children))[1]
    for text in texts:
        parser.parse(text)
    return set(parser.rules), used


def is_layout(rule: lark.grammar.Rule) -> bool:
    trailing_comma = [symbol.name for symbol in rule.expansion[-2:]] == ["_COMMA", "RSQB"]
    return rule.origin.name in LAYOUT_RULES or trailing_comma


def test_every_alternative_of_the_grammar_has_an_example() -> None:
    alternatives, used = alternatives_used_by(EXAMPLES)
    missing = {rule for rule in alternatives - used if not is_layout(rule)}
    assert sorted(map(str, missing)) == []


def test_an_alternative_without_an_example_is_noticed() -> None:
    without = [text for text in EXAMPLES if "overlap" not in text]
    alternatives, used = alternatives_used_by(without)
    assert {rule.origin.name for rule in alternatives - used} >= {"overlap", "count"}


@pytest.mark.parametrize("statement", vocabulary.STATEMENTS)
def test_every_option_of_a_statement_is_in_its_section(statement: str) -> None:
    text = section(statement)
    options = set(option_schemas.STATEMENT_OPTIONS.get(statement, ()))
    if statement == "model":
        options = {name for info in MODELS.values() for name in info.options}
    if statement == "data":
        options = {name for info in DATASETS.values() for name in info.options}
    assert [name for name in sorted(options) if f"{name}=" not in text] == []


@pytest.mark.parametrize("terminal", vocabulary.CLOSED_WORDS)
def test_every_closed_word_is_in_an_example(terminal: str) -> None:
    plans = " ".join(EXAMPLES)
    assert [word for word in vocabulary.CLOSED_WORDS[terminal] if not re.search(rf"\b{word}\b", plans)] == []


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Criteria", tuple(registries.CRITERIA)),
        ("Controls", tuple(vocabulary.CONTROLS)),
        ("compare", (*vocabulary.CONTROLS, vocabulary.ALL_ARMS)),
        ("report", vocabulary.METRICS),
        ("retrain", tuple(registries.SCHEDULES)),
        ("stop", vocabulary.CONDITION_METRICS),
        ("prune", (*vocabulary.UNITS[:-1], *vocabulary.SCOPES, vocabulary.MASK_DISTANCE)),
        ("Values", tuple(vocabulary.MOMENT_WORDS)),
    ],
)
def test_every_word_is_explained_where_it_belongs(title: str, words: tuple[str, ...]) -> None:
    text = section(title)
    assert [word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)] == []


def test_every_clause_of_a_prune_is_in_its_form() -> None:
    form = re.search(r"```text\n(.*?)```", section("prune"), re.DOTALL)
    assert form is not None
    for word in ("x", "until", "by", "at", "in", "except", "of", "to", "matching"):
        assert re.search(rf"\b{word}\b", form[1]), word
