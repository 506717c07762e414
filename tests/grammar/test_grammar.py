"""The grammar is unambiguous and parses every plan that the project ships."""

from pathlib import Path

import pytest

from tickdsl import grammar
from tickdsl.lang import vocabulary
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.syntax import Source, Statement

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


PATTERNS = ["generator.**", "encoder.*", "layer*.**", "**", "*", "**.conv2", "in.**", "x*", "global.*", "a-*.b_*.3"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "text",
    [
        "prune weights 20% in {0}",
        "prune weights 20% in fc, {0} except {0}, conv1 x 2",
        "prune weights [{0}: 10%, fc: 20%] x 2",
        "let p = {0}",
        "sweep p in [{0}, [fc, {0}]]",
    ],
)
def test_a_pattern_means_the_same_without_quotes(text: str, pattern: str) -> None:
    bare, quoted = (parse(Source("x.plan", text.format(spelled))) for spelled in (pattern, f'"{pattern}"'))
    assert bare[1] == quoted[1] == ()
    assert _unquoted(bare[0].statements) == _unquoted(quoted[0].statements)


def _unquoted(statements: tuple[Statement, ...]) -> str:
    """The statements as text, with words for strings."""
    return repr(statements).replace("String(", "Word(")


@pytest.mark.parametrize("text", ["arm a* { prune weights 20% }", "model res* on digits", "prune weights 20% by l*"])
def test_a_pattern_stands_for_layers_only(text: str) -> None:
    assert parse(Source("x.plan", text))[1]
