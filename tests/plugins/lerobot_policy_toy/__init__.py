# SPDX-License-Identifier: Apache-2.0
"""The smallest policy that keeps every rule of `PolicyContract`."""

from .configuration_toy import ToyConfig  # noqa: F401
from .steps_toy import ToyStep  # noqa: F401
