# SPDX-License-Identifier: Apache-2.0
"""What plugins add to `lerobot-ext doctor`, and what a broken one costs."""

from argparse import ArgumentParser, Namespace
from importlib import metadata

import pytest

from lerobot_ext.cli.main import main
from lerobot_ext.doctor import command, extension
from lerobot_ext.doctor.extension import GROUP, DoctorCheck, add_options, load_checks


def check(name: str, option: str, rc: int = 0) -> DoctorCheck:
    def run(args: Namespace) -> int:
        return rc

    return DoctorCheck(
        name=name,
        configure=lambda parser: _add(parser, option),
        applies=lambda args: getattr(args, option) is not None,
        run=run,
    )


def _add(parser: ArgumentParser, option: str) -> None:
    parser.add_argument(f"--{option}")


ONE = check("one", "one")
BAD = check("bad", "bad", rc=1)
NO_CHECK = "text"


@pytest.fixture
def installed(monkeypatch):
    """Declares entry points of the group, by name and attribute of this module."""

    def install(**values: str) -> None:
        entries = [metadata.EntryPoint(name, value, GROUP) for name, value in values.items()]
        monkeypatch.setattr(
            extension.metadata, "entry_points", lambda group: entries if group == GROUP else []
        )

    return install


@pytest.fixture
def plugins_examined(monkeypatch):
    calls: list[Namespace] = []
    monkeypatch.setattr(command, "_examine_plugins", lambda args: calls.append(args) or 0)
    return calls


@pytest.fixture
def two_checks(monkeypatch):
    monkeypatch.setattr(command, "load_checks", lambda: [ONE, BAD])


def test_without_its_options_the_plugins_are_examined(two_checks, plugins_examined):
    assert main(["doctor"]) == 0
    assert len(plugins_examined) == 1


@pytest.mark.parametrize(
    ("words", "rc"),
    [(["--one=x"], 0), (["--bad=x"], 1), (["--one=x", "--bad=x"], 1), (["--bad=x", "--json"], 1)],
)
def test_with_its_options_a_check_runs_instead(two_checks, plugins_examined, words, rc):
    assert main(["doctor", *words]) == rc
    assert plugins_examined == []


def test_a_broken_check_is_named_and_left_out(installed, capsys):
    module = __name__
    installed(gone="not_there_zz:CHECK", text=f"{module}:NO_CHECK", fine=f"{module}:ONE")
    assert [c.name for c in load_checks()] == ["one"]
    said = capsys.readouterr().err
    assert "check 'gone' of an unknown distribution is left out" in said
    assert "not_there_zz" in said
    assert "is str, not a DoctorCheck" in said


def test_an_option_that_is_taken_costs_the_check_alone(capsys):
    parser = ArgumentParser()
    add_options(parser, [ONE, check("two", "one"), BAD])
    assert "check 'two' is left out" in capsys.readouterr().err
    assert parser.parse_args(["--bad=1"]).bad == "1"
