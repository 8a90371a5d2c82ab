# SPDX-License-Identifier: Apache-2.0
"""`docs/recording.md` against the code."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from lerobot_ext.recording import choose, hook, record_path, rhythm, survey
from lerobot_ext.recording.candidates import Candidate
from lerobot_ext.recording.command import CODEC
from lerobot_ext.recording.load import Load

PAGE = (Path(__file__).parents[2] / "docs/recording.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^lerobot-ext codec (.*?)(?: +#.*)?$", PAGE, re.MULTILINE)


def test_there_are_commands():
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_is_understood(words):
    parser = argparse.ArgumentParser()
    CODEC.configure(parser)
    parser.parse_args(shlex.split(words))


def test_the_flags_shown_are_some_that_it_prints():
    block = re.search(r"```\n(--dataset.*?)```", PAGE, re.DOTALL)
    shown = block[1].replace("\\\n", " ").split()
    assert shown == Candidate("h264", "ultrafast", 26, threads=1, queue=60).flags()


def test_the_numbers_are_those_of_the_code():
    for said in (
        f"within {choose.PSNR_LOSS_DB:g} dB",
        f"at most {choose.DECODE_FACTOR:g} times",
        f"{choose._KEPT_UP:.0%}".replace("%", " %"),
        f"uses {rhythm._CPU_FULL:.0%}".replace("%", " %"),
        f"{rhythm._MUCH:.0%}".replace("%", " %"),
        hook.SWITCH,
    ):
        assert said in PAGE, said
    assert choose._LATE_SHARE == 0.01
    assert choose._FULLEST == 0.5
    assert rhythm._QUEUE_FULL == 0.8
    assert rhythm._WINDOW_S == 3
    assert rhythm._WARM_UP_S == 0.5
    plan = survey.Plan(Load(3, 640, 480, 30))
    assert (plan.seconds, plan.headroom, plan.fed_fps) == (5.0, 0.2, 37.5)


@pytest.mark.parametrize(
    ("hz", "late", "dropped", "kept"),
    [(29.0, 1, 0, True), (28.9, 0, 0, False), (30.0, 0, 1, False), (30.0, 3, 0, False), (29.7, 1, 0, True)],
)
def test_what_counts_as_verified(hz, late, dropped, kept):
    recorded = record_path.Recorded(hz, 150, late, dropped, save_s=0.1, cpu_ms=10)
    assert recorded.keeps(30) == kept
