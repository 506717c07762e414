"""What each finding's code means: one page a code, read by `tickdsl explain`, editors and docs/codes.md.

A page is a Markdown file in `codes/`: a title, what the finding says, `## Why`, `## Before` and `## After`. The
examples are fenced blocks; the first holds the plan, one with a file name beside `plan` a file next to it, and
`set` flags stand there too (```` ```plan set n=3 ````), and `allow-code`.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from tickdsl.lang.findings.diagnostic_codes import CODES, GROUPS, Severity
from tickdsl.lang.findings.suggestions import suggest

_PAGES = Path(__file__).parent / "codes"
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```plan *([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Example:
    """A plan, the files that stand beside it, and the `--set` and `--allow-code` flags it is checked with."""

    plan: str
    files: tuple[tuple[str, str], ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()
    allow_code: bool = False


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


def load_page(code: str) -> Page | None:
    """The page of a code such as `TD001`; None where there is no such code."""
    return _parse_page(code) if code in CODES else None


def closest_code(word: str) -> str | None:
    """The code that somebody may have meant, by its number (`td1`, `505`) or its name (`single-seed`)."""
    names = {slug: code for code, (slug, _) in CODES.items()}
    digits = re.sub(r"\D", "", word)
    if digits:
        near = difflib.get_close_matches(f"TD{int(digits) % 1000:03}", CODES, n=1)
        return near[0] if near else None
    found = suggest(word, names)
    return names[found] if found else None


def page_by_slug(slug: str) -> Page | None:
    """The page of the finding of that name, e.g. `single-seed`."""
    return next((_parse_page(code) for code, (name, _) in CODES.items() if name == slug), None)


def render_overview() -> str:
    """All codes in groups, a line each."""
    lines = []
    for title, codes in grouped_codes():
        lines += [title, *(f"  {code}  {CODES[code][1]:<8} {CODES[code][0]}" for code in codes), ""]
    return "\n".join([*lines, "`tickdsl explain CODE` says what one means, and shows an example mended."])


def code_table() -> list[dict[str, str]]:
    """All codes as JSON values."""
    return [
        {"code": code, "name": CODES[code][0], "severity": CODES[code][1], "group": title}
        for title, codes in grouped_codes()
        for code in codes
    ]


def page_as_dict(one: Page) -> dict[str, str]:
    """A page as JSON values."""
    return {
        "code": one.code,
        "name": one.slug,
        "severity": one.severity,
        "what": one.what,
        "why": one.why,
        "before": one.before.plan,
        "after": one.after.plan,
        "text": one.text,
    }


def render_manual() -> str:
    """All pages as one document: docs/codes.md."""
    parts = [
        "# Findings of `tickdsl check`",
        "Written from the pages of `tickdsl explain CODE` by "
        "`python -m tickdsl.lang.findings.explain > docs/codes.md`. "
        "Warnings and notes are silenced with `# ok CODE` at the end of their line; errors are not.",
    ]
    for title, codes in grouped_codes():
        parts.append(f"## {title}")
        for code in codes:
            slug, severity = CODES[code]
            body = _parse_page(code).text.split("\n", 1)[1].strip()
            body = re.sub(r"^## (.+)$", r"**\1.**", body, flags=re.MULTILINE)
            parts.append(f"### {code} {slug}\n\n*{severity}.* {body}")
    return "\n\n".join(parts) + "\n"


def grouped_codes() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The codes in groups, each with its title."""
    for prefix, title in GROUPS.items():
        yield title, tuple(code for code in CODES if code.startswith(prefix))


@functools.cache
def _parse_page(code: str) -> Page:
    text = (_PAGES / f"{code}.md").read_text("utf-8")
    slug, severity = CODES[code]
    head, *rest = _SECTION.split(text)
    sections = dict(zip(rest[::2], (part.strip() for part in rest[1::2]), strict=True))
    what = head.split("\n", 1)[1].strip()
    before, after = (_parse_example(sections[name]) for name in ("Before", "After"))
    return Page(code, slug, severity, what, sections["Why"], before, after, text.strip())


def _parse_example(section: str) -> Example:
    (_, plan), *others = [(match[1].split(), match[2]) for match in _BLOCK.finditer(section)]
    flags = next(iter(_BLOCK.finditer(section)))[1].split()
    overrides = tuple(_parse_override(flag) for flag in flags if "=" in flag)
    beside = tuple((words[0], text) for words, text in others)
    return Example(plan, beside, overrides, allow_code="allow-code" in flags)


def _parse_override(flag: str) -> tuple[str, str]:
    name, _, value = flag.partition("=")
    return name, value


if __name__ == "__main__":
    print(render_manual(), end="")
