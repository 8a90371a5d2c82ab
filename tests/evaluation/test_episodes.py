# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from open_loop import LENGTHS, NAMES, TASKS, action_at, write_dataset

from lerobot_ext.cli.command import CommandError
from lerobot_ext.evaluation.baselines import HOLD, MEAN, PREVIOUS, baselines
from lerobot_ext.evaluation.episodes import _flat, held_out, parse_episodes, read_recordings


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("3", [3]),
        ("-1", [9]),
        ("0:3", [0, 1, 2]),
        ("-2:", [8, 9]),
        ("::4", [0, 4, 8]),
        (":", list(range(10))),
        ("8:99", [8, 9]),
        ("1,0:3, 9", [1, 0, 2, 9]),
    ],
)
def test_episodes_are_chosen_as_python_slices(text, chosen):
    assert parse_episodes(text, 10) == chosen


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no episode and no range"),
        ("a", "'a' is no episode"),
        ("1:2:0", "no episode and no range"),
        ("1:2:3:4", "no episode and no range"),
        ("10", "there is no episode 10"),
        ("-11", "there is no episode -11"),
        ("5:5", "names no episode"),
        ("1,,2", "'' is no episode"),
    ],
)
def test_what_names_no_episode_is_refused(text, says):
    with pytest.raises(CommandError, match=says) as refused:
        parse_episodes(text, 10)
    assert refused.value.remedy


@given(st.text(alphabet="0123456789:-, a", max_size=12), st.integers(1, 20))
def test_any_text_gives_episodes_that_are_there_or_one_clear_error(text, total):
    try:
        chosen = parse_episodes(text, total)
    except CommandError:
        return
    assert chosen
    assert len(set(chosen)) == len(chosen)
    assert all(0 <= index < total for index in chosen)


@pytest.mark.parametrize("fraction", [0.1, 0.34, 0.5])
def test_the_held_out_episodes_are_those_of_the_stock_trainer(tmp_path, fraction):
    from lerobot.configs.default import DatasetConfig
    from lerobot.configs.train import TrainPipelineConfig
    from lerobot.datasets.factory import make_train_eval_datasets
    from lerobot.policies.act.configuration_act import ACTConfig

    root = write_dataset(tmp_path / "data")
    options = DatasetConfig("user/known", root=str(root), eval_split=fraction)
    cfg = TrainPipelineConfig(dataset=options, policy=ACTConfig(device="cpu", push_to_hub=False))
    try:
        _, stock = make_train_eval_datasets(cfg)
    except ValueError:  # nothing is left to train on
        pytest.skip("stock refuses so large a part")
    assert stock is not None
    meta = LeRobotDataset("user/known", root=root).meta
    assert held_out(range(3), meta.episodes["tasks"], fraction) == stock.episodes


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    root = write_dataset(tmp_path_factory.mktemp("known") / "data")
    return read_recordings(LeRobotDataset("user/known", root=root, episodes=[0, 2]))


def test_chosen_episodes_are_read_with_rows_and_tasks(recordings):
    first, second = recordings.episodes
    assert (first.index, first.first, len(first)) == (0, 0, LENGTHS[0])
    assert (second.index, second.first, len(second)) == (2, LENGTHS[0], LENGTHS[2])
    assert set(second.tasks) == {TASKS[2]}
    assert recordings.joints == NAMES
    assert second.actions[3].tolist() == action_at(2, 3).tolist()
    assert second.states is not None
    assert second.states[3].tolist() == (action_at(2, 3) + 2).tolist()


def test_baselines_say_what_their_names_promise(recordings):
    found = baselines(recordings)
    episode = recordings.episodes[1]
    assert list(found) == [HOLD, PREVIOUS, MEAN]
    assert found[HOLD](episode)[1].tolist() == (action_at(2, 1) + 2).tolist()
    assert found[PREVIOUS](episode)[2].tolist() == action_at(2, 1).tolist()
    # Of the whole dataset, also where only a part of it is looked at.
    frames = [action_at(index, frame) for index in range(3) for frame in range(LENGTHS[index])]
    assert found[MEAN](episode)[0].tolist() == pytest.approx((sum(frames) / len(frames)).tolist())


def test_a_state_of_other_joints_is_not_held(tmp_path):
    root = write_dataset(tmp_path / "data")
    dataset = LeRobotDataset("user/known", root=root)
    dataset.meta.info.features["observation.state"]["names"] = ["x", "y", "z"]
    assert HOLD not in baselines(read_recordings(dataset))


@pytest.mark.parametrize(
    "names", [["a", "b"], {"motors": ["a", "b"]}, {"a": 0, "b": 1}, {"left": ["a"], "right": ["b"]}]
)
def test_names_are_understood_in_all_forms_that_datasets_have(names):
    assert _flat(names) == ["a", "b"]
