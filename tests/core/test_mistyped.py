# SPDX-License-Identifier: Apache-2.0
"""The hint for a checkpoint or a dataset that is not where the command line says."""

import logging

import pytest

from lerobot_ext import mistyped


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, caplog):
    """A folder with a run, its checkpoint and a dataset, which the process is in."""
    caplog.set_level(logging.WARNING)
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "outputs" / "lift" / "checkpoints" / "last" / "pretrained_model"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (tmp_path / "data" / "lift" / "meta").mkdir(parents=True)
    (tmp_path / "data" / "lift" / "meta" / "info.json").write_text("{}")
    return tmp_path


def told(caplog, *words, program="/bin/lerobot-train"):
    mistyped.hint([program, *words])
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--policy.path"],
        ["--policy.path="],
        ["--policy.type=act", "--dataset.root=data/lift"],
        ["--policy.path=outputs/lift/checkpoints/last/pretrained_model"],
        ["--policy.path=me/lift"],
        ["--policy.path=pi0"],
    ],
)
def test_what_is_there_or_on_the_hub_needs_no_hint(caplog, words):
    assert told(caplog, *words) == []


@pytest.mark.parametrize("option", mistyped.CHECKPOINTS)
def test_a_runs_folder_is_answered_with_its_checkpoint(caplog, option):
    [line] = told(caplog, f"{option}=outputs/lift")
    assert line.startswith(f"lerobot_ext: {option}=outputs/lift: this is the folder of a run")
    assert "name `outputs/lift/checkpoints/last/pretrained_model`" in line


@pytest.mark.parametrize("program", ["/bin/lerobot-ext", "/bin/pytest", "-c"])
def test_commands_of_ours_and_others_are_left_alone(caplog, program):
    assert told(caplog, "--policy.path=outputs/lift", program=program) == []


def test_a_script_of_lerobot_is_its_command(caplog):
    assert told(caplog, "--policy.path=outputs/lift", program="/site/lerobot/scripts/lerobot_eval.py")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("outputs/lifd/checkpoints/last/pretrained_model", "is `outputs/lift` meant?"),
        ("outputs/lifd", "is `outputs/lift` meant?"),
        ("output/lift", ""),
        ("./output/lift/checkpoints", "is `outputs` meant?"),
        ("outputs/reach", "`outputs` holds lift"),
        ("outputs/lift/checkpoints/zz", "`outputs/lift/checkpoints` holds last"),
    ],
)
def test_a_path_that_is_not_there_is_answered_with_what_is(caplog, name, said):
    """`output/lift` may as well be a repository of the Hub."""
    lines = told(caplog, "--policy.path", name)
    assert len(lines) == bool(said)
    assert all(said in line and "LeRobot asks the Hub for it" in line for line in lines)


def test_a_folder_without_a_checkpoint_is_one(caplog):
    [line] = told(caplog, "--policy.path=data/lift")
    assert "holds no checkpoint" in line


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("data/lifd", "there is no such folder (is `data/lift` meant?); LeRobot asks the Hub for me/lift"),
        ("data", "no meta/info.json is in it, so LeRobot asks the Hub for me/lift"),
    ],
)
def test_a_dataset_that_is_not_there_is_told_where_it_is_read(caplog, root, said):
    words = [f"--dataset.root={root}", "--dataset.repo_id=me/lift"]
    assert said in told(caplog, *words)[0]
    caplog.clear()
    assert told(caplog, *words, program="/bin/lerobot-record") == [], "a recording makes its folder"
