# SPDX-License-Identifier: Apache-2.0
"""Toy policies with one defect each; a type is named after the rule of `PolicyContract` that it breaks."""

from . import configuration_broken, steps_broken  # noqa: F401
