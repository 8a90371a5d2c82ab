# SPDX-License-Identifier: Apache-2.0
"""The parts of `lerobot-ext memory`: sizes, roles, the count of what lives, the options."""

import gc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lerobot_ext.cli.main import main
from lerobot_ext.memory.live import LiveBytes
from lerobot_ext.memory.roles import copies
from lerobot_ext.memory.sizes import read_size, write_size


@given(st.integers(1, 10**15))
def test_a_size_reads_back_to_three_digits(size):
    assert abs(read_size(write_size(size)) - size) <= 0.006 * size


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 * 2**30), ("1.5 GB", 1_500_000_000), ("512mib", 2**29), ("1e9", 10**9)]
)
def test_sizes_of_both_kinds_are_understood(text, size):
    assert read_size(text) == size


@given(st.text(max_size=8))
def test_what_is_no_size_is_refused(text):
    try:
        assert read_size(text) > 0
    except ValueError as error:
        assert "24GiB" in str(error)  # noqa: PT017 - either answer is right, by the text


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.actor, self.critic, self.frozen = nn.Linear(3, 2), nn.Linear(4, 1), nn.Linear(9, 9)
        self.critic_target, self.ema_actor = nn.Linear(4, 1), nn.Linear(3, 2)
        self.target_of_another_kind, self.teacher = nn.Linear(7, 7), nn.Linear(3, 2)
        for part in (
            self.frozen,
            self.critic_target,
            self.ema_actor,
            self.target_of_another_kind,
            self.teacher,
        ):
            part.requires_grad_(False)


def test_copies_are_frozen_twins_that_say_so_in_their_names():
    assert copies(Agent()) == {"critic_target": "target", "ema_actor": "ema"}


def test_a_target_that_is_trained_is_no_copy():
    agent = Agent()
    agent.critic_target.requires_grad_(True)
    assert copies(agent) == {"ema_actor": "ema"}


def test_a_storage_counts_once_and_until_nobody_looks_at_it():
    live = LiveBytes(nn.Identity())
    with live.watching():
        values = torch.zeros(1000)
        view = values[10:20]
        assert live.now == 4000
        del values
        gc.collect()
        assert live.now == 4000
        del view
        gc.collect()
        assert live.now == 0
        more = values_of_two = torch.ones(10) + torch.ones(10)
        assert live.now == 40
        live.restart_peak()
        assert live.peak == 40
        del more, values_of_two
    assert live.now == 0


def test_what_was_there_before_is_not_counted_and_makers_are_named():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    inputs = torch.zeros(2, 4)
    live = LiveBytes(net)
    live.ignore([inputs, list(net.parameters())])
    with live.watching():
        outputs = net(inputs)
    assert live.by_module() == {"1": 64}  # of a ReLU only its result is needed for the way back
    assert outputs.shape == (2, 8)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "there is no policy"),
        (["--policy.type=no_such"], "there is no policy 'no_such'"),
        (["--policy.type=act", "--policy.path=x"], "name one policy"),
        (["--policy.type=act", "--policy.dim_modl=3"], "--policy options cannot be read"),
        (["--policy.type=act", "--optimizer.type=adagrad"], "--optimizer options cannot be read"),
        (["--policy.path=/no/such/folder"], "there is no such folder"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(words, says, capsys):
    assert main(["memory", *words]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--memory", "much"], ["--batch_size", "0"], ["--pictures", "480"], ["--measure", "never"]]
)
def test_bad_values_of_our_own_options_are_refused(words):
    with pytest.raises(SystemExit) as raised:
        main(["memory", "--policy.type=act", *words])
    assert raised.value.code == 2
