"""What the site does to a page before Markdown is rendered."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
from typing import Any

from tickdsl.cli import build_parser
from tickdsl.lang.findings.diagnostics import CODES

_REPOSITORY = "https://github.com/tickdsl/tickdsl"
_COMMAND_LINE = "<!-- command line -->"
_FENCE = re.compile(r"^```plan ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(((?:\.\./)+)([^)#\s]+)((?:#[^)\s]*)?)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Fenced plans with a remark, links out of the documentation, and the command line's help."""
    source = page.file.src_uri
    markdown = _FENCE.sub(lambda match: _plan(match[1], match[2], source), markdown)
    markdown = _LINK.sub(lambda match: _link(match, source, files), markdown)
    return markdown.replace(_COMMAND_LINE, _command_line())


def _plan(remark: str, text: str, source: str) -> str:
    """```` ```plan wrong TD106 ````, a plan that `check` refuses, and ```` ```plan NAME.plan ````, a file."""
    block = f"```plan\n{text}```"
    words = remark.split()
    if words[0] == "wrong":
        codes = posixpath.relpath("reference/codes.md", posixpath.dirname(source))
        anchor = f"{words[1]}-{CODES[words[1]][0]}".lower()
        return f"`check` reports [{words[1]}]({codes}#{anchor}):\n\n{block}"
    return f"`{remark}`:\n\n{block}"


def _link(match: re.Match[str], source: str, files: Any) -> str:
    """A link to a file of the repository that is no page points to the repository."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1] + match[2]))
    if files.get_file_from_path(target) is not None or not target.startswith(".."):
        return match[0]
    path = target.removeprefix("../")
    kind = "tree" if match[2].endswith("/") else "blob"
    return f"]({_REPOSITORY}/{kind}/main/{path}{match[3]})"


def _command_line() -> str:
    """The help of every verb."""
    os.environ["COLUMNS"] = "88"
    parser = build_parser()
    (verbs,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    sections = [section for name, verb in verbs.choices.items() for section in _sections(name, verb, "##")]
    return "\n\n".join([f"```text\n{parser.format_help()}```", *sections])


def _sections(name: str, verb: argparse.ArgumentParser, heading: str) -> list[str]:
    """The help of a verb, then that of its own verbs."""
    sections = [f"{heading} tickdsl {name}\n\n```text\n{verb.format_help()}```"]
    for action in verb._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part, inner in action.choices.items():
                sections += _sections(f"{name} {part}", inner, heading + "#")
    return sections
