"""Which weights go where by `map=`: names, and what is wrong with parts that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.errors import PartMapError
from tickdsl.training.part_map import Part, PartMap

WORD = st.text("abc12", min_size=1, max_size=4)
PATH = st.lists(WORD, min_size=1, max_size=3).map(".".join)


def mapped(text: str, **more: Any) -> PartMap:
    found = PartMap.of_model({"map": text, "weights": "w.pth", **more})
    assert found is not None
    return found


def test_names_of_parts_are_whole_names() -> None:
    part = Part("dec", "gen")
    assert part.target_of("dec.conv.weight") == "gen.conv.weight" and part.target_of("dec") == "gen"
    assert part.target_of("decoder.weight") is None and not part.must_hold("generator.weight")


@given(PATH, PATH, WORD)
def test_a_part_goes_there_and_back(source: str, target: str, leaf: str) -> None:
    there, back = Part(source, target), Part(target, source)
    name = f"{source}.{leaf}"
    assert there.target_of(name) == f"{target}.{leaf}" and there.must_hold(f"{target}.{leaf}")
    assert back.target_of(f"{target}.{leaf}") == name
    assert Part("", target).target_of(name) == f"{target}.{name}"
    assert Part(target, "").target_of(f"{target}.{name}") == name


@given(WORD, WORD, WORD)
def test_stars_stand_for_what_they_matched_in_one_name(first: str, second: str, leaf: str) -> None:
    part = Part("encoder*.conv*", "down*.layer*")
    name = f"encoder{first}.conv{second}.{leaf}"
    assert part.target_of(name) == f"down{first}.layer{second}.{leaf}"
    assert part.target_of(f"encoder{first}.{leaf}.conv{second}") is None or leaf.startswith("conv")
    assert part.must_hold(f"down{first}.layer{second}.{leaf}") and not part.must_hold(f"up{first}.layer{second}")


SHAPES = {"encoder1.weight": (4, 3), "encoder2.weight": (8, 4), "head.weight": (10, 8)}


@pytest.mark.parametrize(
    ("text", "ours", "names"),
    [
        ("encoder*=down*", {"down1.weight": (4, 3), "down2.weight": (8, 4), "up.weight": (1, 8)}, {"down1", "down2"}),
        ("encoder1=a, encoder2=b.c", {"a.weight": (4, 3), "b.c.weight": (8, 4)}, {"a", "b.c"}),
        ("encoder1 = a , encoder1 = b", {"a.weight": (4, 3), "b.weight": (4, 3)}, {"a", "b"}),
        ("=back", {"back.encoder1.weight": (4, 3), "back.encoder2.weight": (8, 4)}, {"back.encoder1", "back.encoder2"}),
    ],
)
def test_what_a_network_gets(text: str, ours: dict[str, tuple[int, ...]], names: set[str]) -> None:
    part = mapped(text)
    loaded = part.fit(SHAPES, ours, "w.pth")
    assert set(loaded) == {f"{name}.weight" for name in names}
    values = part.rename({name: name for name in SHAPES}, ours, "w.pth")
    assert set(values) == set(loaded) and all(SHAPES[values[name]] == ours[name] for name in loaded)


def test_a_whole_network_takes_one_part_of_the_weights() -> None:
    theirs = {"backbone.conv.weight": (4, 3), "decoder.weight": (2, 4)}
    assert mapped("backbone=").fit(theirs, {"conv.weight": (4, 3), "fc.weight": (10, 4)}, "w.pth") == ["conv.weight"]


@pytest.mark.parametrize(
    ("text", "ours", "problem"),
    [
        ("decoder=a", {"a.weight": (4, 3)}, "w.pth has no part `decoder`"),
        ("encoder1=b", {"a.weight": (4, 3)}, "this network has no part `b`"),
        ("=b", {"a.weight": (4, 3)}, "this network has no part `b`"),
        ("encoder1=", {"a.weight": (4, 3)}, "this network has no part `encoder1`"),
        ("encoder1=a, encoder2=a", {"a.weight": (4, 3)}, "two parts give `a.weight`"),
        ("encoder*=a*", {"a1.weight": (4, 3)}, "w.pth has `encoder2.weight`, and this network has no `a2.weight`"),
        ("encoder1=a", {"a.weight": (4, 3), "a.bias": (4,)}, "w.pth has no weights for `a.bias`"),
        ("=a", {"a.encoder1.weight": (4, 3), "a.encoder3.weight": (4,)}, "has no weights for `a.encoder3.weight`"),
        ("encoder1=a", {"a.weight": (2, 3)}, "`encoder1.weight` is 4×3 in w.pth, and `a.weight` is 2×3 here"),
    ],
)
def test_parts_that_do_not_fit(text: str, ours: dict[str, tuple[int, ...]], problem: str) -> None:
    with pytest.raises(PartMapError, match=problem.replace("*", r"\*")) as raised:
        mapped(text).fit(SHAPES, ours, "w.pth")
    assert raised.value.hint and f'map="{text}"' in raised.value.message


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"map": "a=b", "weights": ""}, "has no effect without `weights=`"),
        ({"map": "a=b", "weights": "default"}, "weights=default are those of the whole network"),
        *(({"map": text}, "must say which part") for text in ("a", "=", "a=b=c", "a=b,", ",")),
        ({"map": "a*=b"}, r"has 1 `\*` in `a\*` and 0 in `b`"),
        ({"map": "a*="}, r"has a `\*` on one side only"),
    ],
)
def test_a_malformed_map_says_what_to_write(options: dict[str, str], problem: str) -> None:
    with pytest.raises(PartMapError, match=problem) as raised:
        PartMap.of_model({"weights": "w.pth", **options})
    assert raised.value.hint
