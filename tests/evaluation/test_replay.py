# SPDX-License-Identifier: Apache-2.0
"""A policy whose error is known, on a dataset of known numbers."""

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from open_loop import LENGTHS, TASKS, Echo, action_at, loaded, write_dataset

from lerobot_ext.cli.command import CommandError
from lerobot_ext.evaluation.baselines import HOLD
from lerobot_ext.evaluation.episodes import read_recordings
from lerobot_ext.evaluation.offline import PolicyResult, evaluate
from lerobot_ext.evaluation.replay import NoChunks, Plan, replay

OFFSET = (0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("known") / "data", camera=True)
    return LeRobotDataset("user/known", root=root)


def run(dataset, policy, plan):
    recordings = read_recordings(dataset)
    said = replay(loaded(policy), dataset, recordings.episodes, plan)
    return evaluate(recordings, plan, [PolicyResult("echo", dataset.root, "echo", "cpu", said)])


def test_one_more_in_one_joint_is_an_error_of_one_in_that_joint(dataset):
    found = run(dataset, Echo(OFFSET), Plan(select=True, chunk=False))
    whole = found.policies[0].modes["select"].errors.whole
    assert whole.n == sum(LENGTHS)
    assert [entry.value for entry in whole.joint_mse] == [0.0, 0.0, 1.0]
    assert [entry.value for entry in whole.joint_l1] == [0.0, 0.0, 1.0]
    assert whole.joint_max == [0.0, 0.0, 1.0]
    assert whole.mse.value == pytest.approx(1 / 3)
    assert (whole.mse.low, whole.mse.high) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    held = found.baselines["select"][HOLD].whole
    assert [entry.value for entry in held.joint_l1] == [2.0, 2.0, 2.0]


def test_queued_actions_are_compared_with_the_frames_they_are_executed_at(dataset):
    found = run(dataset, Echo((0.0, 0.0, 0.0), n_action_steps=2, horizon=2), Plan(select=True, chunk=False))
    policy = found.policies[0]
    # Every second action is of the frame before, where pan was one less.
    late = sum(length // 2 for length in LENGTHS)
    whole = policy.modes["select"].errors.whole
    assert whole.joint_l1[0].value == pytest.approx(late / sum(LENGTHS))
    assert policy.replay.planned == {0: [0, 2], 1: [0, 2, 4, 6], 2: [0, 2, 4]}
    even = policy.modes["select"].smoothness
    assert even is not None
    assert even.boundaries == sum((length + 1) // 2 - 1 for length in LENGTHS)


def test_a_chunk_is_compared_step_by_step_and_not_behind_the_end(dataset):
    found = run(dataset, Echo((0.0, 0.0, 0.0), horizon=3), Plan(select=False, chunk=True, every=2))
    steps = found.policies[0].modes["chunk"].errors.by_horizon
    # Pan moves one a frame, a chunk stands still.
    assert [step.joint_l1[0].value for step in steps] == pytest.approx([0.0, 1.0, 2.0])
    assert [step.joint_l1[1].value for step in steps] == [0.0, 0.0, 0.0]
    starts = [range(0, length, 2) for length in LENGTHS]
    for step, entry in enumerate(steps):
        reached = [start + step < length for length, of in zip(LENGTHS, starts, strict=True) for start in of]
        assert entry.n == sum(reached)
    assert found.policies[0].replay.chunks[1].shape == (4, 3, 3)


def test_tasks_are_told_apart(dataset):
    found = run(dataset, Echo(OFFSET), Plan(select=True, chunk=False))
    parts = found.policies[0].modes["select"].errors.by_task
    counts = {
        task: sum(n for n, name in zip(LENGTHS, TASKS, strict=True) if name == task) for task in set(TASKS)
    }
    assert {task: entry.n for task, entry in parts.items()} == counts


@pytest.mark.parametrize("batch_size", [2, 3])
def test_episodes_side_by_side_give_what_they_give_alone(dataset, batch_size):
    plans = [Plan(select=True, chunk=True, every=2, batch_size=size) for size in (1, batch_size)]
    alone, together = (
        run(dataset, Echo(OFFSET, n_action_steps=3, horizon=4), plan).policies[0].replay for plan in plans
    )
    assert alone.planned == together.planned
    for index in range(3):
        assert np.array_equal(alone.selected[index], together.selected[index])
        assert np.array_equal(alone.chunks[index], together.chunks[index])


def test_the_policy_sees_what_a_robot_would_give_it(dataset):
    policy = loaded(Echo(OFFSET))
    recordings = read_recordings(dataset)
    replay(policy, dataset, recordings.episodes[1:2], Plan(select=True, chunk=False))
    seen = policy.preprocessor.seen[3]
    assert set(seen) == {
        "observation.state",
        "observation.environment_state",
        "observation.images.top",
        "task",
        "robot_type",
    }
    image = seen["observation.images.top"]
    assert (image.shape, image.dtype) == ((1, 3, 24, 32), torch.float32)
    assert image.unique().tolist() == pytest.approx([43 / 255])
    assert seen["task"] == ["place"]
    assert seen["observation.state"].tolist() == [(action_at(1, 3) + 2).tolist()]


@pytest.mark.parametrize(("history", "frames", "resets"), [(1, 0, 10), (2, 16, 3)])
def test_frames_between_chunks_are_shown_only_to_a_policy_that_remembers(dataset, history, frames, resets):
    policy = Echo(OFFSET, horizon=2, history=history)
    before = policy.resets
    done = []
    recordings = read_recordings(dataset)
    plan = Plan(select=False, chunk=True, every=3)
    replay(loaded(policy), dataset, recordings.episodes, plan, done.append)
    assert policy.seen == frames
    assert policy.resets - before == resets
    assert sum(done) == recordings.n_frames


def test_chunks_that_are_asked_for_do_not_change_what_a_policy_draws(dataset):
    class Noisy(Echo):
        def predict_action_chunk(self, batch):
            chunk = super().predict_action_chunk(batch)
            return chunk + torch.randn(chunk.shape)

    selected = [
        run(dataset, Noisy(OFFSET), Plan(select=True, chunk=chunk, every=2)).policies[0].replay.selected
        for chunk in (False, True, False)
    ]
    for index in range(3):
        assert np.array_equal(selected[0][index], selected[1][index])
        assert np.array_equal(selected[0][index], selected[2][index])


def test_the_first_call_is_no_part_of_the_latency(dataset):
    found = run(dataset, Echo(OFFSET, horizon=2), Plan(select=True, chunk=True, every=2))
    modes = found.policies[0].modes
    assert modes["select"].latency["select_action"].calls == sum(LENGTHS) - 1
    assert modes["chunk"].latency["predict_action_chunk"].calls == 2 + 4 + 3 - 1


class Failing(Echo):
    def select_action(self, batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


class Silent(Echo):
    def select_action(self, batch):
        return super().select_action(batch) * torch.tensor([1.0, float("nan"), 1.0])


class Narrow(Echo):
    def select_action(self, batch):
        return super().select_action(batch)[:, :2]


class StepByStep(Echo):
    def predict_action_chunk(self, batch):
        raise NotImplementedError

    def select_action(self, batch):
        return batch["observation.environment_state"] + self.offset


@pytest.mark.parametrize(
    ("policy", "says", "remedy"),
    [
        (Failing, "RuntimeError: mat1 and mat2", "inspect-batch"),
        (Silent, "NaN or infinity for joint 1 at frame 0 of episode 0 \\(4 such", "doctor"),
        (Narrow, r"gave shape \(1, 2\); the dataset's actions want \(1, 3\)", "inspect-batch"),
    ],
)
def test_a_policy_that_fails_is_named_with_the_reason(dataset, policy, says, remedy):
    with pytest.raises(CommandError, match=says) as refused:
        run(dataset, policy(OFFSET), Plan(select=True, chunk=False))
    assert remedy in refused.value.remedy


def test_a_policy_without_chunks_is_told_from_one_that_fails(dataset):
    with pytest.raises(NoChunks):
        run(dataset, StepByStep(OFFSET), Plan(select=True, chunk=True))
    found = run(dataset, StepByStep(OFFSET), Plan(select=True, chunk=False))
    assert found.policies[0].modes["select"].smoothness is None
    assert found.modes == ["select"]


def test_chunks_of_different_lengths_are_compared_over_the_shorter(dataset):
    recordings = read_recordings(dataset)
    plan = Plan(select=False, chunk=True, every=2)
    results = []
    for horizon in (2, 4):
        said = replay(loaded(Echo(OFFSET, horizon=horizon)), dataset, recordings.episodes, plan)
        results.append(PolicyResult(f"echo {horizon}", dataset.root, "echo", "cpu", said))
    found = evaluate(recordings, plan, results)
    assert found.horizon == 2
    short, long = (found.predictors("chunk")[name] for name in ("echo 2", "echo 4"))
    assert short.whole == long.whole
    assert (len(short.by_horizon), len(long.by_horizon)) == (2, 4)
    assert len(found.baselines["chunk"][HOLD].by_horizon) == 4


def test_the_policy_is_left_as_it_was(dataset):
    policy = Echo(OFFSET)
    run(dataset, policy, Plan(select=True, chunk=False))
    assert "predict_action_chunk" not in vars(policy)
