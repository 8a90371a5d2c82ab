# SPDX-License-Identifier: Apache-2.0
"""The benchmark of plans compares like with like, and puts everything back."""

from __future__ import annotations

import importlib

import pytest
import torch
from lerobot_policy_hierarchical_diffusion import network
from lerobot_policy_hierarchical_diffusion.fast.conditioned import Conditioned
from lerobot_policy_hierarchical_diffusion.sampling import Chain
from small_hierarchical import SMALL


@pytest.fixture
def bench():
    return importlib.import_module("inference_speed")


def test_its_plain_plans_are_the_fast_ones_by_another_way(bench):
    policy = bench.ours(denoiser="unet", ema_decay=0.0, **SMALL)
    work = bench.chunk(policy, bench.observation(policy))
    step = Chain.step
    torch.manual_seed(3)
    fast = work()
    with bench.plainly():
        assert network.Conditioned is not Conditioned
        torch.manual_seed(3)
        plain = work()
    torch.testing.assert_close(plain, fast, rtol=1e-5, atol=1e-5)
    assert network.Conditioned is Conditioned
    assert Chain.step is step


def test_both_sides_run_equally_often_and_in_turn(bench):
    ran = []
    row = bench.compared("w", lambda: ran.append("a"), lambda: ran.append("b"), rounds=3, repeats=2)
    assert "".join(ran) == "ab" + "aabb" * 3
    assert row.before_ms >= 0
    assert row.after_ms >= 0


def test_the_last_line_says_of_how_many_steps_it_speaks(bench):
    def row(what, ratio):
        return bench.Row(what, 2.0, 1.0, ratio)

    exact = [row("one DDIM step", 9.0), row("whole plan, a", 1.5), row("whole plan, b", 1.25)]
    assert bench.summary(exact, []).endswith("whole plans 1.25 to 1.50 times faster than plainly")
    full = [
        row(f"{place}: stock, {name}, {steps}", ratio)
        for place, ratio in (("joints", 900.0), ("two cameras", 500.0))
        for name, steps in (
            (bench.SHIPPED, "100 steps"),
            (bench.SHIPPED, "10 DDIM steps"),
            ("small", "100 steps"),
        )
    ]
    assert "its 100 steps from joints, 500 from two" in bench.summary(exact, full)
    quick = [
        row(f"{place}: stock, {bench.SHIPPED}, 10 of its 100 steps", 90.0) for place in ("joints", "two")
    ]
    assert "with 10 of its 100 steps" in bench.summary([], quick)
