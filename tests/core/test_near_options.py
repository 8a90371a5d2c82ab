# SPDX-License-Identifier: Apache-2.0
"""The nearest option or choice to one that does not exist, and what is said again behind an error."""

import argparse
import logging
import sys

import pytest

from lerobot_ext import last_words, unfed
from lerobot_ext.cli import main as cli
from lerobot_ext.near_options import corrections


def corrected(*words, abbreviations=False):
    parser = argparse.ArgumentParser(allow_abbrev=abbreviations)
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--latency_budget_ms")
    parser.add_argument("--latency")
    parser.add_argument("--task", choices=["reach", "lift"])
    parser.add_argument("--level", type=int, choices=[1, 2])
    return list(corrections(parser, words))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epsiodes=3"], "--epsiodes is no option (is `--episodes` meant?)"),
        (["--epsiodes", "3"], "--epsiodes is no option (is `--episodes` meant?)"),
        (["--latency_budget=3"], "--latency_budget is no option (is `--latency_budget_ms` meant?)"),
        (["--laten=3"], "--laten is no option (is `--latency` meant?)"),
        (["--colour=red"], "--colour is no option"),
        (["--task=lfit"], "--task=lfit is no choice (is `lift` meant?)"),
        (["--task", "lfit"], "--task=lfit is no choice (is `lift` meant?)"),
        (["--level=7"], "--level=7 is no choice"),
    ],
)
def test_what_is_none_gets_the_nearest_that_is_one(words, said):
    assert corrected(*words) == [said]


@pytest.mark.parametrize(
    "words", [["--episodes=3", "--task", "lift"], ["--level=2"], ["word", "-5", "--", "--"], []]
)
def test_what_is_one_needs_no_word(words):
    assert corrected(*words) == []


def test_an_abbreviation_counts_where_the_parser_takes_it():
    assert corrected("--epi=3", abbreviations=True) == []
    assert corrected("--epi=3") == ["--epi is no option (is `--episodes` meant?)"]


def test_our_own_commands_name_it(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["plugins", "--langauge=en"])
    assert "plugins --help` lists what there is" in capsys.readouterr().err


@pytest.fixture
def hinted(monkeypatch, caplog):
    """A process of LeRobot's that was given a hint, with its records."""
    monkeypatch.setattr(last_words, "_said", [])
    monkeypatch.setattr(sys, "excepthook", lambda *error: None)
    monkeypatch.setattr(sys, "argv", ["/bin/lerobot-train"])
    unfed.explain_at_the_end()
    last_words.say(logging.getLogger("hint"), logging.WARNING, "%s is %d", "it", 5)
    return caplog


def test_a_hint_is_repeated_behind_an_error_and_then_forgotten(hinted):
    for _ in range(2):
        sys.excepthook(OSError, OSError("no network"), None)
    assert [record.levelno for record in hinted.get_records("setup")] == [logging.WARNING]
    assert hinted.messages == ["it is 5"]
    assert hinted.records[-1].levelno == logging.ERROR


def test_what_waits_to_be_repeated_can_be_looked_for(hinted):
    assert last_words.told_of("it is")
    assert not last_words.told_of("it was")


def test_who_interrupts_a_command_needs_no_hint(hinted):
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert hinted.messages == []
