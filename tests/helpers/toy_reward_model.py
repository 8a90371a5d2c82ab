# SPDX-License-Identifier: Apache-2.0
"""A reward model that says how bright a camera's picture is, in files as LeRobot looks for them."""

import sys
from pathlib import Path

CAMERA = "observation.images.top"
_CONFIGURATION = """
from dataclasses import dataclass
from lerobot.configs.rewards import RewardModelConfig

@RewardModelConfig.register_subclass("toy_brightness")
@dataclass
class ToyBrightnessConfig(RewardModelConfig):
    def get_optimizer_preset(self): return None
    def get_scheduler_preset(self): return None
    def validate_features(self): pass
"""
_MODELING = """
import torch
from lerobot.rewards.pretrained import PreTrainedRewardModel
from configuration_toy_brightness import ToyBrightnessConfig

class ToyBrightnessRewardModel(PreTrainedRewardModel):
    config_class = ToyBrightnessConfig
    name = "toy_brightness"

    def __init__(self, config, **named):
        super().__init__(config)
        self.gain = torch.nn.Parameter(torch.tensor(2.0))

    def compute_reward(self, batch):
        return self.gain * batch["observation.images.top"].mean((1, 2, 3))
"""
_PROCESSOR = """
from lerobot.processor import PolicyProcessorPipeline

def make_toy_brightness_pre_post_processors(config, dataset_stats=None):
    return PolicyProcessorPipeline(steps=[]), PolicyProcessorPipeline(steps=[])
"""


def save_toy_reward_model(folder: Path, camera: str = CAMERA) -> Path:
    """Write its modules to a folder on `sys.path`, and a checkpoint; where that is."""
    for name, text in (("configuration", _CONFIGURATION), ("modeling", _MODELING), ("processor", _PROCESSOR)):
        (folder / f"{name}_toy_brightness.py").write_text(text)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    from configuration_toy_brightness import ToyBrightnessConfig  # type: ignore[import-not-found]
    from lerobot.configs.types import FeatureType, PolicyFeature
    from modeling_toy_brightness import ToyBrightnessRewardModel  # type: ignore[import-not-found]

    shape = PolicyFeature(type=FeatureType.VISUAL, shape=(3, 48, 64))
    model = ToyBrightnessRewardModel(ToyBrightnessConfig(input_features={camera: shape}, device="cpu"))
    model.save_pretrained(folder / "model")
    return folder / "model"
