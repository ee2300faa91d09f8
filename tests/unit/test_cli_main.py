"""The command line's door: help, usage errors, errors as lines and exit codes."""

from __future__ import annotations

import argparse
import json
import pickle
import shlex
from pathlib import Path

import pytest

from fastfeed import __version__, errors
from fastfeed.cli.cache import COMMANDS as CACHE_COMMANDS
from fastfeed.cli.common import (
    UsageError,
    positive_float,
    positive_int,
    table_text,
)
from fastfeed.cli.main import COMMANDS, GROUPS, build_parser, main, message_of, report_error
from fastfeed.errors import FastfeedError, exit_code_of
from fastfeed.format.wording import count_text
from tests.helpers.repository import ROOT

ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, FastfeedError)]


# Every command as it is typed: those of a group have two words.
TYPED = [name for name in COMMANDS if name not in GROUPS] + [f"cache {name}" for name in CACHE_COMMANDS]


def parser_of(command: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = build_parser(*command.split())
    for word in command.split():
        subparsers = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
        parser = subparsers.choices[word]
    return parser


def examples_of(command: str) -> list[str]:
    """The command lines at the end of a command's help."""
    epilog = parser_of(command).epilog or ""
    return [line.strip() for line in epilog.splitlines() if line.strip().startswith("fastfeed ")]


class TestHelp:
    @pytest.mark.parametrize("command", TYPED)
    def test_every_commands_help_has_an_example(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*command.split(), "--help"]) == 0
        out = capsys.readouterr().out
        assert "example:\n  fastfeed " + command in out
        assert all(flag in out for flag in ("--json", "--quiet", "--debug"))

    @pytest.mark.parametrize(
        ("command", "line"), [(command, line) for command in TYPED for line in examples_of(command)]
    )
    def test_every_example_parses(self, command: str, line: str) -> None:
        words = line.split()[1:3]
        args = build_parser(*words).parse_args(shlex.split(line)[1:])
        assert words[0] == args.command == command.split()[0]

    @pytest.mark.parametrize("command", TYPED)
    def test_every_option_of_every_command_is_in_the_docs(self, command: str) -> None:
        page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
        options = {option for action in parser_of(command)._actions for option in action.option_strings}
        missing = [option for option in options - {"-h"} if f"`{option}" not in page]
        assert not missing, f"docs/cli.md does not tell of {missing} of fastfeed {command}"

    def test_the_help_of_all_lists_every_command_with_a_summary(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        out = capsys.readouterr().out
        assert all(f"    {command} " in out for command in COMMANDS)
        assert main(["cache", "--help"]) == 0
        out = capsys.readouterr().out
        assert all(f"    {command} " in out for command in CACHE_COMMANDS)

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"fastfeed {__version__}\n"


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "required: COMMAND"),
            (["prepare"], "invalid choice: 'prepare'"),
            (["info"], "required: URL"),
            (["info", "x", "--snapshot", "one"], "invalid int value: 'one'"),
            (["convert", "a", "b", "--workers", "0"], "'0' is not a whole number of at least 1"),
            (["convert", "a", "b", "--from", "floppy"], "invalid choice: 'floppy'"),
            (["bench", "a", "--seconds", "nan"], "'nan' is not a number above 0"),
            (["info", "x", "--jso"], "unrecognized arguments: --jso"),
            (["cache"], "required: COMMAND"),
            (["cache", "empty"], "invalid choice: 'empty'"),
            (["cache", "pin"], "required: URL"),
        ],
    )
    def test_a_wrong_command_line_shows_its_usage_and_exits_with_2(
        self, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("usage: fastfeed")
        assert says in err
        assert "--help`" in err

    def test_with_json_the_error_is_also_an_object_on_stdout(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["type"] == "ConfigError"
        assert error["exit_code"] == 2

    def test_a_usage_error_pickles(self) -> None:
        error = pickle.loads(pickle.dumps(UsageError("no such flag", "usage: x")))
        assert (str(error), error.usage) == ("no such flag", "usage: x")


class TestErrors:
    @pytest.mark.parametrize("kind", ERRORS)
    def test_each_class_is_one_line_and_its_exit_code(
        self, kind: type[FastfeedError], capsys: pytest.CaptureFixture[str]
    ) -> None:
        error = kind("shard 7: row 3: the crc is wrong")
        report_error(error, as_json=True, debug=False)
        out, err = capsys.readouterr()
        assert err == "fastfeed: error: shard 7: row 3: the crc is wrong\n"
        assert json.loads(out)["error"] == {
            "type": kind.__name__,
            "message": "shard 7: row 3: the crc is wrong",
            "exit_code": int(exit_code_of(error)),
        }

    def test_a_failure_of_the_system_names_the_file(self) -> None:
        assert message_of(FileNotFoundError(2, "No such file or directory", "/data/x")) == (
            "/data/x: No such file or directory"
        )
        assert message_of(OSError(28, "No space left on device")) == "No space left on device"

    def test_a_bug_says_that_it_is_one(self) -> None:
        assert "internal: KeyError: 'x'\nThis is a bug" in message_of(KeyError("x"))

    def test_debug_shows_the_traceback(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["convert", str(tmp_path / "none"), str(tmp_path / "out"), "--debug"]) == 4
        assert "Traceback" in capsys.readouterr().err
        assert main(["convert", str(tmp_path / "none"), str(tmp_path / "out")]) == 4
        assert capsys.readouterr().err == f"fastfeed: error: {tmp_path / 'none'}: No such file or directory\n"


class TestTexts:
    def test_counts_have_a_plural(self) -> None:
        assert [count_text(1, "row"), count_text(1200, "row"), count_text(0, "pass")] == [
            "1 row",
            "1,200 rows",
            "0 passes",
        ]

    def test_a_table_is_aligned_without_spaces_at_the_end(self) -> None:
        assert table_text([("a", "1"), ("long", "")], indent=" ") == " a     1\n long"

    @pytest.mark.parametrize("text", ["0", "-1", "x", "1.5"])
    def test_a_count_is_a_whole_number_from_one_on(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
            positive_int(text)

    @pytest.mark.parametrize("text", ["0", "-1", "x", "inf"])
    def test_a_duration_is_above_zero_and_finite(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
            positive_float(text)
