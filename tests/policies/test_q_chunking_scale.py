# SPDX-License-Identifier: Apache-2.0
"""Two processes, shards and micro-batches train what one process with the whole batch does."""

from __future__ import annotations

import subprocess
import sys

import pytest
import q_chunking_ranks as ranks
import torch
from stock_cli import environment

from lerobot_ext.training.accumulation import Accumulating
from lerobot_ext.training.config_accumulation import AccumulatedGroupedAdamWConfig, accumulated_preset

CASES = ["distill", "best_of_n", "awr", "cameras", "diffusion"]
WAYS = ["ddp", "fsdp1", "fsdp2"]
cases = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def single():
    """What one process makes of each case."""
    torch.set_num_threads(1)
    return {name: ranks.alone(config) for name, config in ranks.case_configs().items()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes make of them, by way and case."""
    home = tmp_path_factory.mktemp("ranks")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *launcher, ranks.__file__, str(home), *WAYS],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {(way, case): torch.load(home / f"{way}-{case}.pt") for way in WAYS for case in CASES}


def assert_same(found, expected):
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    assert found["state"].keys() == expected["state"].keys()
    for name, value in expected["state"].items():
        torch.testing.assert_close(found["state"][name], value, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.slow
@cases
def test_two_processes_have_the_losses_and_weights_of_one(single, pair, case):
    found = pair["ddp", case]
    assert found["apart"] == 0.0  # averages and targets too, which each rank moves by itself
    assert_same(found, single[case])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fsdp1", "fsdp2"])
@cases
def test_sharded_weights_averages_and_targets_are_those_of_one_process(single, pair, way, case):
    found = pair[way, case]
    assert found["held"] < 0.6  # of all parameters, in each process
    assert_same(found, single[case])


@cases
def test_micro_batches_are_one_batch_and_move_targets_once(single, case):
    config = ranks.case_configs()[case]
    policy, groups = ranks.fresh(config)
    preset = accumulated_preset(AccumulatedGroupedAdamWConfig(accumulation=2), config.get_optimizer_preset())
    optimizer = preset.build(groups)
    assert isinstance(optimizer, Accumulating)
    batch, losses = ranks.rows_of_batch(config), []
    for step in range(ranks.STEPS):
        both = []
        for half in range(2):
            with ranks.noise_of_the_batch(half, 2, step):
                loss, _ = policy.forward(ranks.part_of(batch, half, 2))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if optimizer.take_update("policy"):
                policy.update()
            both.append(float(loss))
            assert int(policy.train_step) == step + half
        losses.append(sum(both) / 2)
    assert_same({"losses": losses, "state": policy.state_dict()}, single[case])
