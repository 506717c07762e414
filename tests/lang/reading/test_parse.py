"""Error recovery: each invalid statement is reported once, the others are parsed, and nothing hangs."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.reading.parse import MAX_BROKEN_STATEMENTS, parse
from tickdsl.lang.syntax import Prune, Source

GOOD = (
    "model small-cnn on digits",
    "seeds 3",
    "train 12ep lr=0.1 milestones=[6ep,\n 9ep]",
    "sweep s in [local, global]",
    'arm a { prune filters $s 20% x 8 by l1 in conv1, "conv*"; rewind lr }',
    "arm b { split classes 2; prune weights global 15% until 90%; overlap; rewind weights to 2ep }",
    "compare a, b, random-init, dense within=1%",
    "report accuracy, sparsity",
    "stop when accuracy < 50%",
    "stop when elbo < -1.5e2",
)
BROKEN = ("prune filter 20%", "pruen weights", "train 5ep lr=", "compare a,, b", "seeds", "rewind lr to")


def positions_are_inside(source: Source) -> None:
    for diagnostic in parse(source)[1]:
        assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(source.text)
        assert diagnostic.message


@given(st.lists(st.sampled_from(GOOD), unique=True), st.lists(st.sampled_from(BROKEN), max_size=4), st.randoms())
@settings(max_examples=80, deadline=None)
def test_each_invalid_statement_is_one_diagnostic_and_the_others_are_parsed(good, broken, random) -> None:
    lines = [*good, *broken]
    random.shuffle(lines)
    file, diagnostics = parse(Source("x.plan", "\n".join(lines)))
    assert len(diagnostics) == len(broken)
    assert len(file.statements) == len(good)


@given(st.text(alphabet=string.printable + "×＋é{}", max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_text_gives_diagnostics_inside_the_file(text: str) -> None:
    positions_are_inside(Source("x.plan", text))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_plans_give_diagnostics_inside_the_file(data) -> None:
    text = "\n".join(GOOD)
    cut = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(cut, min(len(text), cut + 12)))
    insert = data.draw(st.sampled_from(["", "}", "{", ";", ",", "$", '"', "prune", "20%", "\n"]))
    positions_are_inside(Source("x.plan", text[:cut] + insert + text[end:]))


HEADERS = """\
model small-cnn on digits
cycle x3 { prune foo }
am lth { prune wieghts 20% }
arm 2nd { prune weights 20% by taylr }
arm my arm { prune filters 20% x 0 }
arm a = { rewind lr }
arm kd
{
  prune weights 120%
}
compare lth, kd
"""


def test_an_invalid_header_does_not_hide_its_block() -> None:
    diagnostics = resolve(load_source(Source("x.plan", HEADERS))).diagnostics
    errors = [(d.code, d.span.line) for d in diagnostics if d.severity == "error"]
    assert errors == [
        ("TD001", 2), ("TD001", 2), ("TD010", 3), ("TD001", 3), ("TD001", 4), ("TD103", 4), ("TD001", 5), ("TD207", 5),
        ("TD001", 6), ("TD001", 7), ("TD201", 9),
    ]  # fmt: skip
    assert not [d for d in diagnostics if d.code in ("TD110", "TD507")]


def test_parsing_stops_after_the_maximum_of_errors() -> None:
    errors = parse(Source("x.plan", "prune filter 20%\n" * (MAX_BROKEN_STATEMENTS + 30)))[1]
    assert [d.code for d in errors] == ["TD001"] * (MAX_BROKEN_STATEMENTS + 1) + ["TD018"]


def test_spans_cover_their_text() -> None:
    (statement,) = parse(Source("x.plan", "  prune weights global 20% x 8 by l1"))[0].statements
    assert isinstance(statement, Prune)
    assert statement.span.text == "prune weights global 20% x 8 by l1"
    assert statement.amount.span.text == "20%"
    assert statement.by is not None
    assert (statement.by.span.text, statement.by.span.line, statement.by.span.column) == ("l1", 1, 35)
