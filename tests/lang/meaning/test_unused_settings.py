"""Settings before the arms that no arm uses (TD523)."""

from __future__ import annotations

import pytest

from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

PRUNE = "prune weights 20%; rewind lr"


def unused(text: str) -> list[str]:
    found = resolve(load_source(Source("x.plan", text))).diagnostics
    return [finding.span.text for finding in found if finding.code == "TD523"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"train 9ep\narm a {{ train 2ep; {PRUNE} }}", ["train 9ep"]),
        (f"train 9ep\narm a {{ train 2ep; {PRUNE} }}\narm b {{ {PRUNE} }}", []),
        (f"train 9ep\nprune filters 20%\narm a {{ train 2ep; {PRUNE} }}", []),
        (f"train 9ep\n{PRUNE}", []),
        (f"model conv4\narm a {{ model conv2; {PRUNE} }}\narm b {{ model conv4; {PRUNE} }}", ["model conv4"]),
        (f"model conv4 on mnist\narm a {{ model conv2; {PRUNE} }}", []),
        (f"model conv4 on mnist\narm a {{ model conv2 on digits; {PRUNE} }}", ["model conv4 on mnist"]),
        (f"data mnist\narm a {{ model conv2 on digits; {PRUNE} }}", ["data mnist"]),
        (f"data mnist\narm a {{ data digits; {PRUNE} }}\narm b {{ {PRUNE} }}", []),
    ],
)
def test_a_setting_that_every_arm_replaces(text: str, found: list[str]) -> None:
    assert unused(text) == found
