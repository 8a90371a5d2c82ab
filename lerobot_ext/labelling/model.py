# SPDX-License-Identifier: Apache-2.0
"""What one of LeRobot's reward models says of every frame of a dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lerobot_ext.cli.command import CommandError

_BATCH: Final = 16


def model_rewards(
    root: Path, repo_id: str, path: str, device: str, tell: Callable[[int, int], None]
) -> npt.NDArray[np.float32]:
    """(frames,) the output of `compute_reward`.

    Args:
        root (`Path`): The dataset's folder.
        repo_id (`str`): Its name.
        path (`str`): Folder or name on the Hub of a reward model.
        device (`str`): Where to run it.
        tell (`Callable`): Called with frames done, and of how many.

    Raises:
        CommandError: The model cannot be loaded, or needs features that the dataset lacks.
    """
    import torch
    from lerobot.datasets.factory import resolve_delta_timestamps
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.rewards import make_reward_pre_post_processors

    config, model = _load(path, device)
    meta = LeRobotDataset(repo_id, root=root).meta
    missing = sorted(set(config.input_features or {}) - set(meta.features))
    if missing:
        raise CommandError(
            f"the reward model {path} needs {', '.join(missing)}, which {root} does not have",
            "train it on a dataset with these cameras",
        )
    dataset = LeRobotDataset(repo_id, root=root, delta_timestamps=resolve_delta_timestamps(config, meta))
    before, _ = make_reward_pre_post_processors(config, dataset_stats=meta.stats, dataset_meta=meta)
    said: list[Any] = []
    for batch in torch.utils.data.DataLoader(dataset, batch_size=_BATCH):
        with torch.inference_mode():
            rewards = model.compute_reward(before(batch))
        said.append(rewards.reshape(-1).float().cpu().numpy())
        tell(sum(map(len, said)), len(dataset))
    return np.concatenate(said)


def _load(path: str, device: str) -> tuple[Any, Any]:
    from draccus.utils import DraccusException
    from lerobot.configs.rewards import RewardModelConfig
    from lerobot.rewards import make_reward_model
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    try:
        config = RewardModelConfig.from_pretrained(path)
        config.pretrained_path, config.device = path, device
        model = make_reward_model(config)
    except (OSError, ValueError, TypeError, ImportError, DraccusException) as error:
        raise CommandError(
            f"the reward model {path} cannot be loaded: {' '.join(str(error).split())[:200]}",
            "give the folder `pretrained_model` of a reward model that lerobot-train trained",
        ) from error
    model.eval()
    return config, model
