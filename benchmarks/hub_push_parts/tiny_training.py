# SPDX-License-Identifier: Apache-2.0
"""A trained-looking policy in a second: what `lerobot-train` holds when it pushes, without the training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors

REPO = "user/pushed"
SMALL: dict[str, Any] = {
    "dim_model": 16,
    "n_heads": 2,
    "dim_feedforward": 16,
    "n_encoder_layers": 1,
    "chunk_size": 4,
    "n_action_steps": 4,
    "use_vae": False,
}
WIDTHS = {"observation.state": 3, "observation.environment_state": 2, "action": 3}


@dataclass
class Training:
    """What the end of `lerobot-train` has in its hands."""

    policy: Any
    preprocessor: Any
    postprocessor: Any
    cfg: TrainPipelineConfig

    def save(self, folder: Path) -> Path:
        """Write a checkpoint into a folder; the folder."""
        for part in (self.policy, self.preprocessor, self.postprocessor):
            part.save_pretrained(folder)
        return folder

    def push(self) -> None:
        """The last lines of `lerobot-train`, word for word."""
        self.policy.push_model_to_hub(self.cfg, state_dict=None, dataset_meta=None)
        self.preprocessor.push_to_hub(self.cfg.policy.repo_id)
        self.postprocessor.push_to_hub(self.cfg.policy.repo_id)


def train(
    folder: Path,
    script: ModuleType | None = None,
    *,
    seed: int = 0,
    private: bool | None = None,
    widths: Mapping[str, int] = WIDTHS,
    **fields: Any,
) -> Training:
    """Make a policy of random weights with processors of random statistics.

    Args:
        folder (`Path`): The run's output folder.
        script (`ModuleType`, *optional*): Stands for the training script; its `make_pre_post_processors` is
            called, so that hooks in it see the processors.
        seed (`int`, *optional*, defaults to `0`): Of weights and statistics; it is the `seed` of the
            configuration as well.
        private (`bool`, *optional*): `--policy.private`.
        widths (`Mapping[str, int]`, *optional*): Numbers in joints, environment state and action.
        fields: Of the policy, in place of `SMALL`.
    """
    torch.manual_seed(seed)
    config = ACTConfig(
        device="cpu",
        repo_id=REPO,
        private=private,
        **(fields or SMALL),
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (widths["observation.state"],)),
            "observation.environment_state": PolicyFeature(
                FeatureType.ENV, (widths["observation.environment_state"],)
            ),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (widths["action"],))},
    )
    stats = {
        key: {"mean": torch.randn(width), "std": torch.rand(width) + 1.0} for key, width in widths.items()
    }
    make = script.make_pre_post_processors if script is not None else make_pre_post_processors
    before, after = make(policy_cfg=config, pretrained_path=None, dataset_stats=stats)
    cfg = TrainPipelineConfig(dataset=DatasetConfig("user/tiny"), policy=config, seed=seed, output_dir=folder)
    return Training(ACTPolicy(config), before, after, cfg)


def training_script() -> ModuleType:
    """A module with the functions that hooks wrap, in place of `lerobot.scripts.lerobot_train`."""
    from lerobot.common.train_utils import save_checkpoint
    from lerobot.optim.factory import make_optimizer_and_scheduler
    from lerobot.scripts.lerobot_eval import eval_policy_all
    from lerobot.utils.logging_utils import MetricsTracker

    script = ModuleType("stands_for_lerobot_train")
    script.make_pre_post_processors = make_pre_post_processors  # type: ignore[attr-defined]
    script.save_checkpoint = save_checkpoint  # type: ignore[attr-defined]
    script.eval_policy_all = eval_policy_all  # type: ignore[attr-defined]
    script.make_optimizer_and_scheduler = make_optimizer_and_scheduler  # type: ignore[attr-defined]
    script.MetricsTracker = MetricsTracker  # type: ignore[attr-defined]
    return script
