# SPDX-License-Identifier: Apache-2.0
"""A run that is resumed after its first epoch sees the data that it would have seen."""

import shutil

import pytest
from lerobot.datasets.sampler import EpisodeAwareSampler
from safetensors.torch import load_file
from stock_loop import LOOP, POLICY, train, write_dataset

from lerobot_ext.training import data_order

# 48 frames, 6 steps an epoch: step 8 is the second of the second epoch.
WORDS = [*POLICY, *LOOP, "--batch_size=8", "--seed=3", "--steps=11", "--save_freq=8"]


@pytest.fixture
def stock():
    """A test before, in this process, may have loaded all plugins."""
    data_order.uninstall()
    yield
    data_order.uninstall()


def largest_difference(one, other):
    one, other = (
        load_file(run / "checkpoints/000011/pretrained_model/model.safetensors") for run in (one, other)
    )
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path, monkeypatch, stock):
    words = [word for word in WORDS if word != "--batch_size=2"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(monkeypatch, *write_dataset(tmp_path / "data"), *words, f"--output_dir={broken}")
    shutil.copytree(broken, whole)
    config = broken / "checkpoints/000008/pretrained_model/train_config.json"

    train(monkeypatch, f"--config_path={config}", "--resume=true")
    # When this fails, LeRobot or accelerate has mended it, and `data_order` can go.
    assert largest_difference(whole, broken) > 1e-6

    assert data_order.install()
    train(monkeypatch, f"--config_path={config}", "--resume=true")
    assert largest_difference(whole, broken) < 1e-7


def test_without_a_resume_it_is_stocks_own(stock):
    def sampler():
        return EpisodeAwareSampler([0], [10], shuffle=True, seed=1)

    before = sampler()
    before.set_epoch(3)
    data_order.install()
    after = sampler()
    after.set_epoch(3)
    assert list(after) == list(before)
