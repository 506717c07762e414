"""The grammar is unambiguous and parses every plan that the project ships."""

from pathlib import Path

import pytest

from tickdsl import grammar
from tickdsl.lang import vocabulary
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.syntax import Source

ROOT = Path(__file__).parents[2]


def test_the_lexer_has_no_collisions() -> None:
    """`strict` raises an error if two terminals can match the same text."""
    pytest.importorskip("interegular")
    grammar.build_parser(strict=True)


@pytest.mark.parametrize("path", sorted(ROOT.glob("plans/**/*.plan")), ids=lambda p: p.name)
def test_shipped_plans_parse(path: Path) -> None:
    _, diagnostics = parse(Source(str(path), path.read_text()))
    assert diagnostics == ()


def test_every_statement_keyword_starts_a_statement() -> None:
    """The vocabulary and the grammar have the same statements."""
    words = {name.lower() for name in grammar.build_parser().parse_interactive("").accepts() if name.isalpha()}
    assert words == set(vocabulary.STATEMENTS)


@pytest.mark.parametrize(
    "text", ["prunefilters 20%", "prune filtersglobal 20%", "rewindlr", "arma { prune weights 20% }"]
)
def test_keywords_have_word_boundaries(text: str) -> None:
    assert parse(Source("x.plan", text))[1]


@pytest.mark.parametrize("text", ["prune weights 20%x8", "prune weights 20 % × 8", "prune weights 20%  x   8"])
def test_spellings_of_repeats(text: str) -> None:
    file, diagnostics = parse(Source("x.plan", text))
    assert diagnostics == ()
    (reference,) = parse(Source("x.plan", "prune weights 20% x 8"))[0].statements
    assert file.statements == (reference,)


def test_keywords_are_names_where_only_a_name_is_allowed() -> None:
    _, diagnostics = parse(Source("x.plan", "arm train { prune weights 20% except prune.weight }\ncompare train"))
    assert diagnostics == ()
