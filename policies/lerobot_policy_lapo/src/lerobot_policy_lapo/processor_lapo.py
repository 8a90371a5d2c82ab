# SPDX-License-Identifier: Apache-2.0
"""Pipelines around the LAPO policy."""

from __future__ import annotations

from typing import Any

from lerobot_ext.processing.pipelines import Pipelines, make_pipelines

from .configuration_lapo import LAPOConfig


def make_lapo_pre_post_processors(
    config: LAPOConfig,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: Any | None = None,
) -> Pipelines:
    """Build preprocessor and postprocessor, as `make_pipelines`; LeRobot's factory calls this by its name."""
    return make_pipelines(config, dataset_stats)
