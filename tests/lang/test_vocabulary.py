"""The vocabulary and the grammar have the same words, and every word has a summary."""

import re

import pytest

from tickdsl import grammar
from tickdsl.lang import option_schemas, vocabulary
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.syntax import Source
from tickdsl.training.tasks import TASKS

KEYWORD = re.compile(r"([a-z]+)\(\?!")
CLOSED = re.compile(r"\(\?:\(\?:([a-z|\\-]+)\)\)")


def terminals() -> dict[str, str]:
    return {terminal.name: terminal.pattern.value for terminal in grammar.build_parser().terminals}


def test_keywords_are_statements_and_clauses() -> None:
    keywords = {match[1] for pattern in terminals().values() if (match := KEYWORD.match(pattern))}
    assert keywords == {*vocabulary.STATEMENTS, *vocabulary.CLAUSE_WORDS}


def test_closed_words_are_the_grammars() -> None:
    patterns = {name: pattern.replace("\\-", "-") for name, pattern in terminals().items()}
    found = {name: set(match[1].split("|")) for name, p in patterns.items() if (match := CLOSED.match(p))}
    assert found == {name: set(words) for name, words in vocabulary.CLOSED_WORDS.items()}


def test_metrics_controls_and_options_have_summaries() -> None:
    assert set(vocabulary.WORD_SUMMARIES) == {
        *vocabulary.METRICS,
        *vocabulary.CONDITION_METRICS,
        *vocabulary.CONTROLS,
        vocabulary.ALL_ARMS,
    }
    assert all(kind.summary for schema in option_schemas.STATEMENT_OPTIONS.values() for kind in schema.values())


def test_the_metrics_of_the_built_in_tasks_can_be_completed() -> None:
    metrics = {metric.name for task in TASKS.values() for metric in task.metrics}
    assert set(vocabulary.TASK_METRICS) == metrics


@pytest.mark.parametrize("word", [*vocabulary.STATEMENTS, *vocabulary.CLAUSE_WORDS])
def test_every_keyword_is_also_a_name(word: str) -> None:
    assert parse(Source("x.plan", f"arm {word} {{ prune weights 20% except {word} }}"))[1] == ()
