# SPDX-License-Identifier: Apache-2.0
"""Config of the toy policy."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig


@PreTrainedConfig.register_subclass("toy")
@dataclass
class ToyConfig(PreTrainedConfig):
    horizon: int = 4
    n_action_steps: int = 2
    hidden: int = 8
    gain: float = 1.0
    rtc_config: RTCConfig | None = None
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "STATE": NormalizationMode.MEAN_STD,
            "VISUAL": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.MIN_MAX,
        }
    )

    def __post_init__(self):
        super().__post_init__()
        if self.n_action_steps > self.horizon:
            raise ValueError(f"`n_action_steps` ({self.n_action_steps}) exceeds `horizon` ({self.horizon})")

    def validate_features(self):
        if self.robot_state_feature is None:
            raise ValueError("`observation.state` is missing")

    @property
    def observation_delta_indices(self):
        return None if self.n_obs_steps == 1 else list(range(1 - self.n_obs_steps, 1))

    @property
    def action_delta_indices(self):
        return list(range(self.horizon))

    @property
    def reward_delta_indices(self):
        return None

    def get_optimizer_preset(self):
        return AdamWConfig(lr=1e-3)

    def get_scheduler_preset(self):
        return None
