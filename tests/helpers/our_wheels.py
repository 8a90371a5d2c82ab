# SPDX-License-Identifier: Apache-2.0
"""Our distributions and where their sources are."""

from pathlib import Path

from lerobot_ext.testing.environments import build_wheel

ROOT = Path(__file__).parents[2]
CORE = "lerobot_ext"
FOLDERS = {
    CORE: ".",
    "lerobot_camera_pyav": "robots/lerobot_camera_pyav",
    "lerobot_env_koch": "robots/lerobot_env_koch",
    "lerobot_robot_koch": "robots/lerobot_robot_koch",
    "lerobot_robot_processors": "processors/lerobot_robot_processors",
    "lerobot_policy_act_plus": "policies/lerobot_policy_act_plus",
    "lerobot_policy_hierarchical_diffusion": "policies/lerobot_policy_hierarchical_diffusion",
    "lerobot_policy_lapo": "policies/lerobot_policy_lapo",
    "lerobot_policy_q_chunking": "policies/lerobot_policy_q_chunking",
}
PLUGINS = [name for name in FOLDERS if name != CORE]


def build_wheels(out: Path) -> dict[str, Path]:
    """Build one wheel of each distribution from its folder, into `out`."""
    return {name: build_wheel(ROOT / folder, out) for name, folder in FOLDERS.items()}
