"""The Pygments lexer keeps every character and highlights the words of the vocabulary."""

import subprocess
import sys
from pathlib import Path

import pytest
from grammar_plans import plans
from hypothesis import given, settings
from hypothesis import strategies as st
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, String, Token

from tickdsl.lang import vocabulary
from tickdsl.lang.reading.highlight import PlanLexer

ROOT = Path(__file__).parents[3]


def tokens(text: str) -> list[tuple[object, str]]:
    return [(kind, value) for kind, value in PlanLexer(stripnl=False, ensurenl=False).get_tokens(text) if value.strip()]


def test_pygments_finds_the_lexer() -> None:
    assert isinstance(get_lexer_by_name("tickdsl"), PlanLexer)
    assert isinstance(get_lexer_for_filename("card.plan"), PlanLexer)


def test_token_types_of_a_plan() -> None:
    text = "sweep s in [local, 5%]  # why\n"
    text += 'arm lr-rewind { prune filters $s 20 % x 8 by l1 except "a.*", in.**; rewind lr to 3ep }'
    assert tokens(text) == [
        (Keyword, "sweep"), (Name.Variable.Global, "s"), (Operator.Word, "in"), (Token.Punctuation, "["),
        (Name.Builtin, "local"), (Token.Punctuation, ","), (Number, "5%"), (Token.Punctuation, "]"),
        (Comment.Single, "# why"), (Keyword, "arm"), (Name.Variable.Global, "lr-rewind"), (Token.Punctuation, "{"),
        (Keyword, "prune"), (Name.Builtin, "filters"), (Name.Variable, "$s"), (Number, "20 %"),
        (Operator.Word, "x"), (Number, "8"), (Operator.Word, "by"), (Name.Builtin, "l1"),
        (Operator.Word, "except"), (String.Double, '"a.*"'), (Token.Punctuation, ","), (Name, "in.**"),
        (Token.Punctuation, ";"), (Keyword, "rewind"),
        (Name.Builtin, "lr"), (Operator.Word, "to"), (Number, "3ep"), (Token.Punctuation, "}"),
    ]  # fmt: skip


def test_keywords_are_names_inside_statements() -> None:
    kinds = {value: kind for kind, value in tokens("compare split,\n  prune.x # c\nlet prune-y=1; train lr=2")}
    assert kinds["split"] is kinds["prune.x"] is Name
    assert kinds["prune-y"] is Name.Variable.Global
    assert kinds["lr"] is Name.Attribute and kinds["="] is Operator


@pytest.mark.parametrize("word", vocabulary.STATEMENTS)
def test_statements_are_keywords_where_they_start(word: str) -> None:
    for before in ("", "; ", "{ ", "\n"):
        assert (Keyword, word) in tokens(f"{before}{word} x")
    assert (Keyword, word) not in tokens(f"compare a, {word}")[1:]


@settings(deadline=None)
@given(st.one_of(plans(), st.text(), st.text(alphabet='pruneaxlt $%#"{};,=\n\r1[]')))
def test_every_character_is_kept_and_none_is_an_error(text: str) -> None:
    found = list(PlanLexer(stripnl=False, ensurenl=False).get_tokens_unprocessed(text))
    assert "".join(value for _, _, value in found) == text
    assert all(kind is not Error for _, kind, _ in found)


@pytest.mark.parametrize("path", sorted(ROOT.glob("plans/**/*.plan")), ids=lambda p: p.name)
def test_shipped_plans_hold_known_words_only(path: Path) -> None:
    """Every statement of a shipped plan starts with a keyword."""
    words = [v for k, v in tokens(path.read_text("utf-8")) if k is Keyword]
    assert words and set(words) <= set(vocabulary.STATEMENTS)


def test_it_loads_no_torch() -> None:
    code = "import sys, tickdsl.lang.reading.highlight; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
