# SPDX-License-Identifier: Apache-2.0
"""What plugin authors and our own tests test against: contracts, fake distributions, a Hub on loopback."""

from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes

if TYPE_CHECKING:
    # So that a plugin's own mypy can check the class that inherits one.
    from .contract import known_failure as known_failure
    from .contracts.camera import CameraContract as CameraContract
    from .contracts.discovery import DiscoveryContract as DiscoveryContract
    from .contracts.env import EnvContract as EnvContract
    from .contracts.policy import PolicyContract as PolicyContract
    from .contracts.processor_step import ProcessorStepContract as ProcessorStepContract
    from .contracts.robot import RobotContract as RobotContract
    from .contracts.teleoperator import TeleoperatorContract as TeleoperatorContract

# Imported when first asked for: a test of a policy needs no gymnasium, and `lerobot-ext` none of them.
__getattr__ = lazy_attributes(
    __name__,
    {
        "CameraContract": "contracts.camera",
        "DiscoveryContract": "contracts.discovery",
        "EnvContract": "contracts.env",
        "PolicyContract": "contracts.policy",
        "ProcessorStepContract": "contracts.processor_step",
        "RobotContract": "contracts.robot",
        "TeleoperatorContract": "contracts.teleoperator",
        "known_failure": "contract",
    },
)
