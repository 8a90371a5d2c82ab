# SPDX-License-Identifier: Apache-2.0
"""A mix of datasets tells how its episodes ended and what they earned, and LAPO trains on it."""

from __future__ import annotations

import logging

import pytest
import torch
from lerobot.utils.feature_utils import dataset_to_policy_features
from lerobot_policy_lapo import LAPOConfig, LAPOPolicy
from mixes import entry, write_spec
from rewarded import write_rewarded
from safetensors.torch import load_file
from stock_loop import LOOP, train

from lerobot_ext.mixing.dataset import MixedDataset
from lerobot_ext.mixing.survey import survey
from lerobot_ext.offline_rl.labels import read_episodes

SMALL = [
    "--policy.type=lapo",
    "--policy.device=cpu",
    "--policy.push_to_hub=false",
    "--policy.hidden_dim=16",
    "--policy.obs_feature_dim=16",
    "--policy.chunk_size=2",
    "--policy.n_action_steps=2",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    write_rewarded(folder / "a", (4, 5, 6), (True, False, True))
    write_rewarded(folder / "b", (7, 3), (False, True), reward="next.score")
    return folder


def spec(folder, **keys):
    renamed = entry(folder / "b", rename={"next.score": "next.reward"})
    return write_spec(
        folder / "mix.yaml", entry(folder / "a", episodes=[0, 2]), renamed, weights="by_frames", **keys
    )


def test_episodes_are_numbered_as_the_mix_numbers_them(folder):
    data = MixedDataset(survey(spec(folder)).checked())
    episodes = read_episodes(data.meta)
    assert episodes.start.tolist() == [0, 4, 10, 17]
    assert episodes.end.tolist() == [4, 10, 17, 20]
    assert episodes.success.tolist() == [True, True, False, True]
    assert [rewards.sum() for rewards in episodes.rewards] == [1, 1, 0, 1]
    for number in (0, 5, 16, 19):  # of what the training loop hands over
        item = data[number]
        of_episode = int(item["episode_index"])
        place = int(item["index"]) - episodes.start[of_episode]
        assert float(item["next.reward"]) == episodes.rewards[of_episode][place]


def test_a_column_that_the_mix_lacks_says_nothing(folder):
    path = write_spec(
        folder / "less.yaml",
        entry(folder / "a", drop=["next.success"]),
        entry(folder / "b", rename={"next.score": "next.reward"}),
        features="intersection",
    )
    episodes = read_episodes(MixedDataset(survey(path).checked()).meta)
    assert episodes.success is None
    assert episodes.automatic_mode == "done_flag"


def test_lapo_trains_on_a_mix_with_its_terminals_and_resumes_bit_equal(folder, tmp_path, monkeypatch, caplog):
    from lerobot.scripts import lerobot_train

    from lerobot_ext.mixing import train_hooks

    train_hooks.uninstall()  # a test before may have loaded all plugins
    assert train_hooks.install(lerobot_train)
    try:
        words = [f"--dataset.repo_id={spec(folder)}", *SMALL, *LOOP, "--steps=4", "--save_freq=2"]
        with caplog.at_level(logging.INFO):
            train(monkeypatch, *words, f"--output_dir={tmp_path / 'run'}")
        assert "4 episodes, 3 end in a terminal state (terminal_mode auto: success)" in caplog.text
        last = tmp_path / "run/checkpoints/000004/pretrained_model"
        whole = load_file(last / "model.safetensors")
        middle = tmp_path / "run/checkpoints/000002/pretrained_model/train_config.json"
        train(monkeypatch, f"--config_path={middle}", "--resume=true")
    finally:
        train_hooks.uninstall()
    again = load_file(last / "model.safetensors")
    assert all(again[name].equal(tensor) for name, tensor in whole.items())


def test_filtered_cloning_finds_the_best_episodes_of_a_mix(folder):
    meta = MixedDataset(survey(spec(folder)).checked()).meta
    features = dataset_to_policy_features(meta.features)
    config = LAPOConfig(
        device="cpu",
        extraction="filtered_bc",
        filter_share=0.5,
        input_features={"observation.state": features["observation.state"]},
        output_features={"action": features["action"]},
    )
    policy = LAPOPolicy(config, dataset_stats=meta.stats, dataset_meta=meta)
    batch = {"episode_index": torch.arange(4)}
    assert policy.labels.best(batch, 0.5).tolist() == [True, False, False, True]  # the shorter successes
