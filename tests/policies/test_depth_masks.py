# SPDX-License-Identifier: Apache-2.0
"""What was not measured is told from what was, in lossless maps, in LeRobot's depth videos and on the arm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets.depth_utils import dequantize_depth, quantize_depth
from lerobot.processor import NormalizerProcessorStep, TransitionKey
from lerobot.processor.converters import create_transition

from lerobot_ext.nn.depth import normalised_nothing, with_masks

KEY = "observation.images.top_depth"
FEATURES = {KEY: PolicyFeature(FeatureType.VISUAL, (1, 2, 3))}
MAP_MM = np.array([[0, 0, 250], [400, 31, 3000]], np.uint16)
MEASURED = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])


def statistics(seen: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    found = {"mean": seen.mean(), "std": seen.std(), "min": seen.min(), "max": seen.max()}
    return {KEY: {name: value.reshape(1, 1, 1) for name, value in found.items()}}


def masked(seen: torch.Tensor, stats: dict[str, dict[str, torch.Tensor]], mode: str) -> torch.Tensor:
    modes = {FeatureType.VISUAL: NormalizationMode(mode)}
    step = NormalizerProcessorStep(features=FEATURES, norm_map=modes, stats=stats)
    normal = step(create_transition(observation={KEY: seen[None]}))[TransitionKey.OBSERVATION][KEY]
    return with_masks([normal], normalised_nothing(FEATURES, modes, stats))[0][0]


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX"])
@pytest.mark.parametrize("unit", ["mm", "m"])
def test_a_hole_is_one_in_a_depth_video_and_on_the_arm(mode, unit):
    video = dequantize_depth(quantize_depth(MAP_MM, video_backend=None), output_unit=unit).float()
    video = video.reshape(1, 2, 3)
    assert float(video[0, 0, 0]) == pytest.approx({"mm": 10, "m": 0.01}[unit]), "LeRobot's word for nothing"
    stats = statistics(video)
    arm = torch.from_numpy(MAP_MM.astype(np.float32))[None] / {"mm": 1, "m": 1000}[unit]
    for seen in (video, arm):
        depth, measured = masked(seen, stats, mode)
        assert torch.equal(measured, MEASURED)
        assert not depth[measured == 0].any()


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX"])
def test_a_hole_is_one_in_lossless_maps(mode):
    seen = torch.from_numpy(MAP_MM.astype(np.float32))[None]
    assert torch.equal(masked(seen, statistics(seen), mode)[1], MEASURED)


def test_a_checkpoint_that_knows_what_0_becomes_keeps_its_holes():
    depth = torch.tensor([[[-4.0 + 1e-6, -4.0, -3.97]]])
    assert with_masks([depth], torch.tensor([-4.0]))[0][1].tolist() == [[0.0, 0.0, 1.0]]


def test_without_statistics_everything_counts():
    assert with_masks([torch.zeros(1, 2, 3)], torch.tensor([torch.nan]))[0][1].all()
