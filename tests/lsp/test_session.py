"""The language server in a real process, over JSON-RPC on its pipes."""

import pytest

pytest.importorskip("pygls")

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lsp_client import Editor, run_session
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from tickdsl.engine import graph_cache
from tickdsl.lang.syntax import Source
from tickdsl.lang.vocabulary import STATEMENTS
from tickdsl.lang.writing.format import format_source

PLAN = """\
model small-cnn on digits
let budget = 12ep
sweep scope in [local, global]
seeds 3
train $budget lr=0.1 batch=64 momentum=0.9
arm one { prune filters $scope 20% x 3 by l2; rewind lr }
arm two { prune filters $scope 20% x 3 by l2; rewind weights to 5% }
compare one, two, random-init, dense levels=all within=0% at=weights
"""


def start(range: types.Range) -> tuple[int, int]:
    return range.start.line, range.start.character


@pytest.mark.slow
def test_diagnostics_follow_the_text(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open("prune fliters 20%\ncompare nobody, one")
        shown = await editor.diagnostics()
        first = shown[editor.uri("test.plan")][0]
        assert (first.code, first.severity, first.source) == ("TD001", 1, "tickdsl")
        assert (*start(first.range), first.range.end.character) == (0, 6, 13)
        editor.open(PLAN)
        assert await editor.codes() == []
        editor.open(PLAN.replace("let budget", "let 😀 budget"))
        assert "TD004" in await editor.codes()
        uri = editor.open(PLAN + "let unread = 1\n")
        (unread,) = (await editor.diagnostics())[uri]
        assert (unread.code, unread.severity) == ("TD107", types.DiagnosticSeverity.Warning)
        assert unread.tags == (types.DiagnosticTag.Unnecessary,)
        editor.open(PLAN + "let unread = 1  # ok TD107\n")
        assert await editor.codes() == []
        editor.open("prune")
        assert await editor.codes() == ["TD001"]
        editor.close(uri)
        assert await editor.codes() == []

    run_session(tmp_path, talk)


def test_positions_count_in_utf16(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        uri = editor.open('include "😀𝄞.plan"; prune wieghts 20%\r\nprune 5')
        places = sorted(start(d.range) for d in (await editor.diagnostics())[uri] if d.code == "TD001")
        assert places == [(0, 27), (1, 6)]

    run_session(tmp_path, talk)


@pytest.mark.slow
def test_included_files_are_read_from_their_buffers(tmp_path: Path) -> None:
    common = tmp_path / "common.plan"
    common.write_text("model nosuch on digits\nlet budget = 12ep\n")
    (tmp_path / "middle.plan").write_text('include "common.plan"\n')
    plan = 'include "middle.plan"\n' + PLAN.partition("let budget = 12ep\n")[2]

    async def talk(editor: Editor) -> None:
        editor.open(plan)
        shown = await editor.diagnostics()
        (there,) = shown[editor.uri("common.plan")]
        assert (there.code, start(there.range)) == ("TD101", (0, 6))
        (here,) = shown[editor.uri("test.plan")]
        assert here.code == "TD101" and start(here.range) == (0, 0) and here.related_information is not None
        assert here.related_information[0].location.uri == editor.uri("common.plan")
        # The unsaved buffer is read instead of the file, and an included file need not be a complete plan.
        part = editor.open("model small-cnn on digits\nlet budget = 12ep\n", "common.plan")
        assert await editor.codes() == await editor.codes("common.plan") == []
        location = await editor.definition(plan.replace("$budget", "$bud|get"))
        assert location is not None and (location.uri, start(location.range)) == (part, (1, 4))
        location = await editor.definition(plan.replace("include ", "incl|ude "))
        assert location is not None and (location.uri, start(location.range)) == (editor.uri("middle.plan"), (0, 0))
        editor.close(part)
        assert await editor.codes("common.plan") == ["TD101"]

    run_session(tmp_path, talk)


def test_files_that_include_each_other(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        editor.open('include "b.plan"', "a.plan")
        await editor.diagnostics()
        editor.open('include "a.plan"', "b.plan")
        assert "TD112" in [d.code for found in (await editor.diagnostics()).values() for d in found]

    run_session(tmp_path, talk)


def test_formatting(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        messy = "# 𝄞 head\r\nprune   filters 20 % x8;rewind lr  # c\r\n\r\n\r\n"
        wanted = format_source(Source("x", messy))
        assert await editor.formatted(messy) == wanted == "# 𝄞 head\r\nprune filters 20% x 8; rewind lr  # c\r\n"
        assert await editor.formatted(wanted.replace("\r", "")) == wanted.replace("\r", "")
        assert await editor.formatted("prune filters,") is None

    run_session(tmp_path, talk)


def test_hover(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        async def over(before: str, after: str, text: str = PLAN) -> str:
            assert before in text
            return await editor.hover(text.replace(before, after, 1))

        assert "`$budget` is `12ep`" in await over("$budget", "$bu|dget")
        assert "`$scope` takes each value of `[local, global]`" in await over("$scope", "$sc|ope")
        assert "initial learning rate" in await over("lr=0.1", "l|r=0.1")
        assert "FLOAT > 0 (default 0.1" in await over("lr=0.1", "l|r=0.1")
        assert STATEMENTS["prune"].form in await over("prune", "pr|une")
        assert "Euclidean norm" in await over("by l2", "by l|2")
        assert "an L2 penalty on what was chosen" in await editor.hover(
            "prune weights 20% via pena|lty step=1 every=1it"
        )
        assert "over training images" in await editor.hover("refill filters by sal|iency")
        assert STATEMENTS["evolve"].form in await editor.hover("evol|ve weights 30%")
        assert "equally many weights" in await editor.hover("evolve weights 30% fan-|in=constant")
        assert "by their activations" in await editor.hover("rewind mask of next seed align=dense mat|ch=activations")
        assert STATEMENTS["grow"].form in await editor.hover("gr|ow weights all")
        assert STATEMENTS["rewind"].form in await editor.hover("rew|ind signs of next seed")
        assert "3 convolutions" in await over("small-cnn", "small-|cnn")
        assert "8x8 scans" in await over("digits", "di|gits")
        assert "new random weights" in await over("random-init", "rand|om-init")
        assert "arm two { prune filters" in await over("two, ", "t|wo, ")
        assert "moment to rewind to" in await over(" to 5%", " t|o 5%")
        assert await over("x 3", "x |3") == ""
        assert "output channels of convolutions" in await editor.hover("pruen\nprune fil|ters 20% zzz")
        chained = "let a = $b\nlet b = $c\nsweep c in 1..3\nprune layers $|a; rewind lr"
        assert "`$a` takes each value of `1..3`" in await editor.hover(chained)
        assert "let a = $a" in await editor.hover("let |a = $a")
        page = await editor.hover(PLAN.replace("seeds 3", "").replace("arm one", "arm o|ne"))
        assert "**TD505 single-seed**" in page and "#### Why" in page

    run_session(tmp_path, talk)


COMPLETIONS = [
    ("|", {*STATEMENTS}, set()),
    ("compare all |", {"within=", "metric="}, {"lr="}),
    ("compare all metric=|", {"accuracy", "loss", "rmse", "r2"}, {"within="}),
    ("train loss=|", {"focal", "dice", "mse"}, {"lr="}),
    ("train opt=|", {"sgd", "adamw"}, {"focal"}),
    ("train augment=|", {"none", "flip", "RandomErasing"}, {"Resize"}),
    ("train class-weights=|", {"balanced", "none"}, {"on"}),
    ("report |", {"ensemble"}, {"focal"}),
    ("pru|", {"prune"}, {"x"}),
    ("arm a { |", {"prune", "train", "rewind"}, {"compare", "let", "arm"}),
    ("cycle 3 { |", {"prune"}, {"train", "arm"}),
    ("rewind |", {"lr", "weights", "signs", "magnitudes", "mask"}, {"to"}),
    ("rewind mask |", {"of", "align="}, {"lr"}),
    ("rewind mask of |", {"seed", "next"}, {"one"}),
    ("rewind signs of next seed align=|", {"dense", "current"}, {"on"}),
    ("rewind mask of next seed align=dense match=|", {"weights", "activations"}, {"dense"}),
    ("rewind mask of next seed align=dense |", {"match=", "images="}, {"every="}),
    ("report accuracy, barrier of |", {"one", "dense"}, {"accuracy"}),
    ("report barrier of one to |", {"one", "dense", "next"}, {"init"}),
    ("report |", {"distance", "mask-overlap", "sign-agreement"}, {"one"}),
    ("model |", {"vgg16", "small-cnn", "$budget"}, {"digits", "prune"}),
    ("model vgg16 |", {"on", "width="}, {"vgg16", "lr="}),
    ("model vgg16 on |", {"cifar10", "digits"}, {"vgg16"}),
    ("data mnist |", {"size=", "path="}, {"classes=", "lr="}),
    ("data folder |", {"path=", "test="}, {"train="}),
    ("train |", {"lr=", "batch=", "$budget"}, {"prune"}),
    ("train 3ep lr=0.1 |", {"batch="}, {"lr="}),
    ("train opt=|", {"sgd", "adam"}, {"lr=", "on"}),
    ("train augment=[crop, |", {"flip", "crop"}, {"lr="}),
    ("train nesterov=|", {"on", "off"}, set()),
    ("prune |", {"filters", "weights", "$budget"}, {"global"}),
    ("prune filters |", {"global", "local", "to", "matching"}, {"filters"}),
    ("prune filters 20% |", {"x", "by", "until", "at", "in", "except", "of"}, {"global", "when"}),
    ("prune filters 20% x 3 by l1 in a |", {"until", "in", "except"}, {"x", "by"}),
    ("prune filters 20% |", {"order=", "multiple="}, {"momentum="}),
    ("prune filters 20% order=|", {"lowest", "highest"}, {"multiple="}),
    ("prune weights |", {"erk", "balanced", "global", "searched"}, {"flops"}),
    ("prune filters searched 20% |", {"evaluations=", "order="}, {"momentum="}),
    ("prune filters to 50% of |", {"flops", "params"}, {"original", "by"}),
    ("prune filters to 50% of flops |", {"x", "by", "order="}, {"flops"}),
    ("prune filters 20% until |", {"flops", "drop"}, {"order="}),
    ("prune filters 20% of |", {"original", "remaining"}, {"by"}),
    ("prune filters 20% by |", {"l1", "bn-scale", "random"}, {"cka", "lr="}),
    ("prune filters 20% at |", {"init"}, {"l1"}),
    ("prune filters 20% in a, |", {"$budget"}, {"l1", "lr="}),
    ("rewind |", {"lr", "weights"}, {"init"}),
    ("rewind weights to |", {"init", "pretrained"}, {"lr"}),
    # The five systems of dual, coarse, super, elastic and generative tickets:
    ("prune weights 20% via |", {"penalty", "zeroing"}, {"by"}),
    ("prune weights 20% via penalty |", {"step=", "every=", "to=", "power=", "hold="}, {"momentum="}),
    ("refill |", {"filters"}, {"weights", "l1"}),
    ("refill filters by |", {"l1", "count", "saliency"}, {"gate"}),
    ("refill filters |", {"by", "extra="}, {"groups="}),
    ("grow weights 20% by |", {"magnitude", "gradient", "random"}, {"gate"}),
    # Sparse training, and tickets of other seeds and runs:
    ("evolve |", {"weights"}, {"filters", "grow="}),
    ("evolve weights 30% |", {"by", "grow=", "every=", "until=", "fan-in="}, {"x", "at", "lr="}),
    ("evolve weights 30% grow=|", {"gradient", "random", "momentum"}, {"constant"}),
    ("evolve weights 30% fan-in=|", {"constant", "free"}, {"gradient"}),
    ("evolve weights 30% by |", {"magnitude"}, {"lr="}),
    ("grow |", {"weights"}, {"filters", "heads"}),
    ("grow weights |", {"all"}, {"x"}),
    ("prune weights to 90% from |", {"init"}, {"by"}),
    ("prune weights to 90% from 1ep to 7ep |", {"every"}, {"by", "x"}),
    ("prune weights to 90% from 1ep to 7ep every 20it |", {"by", "curve=", "except"}, {"grow="}),
    ("prune weights to 90% from 1ep to 7ep every 20it curve=|", {"cubic", "linear"}, {"erk"}),
    ("prune weights 20% by |", {"movement", "delta"}, {"bn-scale"}),
    ('rewind mask of run "lth" |', {"arm=", "level=", "seed="}, {"grow="}),
    ("rewind signs of next |", {"seed"}, {"run"}),
    ("retrain recipe |", {"bn-l1="}, {"grow="}),
    ("regroup |", {"groups=", "ratio=", "min-rows="}, {"extra="}),
    ("prune heads 20% by |", {"gate", "gate-signed"}, {"bn-scale"}),
    ("union of |", {"one"}, {"dense"}),
    ("stretch to |", {"resnet32", "lenet-300-100"}, {"append"}),
    ("stretch to lenet-300-100 |", {"order=", "depth=", "width="}, {"drop="}),
    ("stretch to resnet32 order=|", {"append", "interpolate"}, {"last"}),
    ("squeeze to resnet20 drop=|", {"last", "alternate"}, {"append"}),
    ("model vae |", {"latent=", "beta="}, {"patch="}),
    ("compare one, |", {"shuffled-mask", "by-snip", "by-grasp", "by-synflow", "by-magnitude"}, {"accuracy"}),
    ("split |", {"classes", "samples"}, {"lr"}),
    ("compare |", {"one", "dense", "all", "random-init"}, {"accuracy"}),
    ("compare one,\n  |", {"one", "dense"}, {"levels="}),
    ("compare one |", {"levels=", "within="}, {"dense"}),
    ("compare one levels=|", {"all", "last"}, {"one"}),
    ("report |", {"accuracy", "params"}, {"dense"}),
    ("stop when |", {"accuracy"}, {"rounds", "dense"}),
    ("let x = $|", {"$budget", "$scope"}, {"lr="}),
    ("prune filters $s|", {"$scope"}, {"filters "}),
    ("# prune |", set(), {"filters"}),
    ('include "|', set(), {"prune"}),
    ("prune filtres |", set(), {"global"}),
]


def test_completion(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        for text, offered, absent in COMPLETIONS:
            items = await editor.completions(
                f"let budget = 1ep\nsweep scope in [local]\narm one {{}}\nbroken !\n{text}"
            )
            assert offered <= items.keys(), (text, offered - items.keys())
            assert not absent & items.keys(), (text, absent & items.keys())

    run_session(tmp_path, talk)


def test_completion_replaces_the_started_word(tmp_path: Path) -> None:
    (tmp_path / "more.plan").write_text("let shared = 3\narm theirs { prune weights 20% }\n")

    async def talk(editor: Editor) -> None:
        items = await editor.completions('include "more.plan"; compare random-i|')
        edit = items["random-init"].text_edit
        assert isinstance(edit, types.TextEdit) and edit.new_text == "random-init"
        assert (edit.range.start.character, edit.range.end.character) == (29, 37)
        assert "theirs" in items
        assert "$shared" in await editor.completions('include "more.plan"; seeds $|')

    run_session(tmp_path, talk)


def test_definition_and_rename(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        async def defined(before: str, after: str) -> tuple[int, int]:
            location = await editor.definition(PLAN.replace(before, after, 1))
            assert location is not None
            return start(location.range)

        assert await defined("$budget", "$budg|et") == (1, 4)
        assert await defined("$scope", "$|scope") == (2, 6)
        assert await defined("compare one", "compare o|ne") == (5, 4)
        assert await defined("two,", "two|,") == (6, 4)
        assert await editor.definition(PLAN.replace("dense", "den|se")) is None
        for before, after, old, new in (
            ("$budget", "$budg|et", "budget", "length"),
            ("sweep scope", "sweep sc|ope", "scope", "ranking-scope"),
            ("arm two", "arm t|wo", "two", "second"),
        ):
            wanted = PLAN.replace(old, new)
            assert await editor.rename(PLAN.replace(before, after, 1), new) == {"test.plan": wanted}

    run_session(tmp_path, talk)


def test_renaming_reaches_included_files(tmp_path: Path) -> None:
    (tmp_path / "more.plan").write_text("let shared = 3\nlet twice = $shared\n")

    async def talk(editor: Editor) -> None:
        texts = await editor.rename('include "more.plan"\nseeds $sh|ared', "runs")
        assert texts == {
            "more.plan": "let runs = 3\nlet twice = $runs\n",
            "test.plan": 'include "more.plan"\nseeds $runs',
        }

    run_session(tmp_path, talk)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("seeds $x|", "y", "not defined"),
        (PLAN.replace("$budget", "$bud|get"), "scope", "variable `scope` already exists"),
        (PLAN.replace("$budget", "$bud|get"), "20%", "not a valid name"),
        (PLAN.replace("arm one", "arm o|ne"), "dense", "built into"),
        (PLAN.replace("arm one", "arm o|ne"), "two", "arm `two` already exists"),
        (PLAN.replace("$budget", "$bud|get") + "prune $budget", "length", "does not parse"),
        (PLAN.replace("digits", "dig|its"), "length", "no variable or arm"),
    ],
)
def test_renaming_is_refused_where_it_would_break_the_plan(tmp_path: Path, text: str, name: str, reason: str) -> None:
    async def talk(editor: Editor) -> None:
        with pytest.raises(JsonRpcException, match=reason):
            await editor.rename(text, name)

    run_session(tmp_path, talk)


GARBAGE = [
    "",
    "\0",
    "}{" * 500,
    '"' * 99,
    "$$$",
    "# |",
    ",,,\n,",
    "\r\r\n\x0c\u2028 prune",
    "prune " * 3000,
    "{" * 300,
    "x" * 100_000,
]


@pytest.mark.slow
def test_garbage_gets_an_answer(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        for text in GARBAGE:
            for cursor in (types.Position(0, 0), types.Position(0, 10**6), types.Position(10**6, 7)):
                editor.cursor = cursor
                await editor.completions(text)
                await editor.hover(text)
                await editor.definition(text)
            await editor.formatted(text)
        editor.open("prune", "untitled:Untitled-1")
        assert await editor.codes("untitled:Untitled-1") == ["TD001"]
        params: dict[str, Any] = {
            "text_document": types.TextDocumentIdentifier("file:///nowhere/%00.plan"),
            "position": types.Position(0, 0),
        }
        assert await editor.client.text_document_hover_async(types.HoverParams(**params)) is None
        assert await editor.client.text_document_completion_async(types.CompletionParams(**params)) is None

    run_session(tmp_path, talk)


@pytest.mark.slow
def test_a_very_long_plan(tmp_path: Path) -> None:
    long = PLAN + "".join(f"arm a{n} {{ prune filters 20% by l2; rewind lr }}\n" for n in range(2000))

    async def talk(editor: Editor) -> None:
        uri = editor.open(long)
        assert {d.code for d in (await editor.diagnostics())[uri]} == {"TD507", "TD018"}
        # The server answers requests during a check, and only the last text counts.
        for _ in range(5):
            editor.open(long + "prune")
        began = time.monotonic()
        assert "filters" in await editor.completions(f"{long}prune |")
        assert time.monotonic() - began < 10
        assert "TD001" in await editor.codes()

    run_session(tmp_path, talk)


@pytest.mark.slow
def test_no_torch_is_loaded_by_language_service(tmp_path: Path) -> None:
    """The server process exits with 1 if torch was imported."""
    code = (
        "import sys; from tickdsl.cli import main; main(['lsp']); "
        "assert 'tickdsl.checks' in sys.modules; sys.exit('torch' in sys.modules)"
    )

    async def talk(editor: Editor) -> None:
        editor.open(PLAN)
        assert await editor.codes() == []
        await editor.hover(PLAN.replace("by l2", "by l|2"))
        await editor.formatted(PLAN)

    run_session(tmp_path, talk, sys.executable, "-c", code)


@pytest.mark.slow
def test_networks_traced_before_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = PLAN.replace("x 3 by l2; rewind lr", "x 3 by l2 except nolayer; rewind lr")
    code = "import sys; from tickdsl.cli import main; main(['lsp']); sys.exit('torch' in sys.modules)"

    async def before(editor: Editor) -> None:
        editor.open(plan)
        assert await editor.codes() == []

    async def after(editor: Editor) -> None:
        uri = editor.open(plan)
        (diagnostic,) = (await editor.diagnostics())[uri]
        assert (diagnostic.code, start(diagnostic.range)[0]) == ("TD402", 5)

    run_session(tmp_path, before, sys.executable, "-c", code)
    graph_cache.model_graph.cache_clear()
    graph_cache.model_graph("small-cnn", b"{}", 10, (1, 8, 8))
    graph_cache.model_graph.cache_clear()
    run_session(tmp_path, after, sys.executable, "-c", code)


@pytest.mark.slow
def test_an_error_of_the_server_clears_what_is_stale(tmp_path: Path) -> None:
    """A server in which the language service fails on one word, wherever it is used."""
    code = """
import sys
from tickdsl.cli import main
from tickdsl.lsp import buffers, cursor, server
def failing(function):
    def call(*arguments):
        if any("poison" in getattr(argument, "text", str(argument)) for argument in arguments):
            raise RuntimeError("out of luck")
        return function(*arguments)
    return call
server.cursor.locate = failing(cursor.locate)
server.format_source = failing(server.format_source)
cursor.includes = failing(cursor.includes)
main(['lsp'])
"""

    async def talk(editor: Editor) -> None:
        editor.open("prune fliters 20%")
        assert await editor.codes() == ["TD001"]
        uri = editor.open("seeds 3  # poison")
        (failed,) = (await editor.diagnostics())[uri]
        assert failed.code == "TD017" and "RuntimeError: out of luck" in failed.message
        for request in (editor.hover, editor.completions, editor.formatted):
            with pytest.raises(JsonRpcException, match="internal error: RuntimeError: out of luck"):
                await request("seeds 3 # poi|son")
        editor.open(PLAN)
        assert await editor.codes() == []

    run_session(tmp_path, talk, sys.executable, "-c", code)


def test_without_pygls_the_extra_is_named() -> None:
    code = "import sys; sys.modules['pygls'] = None; from tickdsl.cli import main; sys.exit(main(['lsp']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'tickdsl[lsp]'" in done.stderr


def test_the_server_exits_when_the_editor_disconnects() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tickdsl.cli", "lsp", "--stdio"], input=b"", capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1 and done.stdout == b"" and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "first", "later"),
    [
        ("data sentences\nmodel |", "bert", "small-cnn"),
        ("data digits\nmodel |", "small-cnn", "gpt"),
        ("model gpt on |", "corpus", "digits"),
        ("model small-cnn on |", "digits", "corpus"),
        ("model gpt on corpus\nprune weights 20% x 4\nstop when |", "perplexity", "accuracy"),
        ("model small-cnn on digits\nprune weights 20% x 4\nstop when |", "accuracy", "perplexity"),
    ],
)
def test_what_fits_the_task_comes_first(tmp_path: Path, text: str, first: str, later: str) -> None:
    async def talk(editor: Editor) -> None:
        items = await editor.completions(text)
        assert str(items[first].sort_text) < str(items[later].sort_text)

    run_session(tmp_path, talk)


def test_reports_are_offered_the_further_metrics_of_the_task(tmp_path: Path) -> None:
    async def talk(editor: Editor) -> None:
        items = await editor.completions("model conv-vae on digits\nprune weights 20% x 4\nreport |")
        assert {"accuracy", "elbo", "kl"} <= items.keys() and "perplexity" not in items

    run_session(tmp_path, talk)
