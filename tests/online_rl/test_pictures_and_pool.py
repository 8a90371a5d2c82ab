# SPDX-License-Identifier: Apache-2.0
"""Cameras: prior data as videos from the memory pool, collected pictures beside them."""

import online_toy
import pytest
from online_toy import SMALL, words

from lerobot_ext.data import hook, ram_reader
from lerobot_ext.data.pool import opening, sampler
from lerobot_ext.data.pool.budget import POOL
from lerobot_ext.online_rl import options
from lerobot_ext.online_rl.building import build
from lerobot_ext.online_rl.evaluation import SuccessCurve
from lerobot_ext.online_rl.trainer import Trainer


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(opening, "_held", [])
    monkeypatch.setattr(SuccessCurve, "_draw", lambda curve: None)
    yield
    ram_reader.uninstall()
    sampler.uninstall()


def test_prior_pictures_come_from_a_pool_that_holds_some_episodes_at_a_time(tmp_path, monkeypatch, caplog):
    root = online_toy.write_logs(tmp_path / "logs", episodes=10, video=True)
    checkpoint = online_toy.write_checkpoint(tmp_path / "pretrained_model", root)
    monkeypatch.setenv(POOL, "0.2MiB")
    hook.install_where_datasets_are_read()
    plan = options.fresh(
        words(checkpoint, root, "--env.pixels=true"),
        {**SMALL, "online_steps": 14, "warmup_steps": 8, "eval_freq": 0},
        tmp_path / "run",
    )
    plan.folder.mkdir()
    with caplog.at_level("INFO", logger="lerobot_ext"), build(plan) as parts:
        trainer = Trainer(parts, plan.settings, plan.folder)
        assert trainer.run()
        [pool] = opening.rotating_pools()
        assert pool.served
    assert "frames at a time of 10 episodes" in caplog.text
    assert trainer.progress.updates >= 6
    kept = parts.disk.load()
    assert kept[0].columns[online_toy.CAMERA].shape[1:] == (32, 48, 3)
