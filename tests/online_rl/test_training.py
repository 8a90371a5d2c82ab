# SPDX-License-Identifier: Apache-2.0
"""Whole runs on a toy environment, in this process."""

import json

import numpy as np
import online_toy
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from online_toy import SMALL, words
from safetensors.torch import load_file

from lerobot_ext.cli.command import CommandError
from lerobot_ext.online_rl import options
from lerobot_ext.online_rl.building import build
from lerobot_ext.online_rl.evaluation import SuccessCurve
from lerobot_ext.online_rl.trainer import Trainer
from lerobot_ext.training.metrics_file import read_metrics

TIMES = ("time", "update_s", "dataloading_s")


def train(plan, stop=lambda: False, tell=lambda report: None):
    plan.folder.mkdir(parents=True, exist_ok=True)
    with build(plan) as parts:
        trainer = Trainer(parts, plan.settings, plan.folder, plan.progress, stop, tell)
        finished = trainer.run()
    return finished, trainer


def rows(path):
    return [
        {"step": step, **{name: value for name, value in row.items() if name not in TIMES}}
        for step, row in read_metrics(path)[1].items()
    ]


@pytest.fixture(scope="module", autouse=True)
def _no_pictures():
    """Drawing takes longer than the rest; `test_the_curve_is_a_table_and_a_picture` does it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuccessCurve, "_draw", lambda curve: None)
        yield


@pytest.fixture(scope="module")
def whole(logs, checkpoint, tmp_path_factory):
    """A run that nobody has stopped."""
    plan = options.fresh(words(checkpoint, logs), SMALL, tmp_path_factory.mktemp("online") / "run")
    finished, trainer = train(plan)
    assert finished
    return plan.folder, trainer


def test_a_run_collects_learns_evaluates_and_saves(whole, checkpoint):
    folder, trainer = whole
    done = trainer.progress
    assert done.env_steps >= 30
    assert done.updates == done.env_steps - 10
    metrics = rows(folder / "metrics.csv")
    assert {"loss", "grad_norm", "q_of_actor", "updates", "replay_frames"} <= metrics[-1].keys()
    assert int(metrics[-1]["updates"]) == done.updates
    curve = rows(folder / "online.csv")
    assert int(curve[0]["step"]) == 0
    assert int(curve[-1]["step"]) == done.env_steps
    assert float(curve[0]["env/success_low"]) <= float(curve[0]["env/pc_success"])
    before, after = (
        load_file(place / "model.safetensors")
        for place in (checkpoint, folder / "checkpoints/last/pretrained_model")
    )
    assert after["train_step"] == done.updates
    assert any(not before[name].equal(after[name]) for name in before if name.startswith("target."))


def test_what_was_collected_is_a_dataset_for_every_tool(whole):
    folder, trainer = whole
    dataset = LeRobotDataset("online/run", root=folder / "replay", video_backend="pyav")
    assert dataset.num_episodes == trainer.progress.episodes
    assert dataset.num_frames == trainer.progress.env_steps
    assert dataset.meta.features["action"]["names"] == ["dx", "dy"]
    assert not (folder / "replay/meta/journal").exists()
    ends = [bool(row["next.done"]) for row in dataset.hf_dataset]
    assert sum(ends) == dataset.num_episodes


def test_statistics_stay_those_of_the_checkpoint(whole, checkpoint):
    folder, _ = whole
    [name] = [
        path.name
        for path in checkpoint.glob("*_normalizer_processor.safetensors")
        if "unnorm" not in path.name
    ]
    one, two = load_file(checkpoint / name), load_file(folder / "checkpoints/last/pretrained_model" / name)
    assert all(one[key].equal(two[key]) for key in one)


class StopAfter:
    """Says stop from the n-th question on."""

    def __init__(self, questions):
        self.left = questions

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("questions", [3, 14])  # within an episode, among updates
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(whole, logs, checkpoint, tmp_path, questions):
    folder = tmp_path / "run"
    plan = options.fresh(words(checkpoint, logs), SMALL, folder)
    finished, _ = train(plan, StopAfter(questions))
    assert not finished
    finished, trainer = train(options.resumed([], {}, folder))
    assert finished
    assert trainer.progress == whole[1].progress
    assert rows(folder / "online.csv") == rows(whole[0] / "online.csv")
    one, two = (
        load_file(place / "checkpoints/last/pretrained_model/model.safetensors")
        for place in (whole[0], folder)
    )
    assert all(one[name].equal(two[name]) for name in one)
    kept = {row["step"]: row for row in rows(folder / "metrics.csv")}
    assert {row["step"] for row in rows(whole[0] / "metrics.csv")} == kept.keys()
    assert rows(folder / "metrics.csv")[-1]["loss"] == rows(whole[0] / "metrics.csv")[-1]["loss"]


class Killed(BaseException):
    pass


def test_episodes_beyond_the_last_checkpoint_are_used_again_after_a_crash(whole, logs, checkpoint, tmp_path):
    """As a kill leaves it: an older checkpoint, and a replay that has gone on."""
    folder = tmp_path / "run"

    def crash(report):
        if report.progress.env_steps > 18:
            raise Killed

    with pytest.raises(Killed):
        train(options.fresh(words(checkpoint, logs), SMALL, folder), tell=crash)
    collected = LeRobotDataset("online/run", root=folder / "replay", video_backend="pyav").num_episodes
    plan = options.resumed([], {}, folder)
    assert plan.progress.episodes < collected
    finished, trainer = train(plan)
    assert finished
    assert trainer.progress == whole[1].progress
    one, two = (
        load_file(place / "checkpoints/last/pretrained_model/model.safetensors")
        for place in (whole[0], folder)
    )
    assert all(one[name].equal(two[name]) for name in one)


def test_an_environment_that_pays_otherwise_is_refused(logs, checkpoint, tmp_path):
    plan = options.fresh(
        words(checkpoint, logs, "--env.pays=5"), {**SMALL, "online_steps": 400}, tmp_path / "run"
    )
    with pytest.raises(
        CommandError, match=r"pays 0 for an ordinary frame and 5 for success, the prior data 0 .* 1 "
    ):
        train(plan)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"utd": 0.0}, "`utd`"),
        ({"prior_share": 1.5}, "`prior_share`"),
        ({"n_envs": 0}, "`n_envs`"),
        ({"replay_frames": 2}, "`replay_frames`"),
    ],
)
def test_settings_without_a_meaning_are_refused(logs, checkpoint, tmp_path, given, message):
    with pytest.raises(CommandError, match=message):
        options.fresh(words(checkpoint, logs), given, tmp_path / "run")


def test_what_is_missing_is_named(logs, checkpoint, tmp_path):
    every = words(checkpoint, logs)
    for place, message in ((0, "policy to go on with"), (1, "no environment"), (2, "no dataset")):
        rest = [word for number, word in enumerate(every) if number != place]
        with pytest.raises(CommandError, match=message):
            options.fresh(rest, {}, tmp_path / "run")


def test_only_what_changes_nothing_may_be_given_to_a_resumed_run(whole):
    folder, _ = whole
    assert options.resumed([], {"online_steps": 500}, folder).settings.online_steps == 500
    with pytest.raises(CommandError, match="--utd cannot be changed"):
        options.resumed([], {"utd": 2.0}, folder)
    with pytest.raises(CommandError, match=r"--env\.type=koch cannot be changed"):
        options.resumed(["--env.type=koch"], {}, folder)


def test_a_policy_that_only_imitates_is_refused(logs, tmp_path):
    clone = online_toy.write_checkpoint(tmp_path / "bc", logs, extraction="bc")
    plan = options.fresh(words(clone, logs), SMALL, tmp_path / "run")
    with pytest.raises(CommandError, match="learns no values"):
        train(plan)


def test_an_environment_that_does_not_show_what_the_policy_sees_is_refused(tmp_path):
    root = online_toy.write_logs(tmp_path / "logs", episodes=2, video=True)
    checkpoint = online_toy.write_checkpoint(tmp_path / "lapo", root)
    plan = options.fresh(words(checkpoint, root), SMALL, tmp_path / "run")
    with pytest.raises(CommandError, match=r"shows no observation\.images\.top"):
        train(plan)


def test_settings_and_progress_are_read_back(whole):
    folder, trainer = whole
    state = json.loads((folder / "checkpoints/last/training_state/online.json").read_text())
    assert state["progress"]["episodes"] == trainer.progress.episodes
    assert state["settings"]["batch_size"] == 6
    assert np.isclose(state["settings"]["utd"], 1.0)
