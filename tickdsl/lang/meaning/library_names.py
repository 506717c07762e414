"""The names of networks of libraries, such as `timm.resnet18`: whether the library is installed, and has one."""

from __future__ import annotations

from tickdsl.lang import syntax
from tickdsl.lang.findings.suggestions import suggest
from tickdsl.lang.meaning.values import ValueReader
from tickdsl.plugins import library_of


def require_library(written: syntax.Value, reader: ValueReader) -> None:
    """Report a network of a library that is not installed (TD483), or that it does not have (TD101).

    Raises InvalidValueError then.
    """
    resolved = reader.dereference(written)
    text = resolved.text if isinstance(resolved, syntax.Word | syntax.String) else ""
    library = library_of(text)
    if library is None:
        return
    if not library.is_installed:
        missing = library.missing
        raise reader.report_error("TD483", f"`{text}`: {missing.message}", written, help=missing.hint)
    if not library.has(text):
        close = suggest(library.base_name(text), library.names())
        raise reader.report_error(
            "TD101",
            f"unknown model `{text}`: {library.package} {library.version} has no network of this name",
            written,
            label=f"did you mean `{library.prefix}.{close}`?" if close else "",
            help=f"list its networks with `tickdsl graph --list {library.prefix}`",
        )
