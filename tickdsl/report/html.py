"""Renders a document as one self-contained HTML page: inline SVG and CSS, no scripts, no network access."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence

import pygments
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from tickdsl import __version__
from tickdsl.report.document import Code, Document, Part


def render_html(document: Document) -> str:
    """The HTML page of a document. Names from plans are escaped."""
    numbers = itertools.count(1)
    page = _environment().get_template("report.html")
    return page.render(document=document, version=__version__, number=lambda: next(numbers))


def render_fragment(facts: Sequence[str], alarm: str, lead: str, parts: Sequence[Part]) -> str:
    """A piece of HTML that shows the parts below its facts, an alarm or "", and the main result."""
    return _environment().get_template("fragment.html").render(facts=facts, alarm=alarm, lead=lead, parts=parts)


@functools.cache
def _environment() -> Environment:
    templates = Environment(
        loader=PackageLoader("tickdsl.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["highlight"] = highlight_code
    templates.filters["breakable"] = with_line_breaks
    templates.filters["code"] = with_code
    templates.tests["kind"] = lambda part, name: type(part).__name__ == name
    return templates


def highlight_code(code: Code) -> Markup:
    """Highlighted code as HTML spans; plain text if no lexer of that name is installed."""
    try:
        lexer = get_lexer_by_name(code.language, stripnl=False)
    except ClassNotFound:
        return Markup.escape(code.text)
    return Markup(pygments.highlight(code.text, lexer, HtmlFormatter(nowrap=True)))


def with_code(text: str) -> Markup:
    """A sentence whose parts between backticks are code, and whose values are on one line with their intervals."""
    text = text.replace(" ± ", "\u00a0±\u00a0")
    parts = [Markup.escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # a backtick alone is only a character
        return Markup.escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def with_line_breaks(name: str) -> Markup:
    """An arm name that may break before the bracket of its sweep values."""
    return Markup("<wbr>").join(Markup.escape(part) for part in re.split(r"(?=\[)", name))
