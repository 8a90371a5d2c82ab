# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext pipeline` of a checkpoint, in a process that has imported no policy before."""

import json
from pathlib import Path

import pytest
from hub_push_parts import tiny_training
from step_files import step, write
from stock_cli import run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "checkpoint"
    return tiny_training.train(folder.parent).save(folder)


def pipeline(home, *words):
    return run(home, "lerobot-ext", "pipeline", *map(str, words))


@pytest.mark.parametrize("action", ["show", "check"])
def test_a_checkpoint_of_a_stock_policy_is_read(tmp_path, checkpoint, action):
    done = pipeline(tmp_path, action, checkpoint, "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert [one["name"] for one in json.loads(done.stdout)["pipelines"]] == [
        "policy_preprocessor",
        "policy_postprocessor",
    ]


def test_steps_are_timed_for_a_checkpoint_and_added_to_it(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "helpers"))  # the toy step
    steps = write(tmp_path / "steps.json", policy_preprocessor=[step("Offset")])
    policy = f"--policy.path={checkpoint}"
    for words in (
        ["bench", checkpoint, "--frames=10"],
        ["check", steps, policy],
        ["add", policy, f"--steps={steps}", "--dry-run"],
    ):
        done = pipeline(tmp_path, *words)
        assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_a_policy_that_nobody_has_is_one_line_and_a_remedy(tmp_path, checkpoint):
    file = checkpoint / "config.json"
    stock = file.read_text()
    file.write_text(json.dumps(json.loads(stock) | {"type": "of_nobody"}))
    try:
        done = pipeline(tmp_path, "show", checkpoint)
    finally:
        file.write_text(stock)
    assert done.returncode == 2
    said = done.stderr.splitlines()[-2:]
    assert said[0].startswith(f"lerobot-ext: {checkpoint} cannot be loaded: ")
    assert "of_nobody" in said[0]
    assert f"lerobot-ext doctor --policy.path={checkpoint}" in said[1]


def test_a_type_alone_is_refused_with_what_is_taken(tmp_path, checkpoint):
    done = pipeline(tmp_path, "check", checkpoint, "--policy.type=act")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        "lerobot-ext: --policy.type=act names no checkpoint, and only a checkpoint has steps and statistics",
        "  remedy: say --policy.path=RUN/checkpoints/last/pretrained_model",
    ]
