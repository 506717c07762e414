"""The TextMate grammar is generated from the vocabulary and agrees with the Pygments lexer."""

import json
import re
import runpy
from pathlib import Path

import pytest
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String

from tickdsl.lang.reading.highlight import PlanLexer

ROOT = Path(__file__).parents[2]
EDITORS = ROOT / "grammar" / "editors"
VSCODE = EDITORS / "vscode"
SCRIPT = runpy.run_path(str(EDITORS / "textmate.py"))

#: Pygments token type -> prefix of the TextMate scope.
SCOPES = {
    Comment.Single: "comment",
    String.Double: "string.quoted.double",
    Keyword: "keyword.control",
    Name.Variable.Global: "entity.name.function",
    Name.Variable: "variable.other",
    Name.Attribute: "variable.parameter",
    Name.Builtin: "support.constant",
    Name: "entity.name",
    Number: "constant.numeric",
    Operator.Word: "keyword.operator.word",
    Operator: "keyword.operator",
    Punctuation: "punctuation",
}


def scopes(text: str) -> list[tuple[str, str]]:
    """(scope, word) pairs as a TextMate engine finds them: per line, the earliest match, then the first rule."""
    rules = [(re.compile(rule["match"]), rule) for rule in SCRIPT["grammar"]()["patterns"]]
    found = []
    for line in text.split("\n"):
        place = 0
        while True:
            matches = [(m.start(), n, m, rule) for n, (p, rule) in enumerate(rules) if (m := p.search(line, place))]
            if not matches:
                break
            _, _, match, rule = min(matches, key=lambda m: m[:2])
            assert match.end() > place
            if "captures" in rule:
                found += [(scope["name"], match[int(group)]) for group, scope in rule["captures"].items()]
            else:
                found.append((rule["name"], match[0]))
            place = match.end()
    return found


def test_the_committed_grammar_is_up_to_date() -> None:
    """Regenerate with `python grammar/editors/textmate.py`."""
    assert SCRIPT["TARGET"].read_text("utf-8") == SCRIPT["text"]()


@pytest.mark.parametrize("path", sorted(ROOT.glob("plans/**/*.plan")), ids=lambda p: p.name)
def test_both_highlighters_agree(path: Path) -> None:
    text = path.read_text("utf-8")
    lexer = PlanLexer(stripnl=False, ensurenl=False)
    wanted = [(SCOPES[kind] + ".tickdsl", value) for kind, value in lexer.get_tokens(text) if value.strip()]
    wanted = [(scope.replace("comment", "comment.line.number-sign"), value) for scope, value in wanted]
    assert scopes(text) == wanted


def test_words_that_only_look_like_keywords() -> None:
    found = {word: scope for scope, word in scopes('prune-x; prune.x;arm train{split classes 2}\ncompare "a # b", in2')}
    assert found["prune-x"] == found["prune.x"] == found["in2"] == "entity.name.tickdsl"
    assert found["train"] == "entity.name.function.tickdsl"
    assert found["split"] == "keyword.control.tickdsl" and found['"a # b"'].startswith("string")


def test_the_extension_refers_to_existing_files() -> None:
    package = json.loads((VSCODE / "package.json").read_text("utf-8"))
    contributed = package["contributes"]
    named = [package["main"], contributed["grammars"][0]["path"], contributed["languages"][0]["configuration"]]
    assert all((VSCODE / name).is_file() for name in named)
    grammar = json.loads((VSCODE / contributed["grammars"][0]["path"]).read_text("utf-8"))
    assert grammar["scopeName"] == contributed["grammars"][0]["scopeName"]
    word = re.compile(json.loads((VSCODE / "language-configuration.json").read_text("utf-8"))["wordPattern"])
    assert [m[0] for m in word.finditer("$scope lr-rewind layer1.0.conv2;")] == [
        "$scope",
        "lr-rewind",
        "layer1.0.conv2",
    ]
