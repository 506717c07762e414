"""An option with a name cannot be given twice: the last one would win in silence."""

import pytest

from tickdsl.cli import main


@pytest.mark.parametrize(
    "words",
    [
        ("check", "absent.plan", "--set", "share=20%", "--set", "share=30%"),
        ("plan", "absent.plan", "--set", "share=20%", "--set", "other=1", "--set", "share=20%"),
        ("graph", "small-cnn", "--option", "width=2", "--option", "width=3"),
    ],
)
def test_a_name_is_given_once(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code == 2
    assert "is given twice" in capsys.readouterr().err
