"""Diagnostics as SARIF 2.1.0 (OASIS standard, 2020), the format that code scanning services read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tickdsl import __version__
from tickdsl.lang.findings import explain
from tickdsl.lang.findings.diagnostic_codes import CODES
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.syntax import Span

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif_log(diagnostics: Sequence[Diagnostic], unread: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """A SARIF log with one run. `unread` holds (path, message) for each file that could not be read."""
    rules = [code for code in CODES if any(d.code == code for d in diagnostics)]
    notifications = [
        {
            "level": "error",
            "message": {"text": message},
            "locations": [{"physicalLocation": {"artifactLocation": _artifact(path)}}],
        }
        for path, message in unread
    ]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tickdsl",
                        "version": __version__,
                        "informationUri": "https://github.com/tickdsl/tickdsl",
                        "rules": [_rule(code) for code in rules],
                    }
                },
                "invocations": [
                    {"executionSuccessful": not notifications, "toolExecutionNotifications": notifications},
                ],
                "columnKind": "unicodeCodePoints",
                "results": [_result(d, rules.index(d.code)) for d in diagnostics],
            }
        ],
    }


def _rule(code: str) -> dict[str, Any]:
    slug, severity = CODES[code]
    rule: dict[str, Any] = {
        "id": code,
        "name": "".join(part.capitalize() for part in slug.split("-")),
        "defaultConfiguration": {"level": severity},
        "helpUri": f"https://github.com/tickdsl/tickdsl/blob/main/docs/reference/codes.md#{code.lower()}-{slug}",
    }
    page = explain.load_page(code)
    if page is not None:
        rule["shortDescription"] = {"text": page.what.replace("\n", " ")}
        rule["fullDescription"] = {"text": page.why.replace("\n", " ")}
        rule["help"] = {"text": page.text, "markdown": page.text}
    return rule


def _result(d: Diagnostic, rule: int) -> dict[str, Any]:
    lines = [d.message, *([d.label] if d.label else []), *d.notes, *([f"help: {d.help}"] if d.help else [])]
    result: dict[str, Any] = {
        "ruleId": d.code,
        "ruleIndex": rule,
        "level": d.severity,
        "message": {"text": "\n".join(lines)},
        "locations": [_location(d.span)],
    }
    if d.secondary:
        result["relatedLocations"] = [
            {"id": index, **_location(label.span), "message": {"text": label.text}}
            for index, label in enumerate(d.secondary)
        ]
    return result


def _location(span: Span) -> dict[str, Any]:
    line, column = span.end_position
    region = {"startLine": span.line, "startColumn": span.column, "endLine": line, "endColumn": column}
    return {"physicalLocation": {"artifactLocation": _artifact(span.source.path), "region": region}}


def _artifact(path: str) -> dict[str, str]:
    return {"uri": Path(path).as_uri() if Path(path).is_absolute() else quote(Path(path).as_posix())}
