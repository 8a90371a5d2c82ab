# SPDX-License-Identifier: Apache-2.0
"""The line behind a traceback that tells what a policy lacked."""

import logging
import sys

import pytest
import torch
from hub_push_parts import tiny_training

from lerobot_ext import last_words, unfed


@pytest.fixture(autouse=True)
def stock(monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(sys, "excepthook", lambda *error: None)
    monkeypatch.setattr(sys, "argv", ["/bin/lerobot-eval"])


def failure(do, *words):
    with pytest.raises(KeyError) as caught:
        do(*words)
    return caught.value


def take(batch, name):
    return batch[name]


def test_names_are_those_of_lerobot():
    from lerobot.utils import constants

    assert (unfed._PREFIX, unfed._IMAGES) == (constants.OBS_PREFIX, constants.OBS_IMAGES)


def test_stock_act_without_an_environment_state(tmp_path):
    policy = tiny_training.train(tmp_path).policy
    given = {"observation.state": torch.zeros(1, 3), "observation.images.top": torch.zeros(1, 3, 8, 8)}
    said = unfed.explanation(failure(policy.select_action, given))
    assert said.startswith(
        "the policy takes observation.environment_state, and was given observation.images.top, "
        "observation.state. Remedy: choose observations of the environment"
    )
    assert "rename" not in said, "a picture is no environment state"


@pytest.mark.parametrize(
    ("program", "remedy"),
    [
        ("lerobot-eval", "`--env.obs=pixels` for cameras"),
        ("lerobot_eval.py", "`--env.obs=pixels` for cameras"),
        ("lerobot-train", "choose a dataset"),
        ("lerobot-rollout", "`--robot.cameras`"),
    ],
)
def test_the_remedy_is_of_the_command(monkeypatch, program, remedy):
    monkeypatch.setattr(sys, "argv", [f"/bin/{program}"])
    said = unfed.explanation(failure(take, {"observation.state": torch.zeros(1)}, "observation.images.top"))
    assert "was given observation.state. " in said
    assert remedy in said


def test_another_camera_may_take_the_place():
    batch = {"observation.images.front": torch.zeros(1), "action": torch.zeros(1), "task": ["lift"]}
    said = unfed.explanation(failure(take, batch, "observation.images.top"))
    assert """--rename_map='{"observation.images.front": "observation.images.top"}'""" in said
    assert "action" not in said
    assert "task" not in said


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"observation.state": torch.zeros(1)}, "action"),
        ({"observation.state": {"mean": 0.0}}, "observation.images.top"),
        ({}, "observation.state"),
        ({3: torch.zeros(1)}, 4),
    ],
)
def test_other_missing_keys_are_left_alone(table, key):
    assert unfed.explanation(failure(take, table, key)) == ""


@pytest.mark.parametrize(
    "error", [KeyError(), KeyError("observation.state"), ValueError("observation.state"), KeyboardInterrupt()]
)
def test_so_are_other_failures(error):
    assert unfed.explanation(error) == ""


def test_the_hook_speaks_behind_the_one_before(monkeypatch, caplog):
    monkeypatch.setattr(last_words, "_said", [])
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: seen.append(len(caplog.records)))
    unfed.explain_at_the_end()
    ours = sys.excepthook
    unfed.explain_at_the_end()
    assert sys.excepthook is ours, "a second time changes nothing"
    error = failure(take, {"observation.state": torch.zeros(1)}, "observation.environment_state")
    sys.excepthook(type(error), error, error.__traceback__)
    assert seen == [0]
    assert "was given observation.state" in caplog.records[0].getMessage()
    sys.excepthook(ValueError, ValueError("no"), None)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("program", ["pytest", "-c", "my_script.py", "/bin/lerobot-ext"])
def test_other_programs_keep_their_hook(monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program])
    before = sys.excepthook
    unfed.explain_at_the_end()
    assert sys.excepthook is before
