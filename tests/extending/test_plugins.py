"""Plug-ins are found, described and identified, and rejected if they do not follow the protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plugins import PluginError, code_identity, permission, static_description
from tickdsl.plugins.source_digest import source_digest
from tickdsl.training.data import datasets
from tickdsl.training.models import create
from tickdsl.training.recipes.recipe import Recipe

PRUNE = "prune filters local 25% x 2; rewind lr"
SHORT = "train 2ep lr=0.1 batch=32\n"


def errors(sandbox: Any, text: str, **how: Any) -> list[Diagnostic]:
    return [d for d in sandbox.check(text, **how).diagnostics if d.severity == "error"]


def error(sandbox: Any, text: str, **how: Any) -> Diagnostic:
    (found,) = errors(sandbox, text, **how)
    return found


# -- names


QUOTED = [
    f'model "own:x"\n{PRUNE}',
    f'model small-cnn on "own:x"\n{PRUNE}',
    f'data "own:x"\n{PRUNE}',
    f'train 2ep schedule="own:x"\n{PRUNE}',
    f'train 2ep loss="own:x"\n{PRUNE}',
    f'train 2ep opt="own:x"\n{PRUNE}',
    f'train 2ep augment=[flip, "own:x"]\n{PRUNE}',
    'prune filters 20% by "own:x"; rewind lr',
    'prune filters 20%; retrain "own:x" 2ep',
    'prune filters 20%; rewind lr; transfer to "own:x"',
    f'{PRUNE}; report "own:x"',
    'sweep by in [l1, "own:x"]\nprune filters 20% by $by; rewind lr',
    'let by = "own:x"\nprune filters 20% by $by; rewind lr',
]


@pytest.mark.parametrize("text", QUOTED)
def test_a_quoted_name_is_rejected_without_allow_code(sandbox: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(permission, "_allowed", False)
    (sandbox.folder / "own.py").write_text("raise SystemExit('imported')")
    found = error(sandbox, text)
    assert (found.code, found.span.text) == ("TD117", '"own:x"')
    assert "--allow-code" in str(found.help)


@pytest.mark.parametrize("name", ["own:", ":x", "own.:x", "a b:x", "own:x()", "../own:x", "own:1"])
def test_a_malformed_target_is_rejected(sandbox: Any, name: str) -> None:
    found = error(sandbox, f'prune filters 20% by "{name}"; rewind lr', network=False)
    assert found.code == "TD118" and found.help == 'write "package.module:factory"'


@pytest.mark.parametrize(
    ("group", "line", "code"),
    [
        ("models", "model spreadd", "TD101"),
        ("datasets", "data spreadd", "TD102"),
        ("criteria", "prune filters 20% by spreadd", "TD103"),
        ("schedules", "prune filters 20%; retrain spreadd", "TD116"),
        ("schedules", "train schedule=spreadd", "TD105"),
        ("losses", "train loss=spreadd", "TD105"),
        ("optimisers", "train opt=spreadd", "TD105"),
        ("augmentations", "train augment=[flip, spreadd]", "TD105"),
        ("metrics", "report spreadd", "TD114"),
    ],
)
def test_a_misspelt_name_suggests_the_registered_one(sandbox: Any, group: str, line: str, code: str) -> None:
    sandbox.install("box", **{group: {"spread": "nowhere:spread"}})
    found = next(d for d in errors(sandbox, f"{line}\n{PRUNE}", network=False) if d.code == code)
    assert found.label == "did you mean `spread`?"


def test_an_unused_plugin_is_not_imported(sandbox: Any) -> None:
    name = sandbox.module("raise RuntimeError('imported')")
    sandbox.install("box", models={"mine": f"{name}:net"}, criteria={"spread": f"{name}:spread"})
    assert errors(sandbox, f"{SHORT}{PRUNE}") == []
    assert name not in sys.modules


def test_a_check_without_a_network_imports_nothing(sandbox: Any) -> None:
    name = sandbox.module(
        '''
        import torch

        def net(classes, shape, width=8):
            """A net."""

        class Score(torch.nn.Module):
            units = ("filters",)
        '''
    )
    sandbox.install("box", models={"mine": f"{name}:net"}, criteria={"score": f"{name}:Score"})
    text = f"model mine width=4\n{SHORT}prune filters 20% by score; rewind lr"
    plan = sandbox.folder / "own.plan"
    plan.write_text(text)
    code = (
        "import sys; from tickdsl.cli import main; "
        f"assert main(['check', '--no-network', {str(plan)!r}]) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": f"{sandbox.folder}:{sys.path[0]}"})
    wrong = error(sandbox, text.replace("width=4", "depth=4"), network=False)
    assert wrong.code == "TD104" and "width" in str(wrong.help)
    unit = error(sandbox, text.replace("prune filters", "prune weights"), network=False)
    assert unit.code == "TD312"
    assert name not in sys.modules


def test_a_conflict_with_a_built_in_name_has_three_solutions(sandbox: Any) -> None:
    sandbox.install("box", criteria={"l2": "box.scores:l2"})
    found = error(sandbox, "prune filters 20% by l2; rewind lr", network=False)
    assert found.code == "TD118" and found.span.text == "l2" and "box 1.0" in found.message
    assert all(word in str(found.help) for word in ("rename", '"box.scores:l2"', "uninstall box"))


def test_two_packages_that_register_one_name_conflict(sandbox: Any) -> None:
    sandbox.install("box", criteria={"spread": "box:spread"})
    sandbox.install("chest", criteria={"spread": "chest:spread"})
    found = error(sandbox, "prune filters 20% by spread; rewind lr", network=False)
    assert "is registered by box 1.0 and chest 1.0" in found.message and '"box:spread"' in str(found.help)


def test_an_entry_point_without_a_factory_is_reported(sandbox: Any) -> None:
    sandbox.install("box", criteria={"spread": "box.scores"})
    found = error(sandbox, "prune filters 20% by spread; rewind lr", network=False)
    assert found.code == "TD118" and "box 1.0 registers the criterion `spread` as `box.scores`" in found.message


def test_check_accepts_scores_that_need_trained_weights(sandbox: Any) -> None:
    name = sandbox.module("def score(rows):\n    return rows.sum(1) / 0\n")
    assert errors(sandbox, f'prune filters 20% by "{name}:score"; rewind lr') == []


# -- unusable plug-ins


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def other(rows): ...", "has no `score`"),
        ("import absent_module\ndef score(rows): ...", "needs `absent_module`"),
        ("raise KeyError('x')\ndef score(rows): ...", "raised KeyError"),
        ("def score(rows:", "raised SyntaxError"),
        ("score = 3", "is an int, not a criterion"),
        ("class score: units = ('filters',)", "is a class, not a criterion"),
        ("class score:\n    units = ('filtres',)", "has invalid units = ('filtres',)"),
        ("class score: pass", "does not say which units it ranks"),
        ("def score(rows):\n    return rows", "raised ValueError: expected scores (16,) for rows (16, 9), got (16, 9)"),
        ("def score(rows):\n    return rows.sum(7)", "raised IndexError"),
    ],
)
def test_check_reports_an_unusable_criterion(sandbox: Any, text: str, message: str) -> None:
    name = sandbox.module(text)
    found = error(sandbox, f'prune filters 20% by "{name}:score"; rewind lr')
    assert found.code == "TD118" and found.span.text == f'"{name}:score"'
    assert message in found.message and found.help


def test_a_missing_module_is_reported(sandbox: Any) -> None:
    found = error(sandbox, 'prune filters 20% by "nowhere.scores:l9"; rewind lr', network=False)
    assert found.code == "TD118" and "no module `nowhere.scores`" in found.message and "folder" in str(found.help)
    sandbox.install("box", criteria={"gone": "nowhere:gone"})
    found = error(sandbox, "prune filters 20% by gone; rewind lr", network=False)
    assert "reinstall box" in str(found.help)


def test_a_misspelt_factory_has_a_suggestion(sandbox: Any) -> None:
    name = sandbox.module("def spread(rows): ...")
    found = error(sandbox, f'prune filters 20% by "{name}:spred"; rewind lr', network=False)
    assert found.help == f"did you mean `{name}:spread`?"


NET = """
from torch import nn
def net(classes, shape, width=4, fail=False):
    {body}
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return nn.Sequential(nn.Flatten(), nn.Linear(64, classes + 1))", "float32 [2, 11]"),
        ("return nn.Flatten()", "float32 [2, 64]"),
        ("return nn.Sequential(nn.Flatten(), nn.Linear(63, classes))", "fails on images of 1x8x8"),
        ("raise ValueError('no')", "raised ValueError: no"),
        ("return 3", "returns an int, not a network"),
        ("return nn.LSTM(8, 8)", "fails on images"),
    ],
)
def test_check_reports_a_network_that_does_not_fit(sandbox: Any, body: str, message: str) -> None:
    name = sandbox.module(NET.format(body=body))
    found = error(sandbox, f'model "{name}:net"\n{SHORT}{PRUNE}')
    assert (found.code, found.span.text) == ("TD118", f'"{name}:net"')
    assert message in found.message and found.help


def test_the_seed_determines_the_initial_weights(sandbox: Any) -> None:
    name = sandbox.module(NET.format(body="return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))"))

    def first(seed: int) -> torch.Tensor:
        return create(f"{name}:net", classes=10, shape=(1, 8, 8), seed=seed)[1].weight

    state = torch.get_rng_state()
    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("asks", "warned"), [("compare random-init", True), ("compare random-structure", False)])
def test_fresh_weights_need_code_that_draws_them(sandbox: Any, asks: str, warned: bool) -> None:
    body = "net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, classes)); "
    name = sandbox.module(
        NET.format(
            body="import torch; " + body + "net[1].weight.data.copy_(torch.arange(512.).view(8, 64)); return net"
        )
    )
    prunes = f'model "{name}:net" on digits\nprune neurons 20% by l1; rewind lr\n{asks}'
    found = [d for d in sandbox.check(prunes).diagnostics if d.code == "TD424"]
    assert bool(found) == warned
    assert not warned or found[0].message.startswith(f"1 weight of `{name}:net` (1.weight) is not drawn at random")


def test_a_factory_that_returns_the_same_network_twice_gives_copies(sandbox: Any) -> None:
    name = sandbox.module(NET.format(body="return ONE") + "ONE = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")
    first, second = (create(f"{name}:net", classes=10, shape=(1, 8, 8), seed=1) for _ in range(2))
    torch.nn.init.zeros_(first[1].weight)
    assert second[1].weight.any()


DATA = """
import numpy as np
from tickdsl.extending import RawDataset
def pictures(root, shift=0):
    images = np.zeros((8, 1, 8, 8), dtype=np.uint8) + np.uint8(shift)
    labels = np.arange(8) % 2
    names = ("a", "b")
    {change}
    return RawDataset(images, labels, images, labels, names)
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("images = images.astype(np.int16)", "train_inputs is int16 [8, 1, 8, 8]"),
        ("images = images[:, 0]", "train_inputs is uint8 [8, 8, 8]"),
        ("labels = labels.astype(float)", "train_targets is float64 [8]"),
        ("labels = labels[:5]", "has 8 images and 5 labels"),
        ("labels = labels + 1", "ranges from 1 to 2, with 2 class names"),
        ("return RawDataset(images, labels, images[..., :4], labels, names)", "has shape 1x8x8, test_inputs 1x8x4"),
        ("return images", "returns a ndarray, not a data set"),
        ("names, labels = ('a',), labels * 0", "class_names has 1 name"),
        ("images = open('/nowhere')", "raised FileNotFoundError"),
    ],
)
def test_check_reports_malformed_data(sandbox: Any, change: str, message: str) -> None:
    name = sandbox.module(DATA.format(change=change))
    found = error(sandbox, f'data "{name}:pictures"\n{SHORT}{PRUNE}')
    assert (found.code, found.span.text) == ("TD118", f'"{name}:pictures"')
    assert message in found.message and found.help


def test_the_fingerprint_depends_on_the_content(sandbox: Any) -> None:
    one, other = (sandbox.module(DATA.format(change=change)) for change in ("pass", "images[0] = 7"))
    named = [datasets.fingerprint(f"{name}:pictures", root=sandbox.folder) for name in (one, one, other)]
    assert named[0] == named[1] != named[2]
    shifted = datasets.load(f"{one}:pictures", root=sandbox.folder, options={"shift": 3, "size": 4})
    assert shifted.shape == (1, 4, 4) and int(shifted.train_inputs.max()) == 3
    assert shifted.fingerprint != named[0]


def test_data_that_are_others_at_each_call_are_not_trained_on(tmp_path: Path, sandbox: Any) -> None:
    from tickdsl.engine.steps.context import Context
    from tickdsl.engine.steps.settings import Settings

    name = f"{sandbox.module(DATA.format(change='pass'))}:pictures"
    spec = {"name": name, "options": {}, "fingerprint": datasets.fingerprint(name, root=tmp_path)}
    context = Context(Settings(tmp_path / "store", tmp_path))
    assert context.dataset(spec, None).fingerprint == spec["fingerprint"]
    with pytest.raises(PluginError, match="returned other data than when the plan was read"):
        Context(Settings(tmp_path / "store", tmp_path)).dataset({**spec, "fingerprint": "another"}, None)


def test_options_of_a_factory_do_not_clash_with_those_of_data_sets(sandbox: Any) -> None:
    from tickdsl.cli import main

    text = DATA.replace("shift=0", "train='left', classes='few', samples='all', size='big'").replace("shift", "3")
    name = sandbox.module(text.format(change="assert train + classes + samples + size == 'righttwohalfs'"))
    plan = sandbox.folder / "own.plan"
    plan.write_text(
        f'model small-cnn width=0.25\ndata "{name}:pictures" train=right classes=two samples=half size=s\n'
        "train 1ep lr=0.1 batch=4\nsplit classes 2\nprune weights 20%; overlap; rewind weights\n"
    )
    places = ["--store", sandbox.folder / "store", "--data", sandbox.folder / "data"]
    found = errors(sandbox, plan.read_text())
    assert [d.code for d in found] == []
    assert main(["plan", str(plan), *map(str, places)]) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[recipe.lr] * (steps - 1)", "rates of shape [3] for 4 steps"),
        ("[float('nan')] * steps", "the rate nan for step 1 of 4"),
        ("[recipe.lr, -1, 0, 0]", "the rate -1 for step 2 of 4"),
        ("'fast'", "returns a str, not learning rates"),
        ("1 / 0", "raised ZeroDivisionError"),
    ],
)
def test_invalid_learning_rates_are_rejected(sandbox: Any, body: str, message: str) -> None:
    name = sandbox.module(f"def rates(recipe, steps, per_epoch):\n    return {body}\n")
    recipe = Recipe(length="2ep", schedule=f"{name}:rates")
    with pytest.raises(PluginError) as caught:
        recipe.learning_rates(2)
    assert message in caught.value.message and caught.value.hint


def test_check_reports_invalid_learning_rates(sandbox: Any) -> None:
    name = sandbox.module("def rates(recipe, steps, per_epoch):\n    return []\n")
    found = error(sandbox, f'train 2ep lr=0.1 schedule="{name}:rates"\n{PRUNE}')
    assert found.code == "TD118" and "rates of shape [0]" in found.message
    retrained = error(sandbox, f'{SHORT}prune filters 20%; retrain "{name}:rates" 2ep')
    assert retrained.code == "TD118" and retrained.span.text.startswith("retrain")


def test_warm_up_applies_to_a_plugin_schedule(sandbox: Any) -> None:
    name = sandbox.module("def rates(recipe, steps, per_epoch):\n    return [recipe.lr * recipe.gamma] * steps\n")
    recipe = Recipe(length="2ep", lr=0.4, gamma=0.5, schedule=f"{name}:rates", warmup="2it")
    assert recipe.learning_rates(2).tolist() == [0.0, 0.1, 0.2, 0.2]
    assert recipe.final_lr == 0.2


# -- code identity


def test_the_source_digest_covers_imported_project_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "own_box"
    package.mkdir()
    texts = {
        "own_box/__init__.py": "from own_box import nets\n",
        "own_box/nets.py": "",
        "own_box/scores.py": "from . import tools\nimport math, numpy\nfrom own_beside import x\n",
        "own_box/tools.py": "from .deep import y\n",
        "own_box/deep.py": "y = 1\n",
        "own_beside.py": "x = 1\n",
        "own_apart.py": "z = 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    first = source_digest("own_box.scores")
    assert first is not None
    for name in texts:
        (tmp_path / name).write_text(texts[name] + "edited = 1\n")
        changed = source_digest("own_box.scores") != first
        assert changed is (name in ("own_box/scores.py", "own_box/tools.py", "own_box/deep.py", "own_beside.py")), name
        (tmp_path / name).write_text(texts[name])
    assert source_digest("own_box.scores") == first
    assert "own_box" not in sys.modules


CODE = """\
import math


class Score:
    units = ("filters",)

    def __call__(self, rows, power=2):
        if power == 2:
            return rows.pow(power).sum(1)
        return sum(rows ** 2.0, start=None) + math.inf
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import math", "# what it is\nimport math  # and why"), ("import math", '"""What it is."""\n\nimport math'),
        ("Score:", 'Score:\n    """A score."""\n'), ("power=2):", 'power=2):\n        "It scores."'), ("\n", "\r\n"),
        ("(rows ** 2.0, start=None)", "(\n            (rows**2.0), start=None,\n        )"), ("    ", "  "),
        ('"filters"', "'filters'"), ("2.0", "2.00"),
    ],
)  # fmt: skip
def test_comments_layout_and_docstrings_are_no_part_of_the_code(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_layout.py").write_text(CODE)
    first = source_digest("own_layout")
    (tmp_path / "own_layout.py").write_bytes(CODE.replace(old, new).encode())
    assert source_digest("own_layout") == first


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2.0", "2"), ("== 2", "== True"), ("None", "0"), ("None", "False"), ("pow", "mul"), ("sum(1)", "sum(-1)"),
        ("start=None", "None"), ("power=2", "power=3"), ("power=2", "*, power=2"), ("if power", "while power"),
        ('("filters",)', '["filters"]'), ('("filters",)', '("filters")'), ("rows **", "rows *"), ("inf\n", "inf + 0\n"),
        ("        return sum", "            return sum"), ('"filters"', 'b"filters"'),
        ("import math", "import cmath as math"),
    ],
)  # fmt: skip
def test_every_other_edit_is(old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_edited.py").write_text(CODE)
    first = source_digest("own_edited")
    (tmp_path / "own_edited.py").write_text(CODE.replace(old, new))
    assert source_digest("own_edited") != first


def test_code_that_cannot_be_described_counts_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    digests = set()
    for text in ("def", "def # comment", "x = " + "-" * 3000 + "1", "x = " + "-" * 3000 + "1  # comment"):
        (tmp_path / "own_odd.py").write_text(text)
        digests.add(source_digest("own_odd"))
    assert len(digests) == 4 and None not in digests


def test_code_changed_during_a_run_is_rejected(sandbox: Any) -> None:
    from tickdsl.plan.plugin_code import plugin_identities, verify_plugin_code

    name = sandbox.module("def score(rows):\n    return rows.sum(1)\n")
    args = {"by": f"{name}:score", "model": {"name": "small-cnn"}}
    named = plugin_identities(args)
    assert set(named) == {"criterion"} and name in named["criterion"]
    verify_plugin_code({**args, "code": named})
    code_identity.cache_clear()  # as in a process that starts later
    (sandbox.folder / f"{name}.py").write_text("def score(rows):\n    return rows.mean(1)\n")
    with pytest.raises(TickdslError, match="was changed during the run"):
        verify_plugin_code({**args, "code": named})


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('def f(classes, shape, width=8, *, deep=False):\n    """One.\n\n    Two."""', True),
        ("import functools\n@functools.cache\ndef f(classes, shape, width=8, deep=False):\n    '''One.'''", False),
        ("W = 8\ndef f(classes, shape, width=W, deep=False):\n    '''One.'''", False),
        ("def g(classes, shape, width=8, deep=False):\n    '''One.'''\nf = g", True),
        ("class f:\n    '''One.'''\n    def __init__(self, classes, shape, width=8, deep=False): ...", True),
        ("def g(classes, shape, width=8, deep=False):\n    '''One.'''\nif True:\n    f = g", False),
        ("def f(classes, shape, width=8, deep=False):\n    '''One.'''\nif __name__ == 'x':\n    f()", True),
        ("def g(classes, shape, width=8, deep=False):\n    '''One.'''\nglobals()['f'] = g", False),
    ],
)
def test_static_description_and_import_agree(sandbox: Any, text: str, plain: bool) -> None:
    from tickdsl.training.catalogue import MODELS

    name = sandbox.module(text)
    read = static_description.describe(f"{name}:f")
    assert (read is not None) is plain
    info = MODELS[f"{name}:f"]
    assert (name in sys.modules) is not plain
    assert info.summary == "One" and list(info.options) == ["width", "deep", "weights", "map"]
    assert info.options["width"].default == 8 and info.options["deep"].type is bool
