# SPDX-License-Identifier: Apache-2.0
"""What plugins add to `lerobot-ext doctor`, and what a broken one costs."""

import json
from argparse import ArgumentParser
from importlib import metadata

import pytest

from lerobot_ext.cli.command import CommandError
from lerobot_ext.cli.main import main
from lerobot_ext.doctor import command, extension
from lerobot_ext.doctor.extension import GROUP, DoctorCheck, add_options, load_checks
from lerobot_ext.doctor.findings import Finding, Fix, Section, note, problem


def check(name: str, option: str, *findings: Finding, **more: bool) -> DoctorCheck:
    return DoctorCheck(
        name=name,
        configure=lambda parser: _add(parser, option),
        applies=lambda args: getattr(args, option) is not None,
        examine=lambda args: [Section(name, f"the {name}", list(findings), facts={"n": 1}, fixes=[FIX])],
        **more,
    )


def _add(parser: ArgumentParser, option: str) -> None:
    parser.add_argument(f"--{option}")


FIXED: list[str] = []
FIX = Fix("mend", "would mend it", lambda: FIXED.append("mend") or "mended it")
ONE = check("one", "one", note("hint", "it", "is so", "leave it"), needs_nothing=True)
BAD = check("bad", "bad", problem("broken", "it", "is broken", "mend it", fix="mend"))
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
def checks(monkeypatch):
    """The doctor with these two checks alone; `plugins` stands for what runs by default."""
    default = check("plugins", "plugins")
    monkeypatch.setattr(command, "all_checks", lambda: [default, ONE, BAD])
    FIXED.clear()


def examined(capsys) -> list[str]:
    return [entry["check"] for entry in json.loads(capsys.readouterr().out)["examined"]]


def test_without_options_the_plugins_are_examined(checks, capsys):
    assert main(["doctor", "--json"]) == 0
    assert examined(capsys) == ["plugins"]


@pytest.mark.parametrize(
    ("words", "rc", "names"),
    [
        (["--one=x"], 0, ["one"]),
        (["--bad=x"], 1, ["bad"]),
        (["--one=x", "--bad=x"], 1, ["one", "bad"]),
        (["--all"], 0, ["one"]),
        (["--all", "--bad=x"], 1, ["one", "bad"]),
    ],
)
def test_with_its_options_a_check_runs_instead(checks, capsys, words, rc, names):
    assert main(["doctor", *words, "--json"]) == rc
    assert examined(capsys) == names


def test_json_has_one_schema(checks, capsys):
    main(["doctor", "--one=x", "--bad=x", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report.keys() == {"ok", "examined", "findings", "fixes"}
    assert report["examined"][0] == {"check": "one", "subject": "the one", "ok": True, "n": 1}
    assert report["findings"][1] == {
        "check": "bad",
        "level": "problem",
        "kind": "broken",
        "subject": "it",
        "message": "is broken",
        "remedy": "mend it",
        "fix": "mend",
    }


def test_people_get_message_and_remedy(checks, capsys):
    main(["doctor", "--one=x", "--bad=x"])
    said = capsys.readouterr().out
    assert "note: it: is so\n  remedy: leave it\n" in said
    assert "problem: it: is broken\n  remedy: mend it\n" in said
    assert "1 problem found." in said
    assert "`--fix` mends" in said


def test_only_fix_fixes_and_a_dry_run_says_what_it_would_do(checks, capsys):
    main(["doctor", "--bad=x"])
    main(["doctor", "--bad=x", "--fix", "--dry-run"])
    assert FIXED == []
    assert "would fix: the bad: would mend it" in capsys.readouterr().out
    main(["doctor", "--bad=x", "--one=x", "--fix"])
    assert FIXED == ["mend"], "a fix that no finding names is left alone"
    assert "fixed: the bad: mended it" in capsys.readouterr().out


def test_a_fix_that_fails_says_why(monkeypatch, capsys):
    def fail() -> str:
        raise CommandError("no room", "make room")

    section = Section(
        "bad", "the bad", [problem("b", "it", "m", "r", "mend")], fixes=[Fix("mend", "w", fail)]
    )
    bad = DoctorCheck("bad", lambda parser: None, lambda args: True, lambda args: [section])
    monkeypatch.setattr(command, "all_checks", lambda: [bad])
    assert main(["doctor", "--fix"]) == 1
    said = capsys.readouterr().out
    assert "not fixed: the bad: not done: no room" in said
    assert "remedy: make room" in said


def test_a_dry_run_without_fix_is_wrong_usage(checks, capsys):
    assert main(["doctor", "--dry-run"]) == 2
    assert "add `--fix`" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--policy.path=not/there/at/all", "there is no such folder"),
        ("--dataset.repo_id=me/none_zz", "no dataset at"),
        ("--dataset.root=not/there", "holds no folder `meta`"),
        ("--cameras=zmq://nowhere", "no address of a camera"),
    ],
)
def test_wrong_usage_is_two(word, said, capsys):
    assert main(["doctor", word]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert "remedy: " in told.err
    assert told.out == ""
