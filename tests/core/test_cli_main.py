# SPDX-License-Identifier: Apache-2.0
"""The dispatcher: broken commands cost only themselves, errors are a line and a remedy."""

import subprocess
import sys
from importlib import metadata

import pytest

from lerobot_ext import __version__
from lerobot_ext.cli import main as cli
from lerobot_ext.testing.distributions import write_distribution

COMMANDS = """
from lerobot_ext.cli import Command, CommandError
def fail(args): raise CommandError(f"port {args.port} is not there", "try `--port=/dev/ttyACM0`")
def interrupt(args): raise KeyboardInterrupt
def configure(parser): parser.add_argument("--port", default="/dev/x")
def hello(args):
    print("hello", args.port)
    return 7
HELLO = Command("hello", "Says hello.", "lerobot-ext hello --port=/dev/x", configure, hello)
FAIL = Command("fail", "Fails.", "lerobot-ext fail", configure, fail)
INTERRUPT = Command("interrupt", "Is interrupted.", "lerobot-ext interrupt", configure, interrupt)
def relay(args):
    print(args.port, args.passed_on)
    return 0
RELAY = Command("relay", "Relays.", "lerobot-ext relay", configure, relay, pass_on=("--robot.",))
WRONG = 3
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    entries = {
        "hello": "my_commands_zz:HELLO",
        "fail": "my_commands_zz:FAIL",
        "interrupt": "my_commands_zz:INTERRUPT",
        "relay": "my_commands_zz:RELAY",
        "wrong": "my_commands_zz:WRONG",
        "gone": "my_commands_zz:GONE",
        "absent": "not_installed_zz:X",
    }
    write_distribution(
        tmp_path, "my_dist", modules={"my_commands_zz": COMMANDS}, entry_points={cli.GROUP: entries}
    )

    def entry_points(group: str) -> list[metadata.EntryPoint]:
        found = [e for dist in metadata.distributions(path=[str(tmp_path)]) for e in dist.entry_points]
        return [entry for entry in found if entry.group == group]

    monkeypatch.setattr(cli.metadata, "entry_points", entry_points)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_commands_zz", None)


def test_a_command_gets_its_arguments_and_gives_the_exit_code(commands, capsys):
    assert cli.main(["hello", "--port=/dev/y"]) == 7
    assert capsys.readouterr().out == "hello /dev/y\n"


def test_options_for_lerobots_own_parser_are_passed_on_unparsed(commands, capsys):
    words = ["--robot.type=koch", "--port", "/dev/y", "--robot.cameras", "{top: {fps: 30}}", "--robot.id=a=b"]
    assert cli.main(["relay", *words]) == 0
    expected = ["--robot.type=koch", "--robot.cameras={top: {fps: 30}}", "--robot.id=a=b"]
    assert capsys.readouterr().out == f"/dev/y {expected}\n"


def test_a_command_error_is_a_line_and_a_remedy_with_exit_2(commands, capsys):
    assert cli.main(["fail"]) == 2
    shown = capsys.readouterr().err
    assert shown == "lerobot-ext: port /dev/x is not there\n  remedy: try `--port=/dev/ttyACM0`\n"


def test_ctrl_c_is_exit_130_without_a_traceback(commands, capsys):
    assert cli.main(["interrupt"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "cause"),
    [("wrong", "not lerobot_ext.cli.Command"), ("gone", "GONE"), ("absent", "not_installed_zz")],
)
def test_a_broken_command_is_one_line_with_a_remedy(commands, capsys, name, cause):
    assert cli.main([name]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert f"command {name!r} of my_dist is broken" in first
    assert cause in first
    assert second.startswith("  remedy: ")
    assert "my_dist" in second


def test_help_lists_every_command_and_survives_the_broken_ones(commands, capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "Says hello." in shown
    assert shown.count("(broken)") == 3


def test_the_help_of_a_command_ends_with_its_example(commands, capsys):
    with pytest.raises(SystemExit):
        cli.main(["hello", "--help"])
    assert capsys.readouterr().out.rstrip().endswith("lerobot-ext hello --port=/dev/x")


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("helo", "lerobot-ext hello"),
        ("sim", "install the plugin that brings it"),
        ("quikstart", "lerobot-ext quickstart"),
        ("zzzz", "lerobot-ext --help"),
    ],
)
def test_an_unknown_command_names_the_nearest_or_its_package(commands, capsys, typed, remedy):
    assert cli.main([typed]) == 2
    shown = capsys.readouterr().err
    assert f"there is no command {typed!r}" in shown
    assert remedy in shown


def test_of_two_commands_with_one_name_the_cores_wins(commands):
    write_distribution(
        commands, "lerobot_ext", entry_points={cli.GROUP: {"hello": "my_commands_zz:INTERRUPT"}}
    )
    assert cli.command_entry_points()["hello"].dist.name == "lerobot_ext"


def test_no_command_shows_the_overview_and_is_an_error(commands, capsys):
    assert cli.main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_version_names_both_versions(commands, capsys):
    assert cli.main(["--version"]) == 0
    assert f"lerobot-ext {__version__} (LeRobot {metadata.version('lerobot')})" in capsys.readouterr().out


HELP = """
import sys
from lerobot_ext.cli.main import main
main(["--help"])
heavy = {"torch", "lerobot", "mujoco", "gymnasium", "cv2", "matplotlib", "datasets", "zmq", "serial"}
print("heavy:", sorted(heavy & set(sys.modules)))
"""


def test_help_imports_nothing_heavy():
    """Every installed command is listed without LeRobot, torch or a simulator: the answer comes at once."""
    ran = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert "usage: lerobot-ext" in ran.stdout
    assert "quickstart" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "heavy: []"
