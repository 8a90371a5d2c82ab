# SPDX-License-Identifier: Apache-2.0
"""What plugin authors and our own tests test against: contracts, fake distributions, a Hub on loopback."""

from lerobot_ext.plugins import lazy_attributes

# Imported when first asked for: a test of a policy needs no gymnasium, and `lerobot-ext` none of them.
__getattr__ = lazy_attributes(
    __name__,
    {
        "CameraContract": "contracts.camera",
        "EnvContract": "contracts.env",
        "RobotContract": "contracts.robot",
        "TeleoperatorContract": "contracts.teleoperator",
    },
)
