"""What each finding's code means: one page a code, read by `tickdsl explain`, editors and docs/codes.md.

A page is a Markdown file in `codes/`: a title, what the finding says, `## Why`, `## Before` and `## After`. The
examples are fenced blocks; the first holds the plan, one with a file name beside `plan` a file next to it, and
`set` flags stand there too (```` ```plan set n=3 ````).
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from importlib import resources

import attrs

from tickdsl.lang.diagnostics import CODES, GROUPS, Severity, suggest

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```plan *([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Example:
    """A plan, the files that stand beside it, and the `--set` flags it is checked with."""

    plan: str
    files: tuple[tuple[str, str], ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Page:
    """One code, explained. `what` and `why` are Markdown paragraphs; `text` is the whole page as written."""

    code: str
    slug: str
    severity: Severity
    what: str
    why: str
    before: Example
    after: Example
    text: str


def page(code: str) -> Page | None:
    """The page of a code such as `TD001`; None where there is no such code."""
    return _page(code) if code in CODES else None


def nearest(word: str) -> str | None:
    """The code that somebody may have meant, by its number (`td1`, `505`) or its name (`single-seed`)."""
    names = {slug: code for code, (slug, _) in CODES.items()}
    digits = re.sub(r"\D", "", word)
    if digits:
        near = difflib.get_close_matches(f"TD{int(digits) % 1000:03}", CODES, n=1)
        return near[0] if near else None
    found = suggest(word, names)
    return names[found] if found else None


def groups() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The codes in groups, each with its title."""
    for prefix, title in GROUPS.items():
        yield title, tuple(code for code in CODES if code.startswith(prefix))


@functools.cache
def _page(code: str) -> Page:
    text = resources.files("tickdsl.lang").joinpath("codes", f"{code}.md").read_text("utf-8")
    slug, severity = CODES[code]
    head, *rest = _SECTION.split(text)
    sections = dict(zip(rest[::2], (part.strip() for part in rest[1::2]), strict=True))
    what = head.split("\n", 1)[1].strip()
    before, after = (_example(sections[name]) for name in ("Before", "After"))
    return Page(code, slug, severity, what, sections["Why"], before, after, text.strip())


def _example(section: str) -> Example:
    (_, plan), *others = [(match[1].split(), match[2]) for match in _BLOCK.finditer(section)]
    flags = next(iter(_BLOCK.finditer(section)))[1].split()
    overrides = tuple(_assignment(flag) for flag in flags if "=" in flag)
    return Example(plan, tuple((words[0], text) for words, text in others), overrides)


def _assignment(flag: str) -> tuple[str, str]:
    name, _, value = flag.partition("=")
    return name, value
