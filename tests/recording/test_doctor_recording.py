# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --recording`."""

import json

import pytest

from lerobot_ext.cli.main import main
from lerobot_ext.doctor import child, recording
from lerobot_ext.doctor.recording_child import look
from lerobot_ext.recording import store
from lerobot_ext.recording.load import Load

SMALL = Load(1, 96, 64, 5)


def answering(monkeypatch, **value):
    asked = []

    def ask(module, words, timeout_s):
        asked.append(words)
        return child.Answer(value)

    monkeypatch.setattr(child, "ask", ask)
    return asked


def test_the_remedy_is_the_command_with_these_cameras(monkeypatch, capsys):
    asked = answering(monkeypatch, frames_per_s=40.0, cpu_ms=30.0, flags=[])
    assert main(["doctor", "--recording", "2x640x480@30", "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert asked == [["2x640x480@30"]]
    assert "40 frames/s here; 2 at 30 fps are 60" in finding["message"]
    assert finding["remedy"].startswith("`lerobot-ext codec --cameras 2 --size 640x480 --fps 30`")


def test_flags_that_are_known_are_the_remedy(monkeypatch, capsys):
    answering(monkeypatch, frames_per_s=40.0, cpu_ms=30.0, flags=["--dataset.streaming_encoding=true"])
    assert main(["doctor", "--recording", "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["remedy"] == "record with --dataset.streaming_encoding=true"


def test_a_load_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--recording", "three"])
    assert ended.value.code == 2
    assert "must be like 3x640x480@30" in capsys.readouterr().err


def test_an_encoder_that_kills_its_process_is_a_problem(monkeypatch):
    monkeypatch.setattr(child, "ask", lambda *words: child.Answer(failure="was ended by signal 11"))
    (section,) = recording.CHECK.examine(type("Args", (), {"recording": None}))
    (finding,) = section.findings
    assert (finding.level, finding.kind) == ("problem", "video_libraries")
    assert section.subject == "3 cameras of 640x480 at 30 fps"


def test_the_child_measures_and_recalls(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "default_path", lambda: tmp_path / "flags.json")
    store.remember(SMALL, ["--known"])
    found = look(SMALL)
    assert found["frames_per_s"] > 0
    assert found["cpu_ms"] > 0
    assert found["flags"] == ["--known"]
