"""A document as one HTML page that needs nothing else: drawings and style inside, no script, no network."""

from __future__ import annotations

import functools
import itertools
import re

import pygments
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from tickdsl import __version__
from tickdsl.report.document import Code, Document


def render_html(document: Document) -> str:
    """The page. Every name from a plan is escaped."""
    numbers = itertools.count(1)
    page = _environment().get_template("report.html")
    return page.render(document=document, version=__version__, number=lambda: next(numbers))


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
    templates.tests["kind"] = lambda part, name: type(part).__name__ == name
    return templates


def highlight_code(code: Code) -> Markup:
    """The code with its words in spans; plain where no lexer of that name is installed."""
    try:
        lexer = get_lexer_by_name(code.language, stripnl=False)
    except ClassNotFound:
        return Markup.escape(code.text)
    return Markup(pygments.highlight(code.text, lexer, HtmlFormatter(nowrap=True)))


def with_line_breaks(name: str) -> Markup:
    """A name of an arm that may go on in a second line where its sweep begins."""
    return Markup("<wbr>").join(Markup.escape(part) for part in re.split(r"(?=\[)", name))
