"""Findings fit in 80 columns, and their carets are below what they mean."""

from hypothesis import given
from hypothesis import strategies as st

from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.render import render
from tickdsl.lang.syntax import Source, Span

words = st.lists(st.text("abcdefghijklmnop`=%", min_size=1, max_size=14), min_size=1, max_size=40).map(" ".join)


@given(words, words, words, st.integers(0, 300), st.integers(0, 300))
def test_a_finding_fits_and_its_carets_are_in_place(message: str, label: str, remark: str, at: int, more: int) -> None:
    line = "x " * (at // 2) + "MARK" + " y" * (more // 2)
    start = line.index("MARK")
    source = Source("a.plan", f"first\n{line}\nlast")
    span = Span(source, 6 + start, 6 + start + 4)
    text = render([Diagnostic("TD201", message, span, label=label, notes=(remark,), help=remark)])
    lines = text.splitlines()
    assert all(len(row) <= 80 for row in lines)
    row = next(n for n, shown in enumerate(lines) if shown.startswith("2 |"))
    column = lines[row].index("MARK")
    assert lines[row + 1][column:].startswith("^^^^")
    assert not lines[row + 1][3:column].strip()
    assert "^" not in "".join(lines[:row] + lines[row + 2 :])
    assert " ".join(" ".join(lines).split()).count("MARK") == 1


def test_a_long_message_keeps_all_of_its_words() -> None:
    source = Source("a.plan", "train 3ep\n")
    message = " ".join(f"word{n}" for n in range(60))
    text = render([Diagnostic("TD201", message, Span(source, 0, 5))])
    assert " ".join(text.split()).startswith(f"error[TD201]: {message} --> a.plan:1:1")
