# SPDX-License-Identifier: Apache-2.0
"""Toy policies and steps with one defect each, named after the rule that they break."""

from . import configuration_broken, steps_broken, toy_steps_broken  # noqa: F401
