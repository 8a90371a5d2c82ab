# SPDX-License-Identifier: Apache-2.0
"""What plugin authors and our own tests need to test against: contracts, fakes, a Hub on loopback."""

from typing import TYPE_CHECKING

from lerobot_ext.plugins import lazy_attributes

if TYPE_CHECKING:
    from .contract import known_failure
    from .contracts.policy import PolicyContract

__all__ = ["PolicyContract", "known_failure"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "PolicyContract": "contracts.policy",
        "known_failure": "contract",
    },
)
