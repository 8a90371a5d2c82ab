# SPDX-License-Identifier: Apache-2.0
"""Smoothing: the two filters against slow versions, and angles, chunks and values that are not finite."""

import math

import numpy as np
import pytest
import torch
from lerobot.processor.converters import create_transition
from lerobot_robot_processors.steps.smoothing import EmaSmoothingStep, OneEuroSmoothingStep

from lerobot_ext.testing import ProcessorStepContract
from lerobot_ext.testing.contracts.step_data import policy_transition, robot_transition


class TestEmaContract(ProcessorStepContract):
    def make_step(self):
        return EmaSmoothingStep(alpha=0.4, skip=["gripper"], wrap={"wrist_roll": 200.0})

    def make_transition(self):
        return robot_transition()


class TestOneEuroContract(ProcessorStepContract):
    def make_step(self):
        return OneEuroSmoothingStep(min_cutoff_hz=2.0)

    def make_transition(self):
        return policy_transition(state=6, action=6)


def run(step, values):
    return step(create_transition(action=values))["action"]


def slow_one_euro(values, fps, min_cutoff, beta, d_cutoff):
    def alpha(cutoff):
        tau = 1.0 / (2 * math.pi * cutoff)
        return 1.0 / (1.0 + tau * fps)

    x, dx, out = values[0], 0.0, [values[0]]
    for value in values[1:]:
        dx = alpha(d_cutoff) * (value - x) * fps + (1 - alpha(d_cutoff)) * dx
        a = alpha(min_cutoff + beta * abs(dx))
        x = a * value + (1 - a) * x
        out.append(x)
    return out


def test_one_euro_equals_the_papers_formulas():
    values = np.random.default_rng(0).normal(0, 5, 50)
    step = OneEuroSmoothingStep(fps=50.0, min_cutoff_hz=1.5, beta=0.1, derivative_cutoff_hz=2.0)
    got = [run(step, {"pan.pos": float(v)})["pan.pos"] for v in values]
    assert got == pytest.approx(slow_one_euro(values, 50.0, 1.5, 0.1, 2.0), rel=1e-12)


def test_one_euro_calms_a_tremble_more_than_it_delays_a_motion():
    tremble = np.random.default_rng(0).normal(0, 0.5, 300)
    step = OneEuroSmoothingStep(beta=0.05)
    calm = [run(step, {"pan.pos": float(v)})["pan.pos"] for v in tremble]
    assert np.std(calm[30:]) < 0.45 * np.std(tremble)
    step.reset()
    ramp = [run(step, {"pan.pos": 3.0 * k})["pan.pos"] for k in range(100)]
    assert 3.0 * 99 - ramp[-1] < 3.0 * 2  # less than two frames behind


def test_ema_halves_the_distance_each_frame():
    step = EmaSmoothingStep(alpha=0.5)
    assert [run(step, {"pan.pos": v})["pan.pos"] for v in (0.0, 8.0, 8.0, 8.0)] == [0.0, 4.0, 6.0, 7.0]


def test_alpha_1_changes_nothing_also_where_angles_wrap():
    step = EmaSmoothingStep(alpha=1.0, wrap={"roll": 360.0})
    values = [170.0, 180.0, -170.0, -10.0, 10.0]
    assert [run(step, {"roll.pos": v})["roll.pos"] for v in values] == pytest.approx(values)


def test_an_angle_takes_the_short_way_round():
    step = EmaSmoothingStep(alpha=0.5, wrap={"roll": 360.0})
    got = [run(step, {"roll.pos": v})["roll.pos"] for v in (170.0, -160.0, -160.0)]
    assert got == pytest.approx([170.0, -175.0, -167.5])


def test_skipped_joints_pass_unchanged():
    step = EmaSmoothingStep(alpha=0.1, skip=["gripper"])
    run(step, {"pan.pos": 0.0, "gripper.pos": 0.0})
    assert run(step, {"pan.pos": 10.0, "gripper.pos": 10.0}) == {"pan.pos": 1.0, "gripper.pos": 10.0}


def test_a_chunk_is_smoothed_like_its_frames_one_by_one():
    chunk = torch.randn(3, 20, 6, dtype=torch.float64)
    whole, single = OneEuroSmoothingStep(), OneEuroSmoothingStep()
    frames = [run(single, chunk[:, t]) for t in range(20)]
    assert torch.equal(run(whole, chunk), torch.stack(frames, dim=1))


def test_a_nan_repeats_the_last_and_leaves_the_filter_sane():
    step = EmaSmoothingStep(alpha=0.5)
    run(step, {"pan.pos": 4.0})
    assert run(step, {"pan.pos": math.nan})["pan.pos"] == 4.0
    assert run(step, {"pan.pos": 8.0})["pan.pos"] == 6.0


def test_a_nan_is_refused_where_asked_for_and_where_it_is_the_first():
    step = EmaSmoothingStep(invalid="raise")
    run(step, {"pan.pos": 4.0})
    with pytest.raises(ValueError, match="`pan` is not finite"):
        run(step, {"pan.pos": math.inf})
    with pytest.raises(ValueError, match="is the first"):
        run(EmaSmoothingStep(), {"pan.pos": math.nan})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EmaSmoothingStep(alpha=1.5), "`alpha` is 1.5"),
        (lambda: EmaSmoothingStep(alpha=0.0), "`alpha` is 0.0"),
        (lambda: OneEuroSmoothingStep(min_cutoff_hz=0.0), "`min_cutoff_hz`"),
        (lambda: OneEuroSmoothingStep(beta=-1.0), "`beta`"),
        (lambda: run(EmaSmoothingStep(skip=["elbow"]), {"pan.pos": 0.0}), "elbow"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
