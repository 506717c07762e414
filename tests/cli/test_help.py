"""The help of the command line: complete for every command and option."""

from __future__ import annotations

import argparse
import re

import pytest

from tickdsl.cli import build_parser, main


def _commands(parser: argparse.ArgumentParser, prefix: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every command's parser, by name: `store`, `store gc`."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                found |= {f"{prefix}{name}": command, **_commands(command, f"{prefix}{name} ")}
    return found


COMMANDS = _commands(build_parser())
#: Command, option or positional argument, action; without `--help` and hidden options.
ARGUMENTS = [
    pytest.param(action, id=f"{name} {'/'.join(action.option_strings) or action.metavar}")
    for name, parser in COMMANDS.items()
    for action in parser._actions
    if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_one_sentence_description(name: str) -> None:
    description = COMMANDS[name].description or ""
    assert re.fullmatch(r"[A-Z][^.\n]{10,100}\.", description), description


@pytest.mark.parametrize("name", sorted({name.split()[0] for name in COMMANDS} - {"completion"}))
def test_a_command_is_the_same_without_the_others(name: str) -> None:
    alone = _commands(build_parser(name))
    assert name in alone and alone.keys() < COMMANDS.keys()
    assert all(parser.format_help() == COMMANDS[command].format_help() for command, parser in alone.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_two_examples(name: str) -> None:
    title, *examples = (COMMANDS[name].epilog or "").splitlines()
    assert title == "examples:"
    assert len(examples) == 2
    assert all(re.match(rf"  tickdsl {name}\b.* # ", example) for example in examples)
    assert COMMANDS[name].epilog in COMMANDS[name].format_help(), "argparse does not wrap the examples"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_can_be_parsed(name: str) -> None:
    for example in (COMMANDS[name].epilog or "").splitlines()[1:]:
        build_parser().parse_args(example.partition("  # ")[0].split()[1:])


@pytest.mark.parametrize("action", ARGUMENTS)
def test_every_argument_has_a_help_text_with_its_default(action: argparse.Action) -> None:
    text = action.help or ""
    assert len(text) > 5
    is_flag = action.nargs == 0  # off by default
    if not is_flag and not action.required:
        assert "(default: " in text or "required unless" in text
    plain_default = isinstance(action.default, int | float | str) and action.default not in (False, "latest")
    if plain_default:
        default = f"{action.default:g}" if isinstance(action.default, float) else action.default
        assert text.endswith(f"(default: {default})")


def test_the_list_of_commands_summarises_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed == build_parser().format_help()
    for name in COMMANDS:
        if " " in name:
            continue  # listed by its own command
        assert re.search(rf"^    {name} +\w", printed, re.MULTILINE), name
    assert len(re.findall(r"^  tickdsl \w+ .* # ", printed, re.MULTILINE)) == 2


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["trian"])
    assert caught.value.code == 2
    assert "trian" in capsys.readouterr().err
