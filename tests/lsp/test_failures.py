"""Errors of the language server itself take the place of stale findings and of answers, and findings are capped."""

from __future__ import annotations

import pytest

pytest.importorskip("pygls")

from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcInternalError

from tickdsl.errors import TickdslError
from tickdsl.lang.findings.limit import MAX_PER_LINE
from tickdsl.lang.reading.ast_builder import _Builder
from tickdsl.lsp import server
from tickdsl.lsp.buffers import Buffers
from tickdsl.lsp.diagnostics import collect_diagnostics

BUFFERS = {"file:///a.plan": "arm a { prune weights 20%; rewind lr to 99ep }\nseeds 3\n", "file:///b.plan": "prune\n"}
HANDLERS = ("_formatting", "_hover", "_completion", "_definition", "_prepare_rename", "_rename")


def fail(*arguments: Any, **options: Any) -> Any:
    raise RuntimeError("out of luck")


def test_a_plan_that_cannot_be_checked_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Buffers.diagnostics

    def for_most(buffers: Buffers, uri: str) -> Any:
        return fail() if uri.endswith("a.plan") else whole(buffers, uri)

    monkeypatch.setattr(Buffers, "diagnostics", for_most)
    shown = collect_diagnostics(Buffers(BUFFERS))
    (failed,) = shown["file:///a.plan"]
    assert failed.code == "TD017" and "RuntimeError: out of luck" in failed.message and "report it" in failed.message
    assert [found.code for found in shown["file:///b.plan"]] == ["TD001"]


def test_an_error_of_the_user_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(buffers: Buffers, uri: str) -> Any:
        raise TickdslError("no room", "make some")

    monkeypatch.setattr(Buffers, "diagnostics", refuse)
    (found,) = collect_diagnostics(Buffers(BUFFERS))["file:///a.plan"]
    assert (found.code, found.message) == (None, "no room\n  help: make some")


def test_the_other_statements_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Builder, "seeds", fail)
    codes = [found.code for found in collect_diagnostics(Buffers(BUFFERS))["file:///a.plan"]]
    assert {"TD017", "TD302"} <= set(codes)


@pytest.mark.parametrize("name", HANDLERS)
def test_every_request_is_answered_in_words(name: str) -> None:
    with pytest.raises(JsonRpcInternalError, match="internal error: AttributeError: ") as caught:
        getattr(server, name)(None, None)
    assert "report it" in str(caught.value) and "Traceback" not in str(caught.value)


def test_all_requests_answer_in_words() -> None:
    """A handler that is added later is wrapped too."""
    features = server.build_server().protocol.fm.features
    requests = {name: handler for name, handler in features.items() if "did" not in name and name != types.SHUTDOWN}
    assert len(requests) == len(HANDLERS)
    for name, handler in requests.items():
        assert hasattr(handler, "__wrapped__") or hasattr(getattr(handler, "func", None), "__wrapped__"), name


def test_a_crowded_line_is_capped() -> None:
    text = f"train {' '.join(f'zz{n}=1' for n in range(400))}\nprune weights 20%; rewind lr\n"
    found = collect_diagnostics(Buffers({"file:///a.plan": text}))["file:///a.plan"]
    assert len(found) == MAX_PER_LINE + 1
    (more,) = [diagnostic for diagnostic in found if diagnostic.code == "TD018"]
    assert "… and 350 more errors on this line" in more.message
    assert more.severity == types.DiagnosticSeverity.Information
