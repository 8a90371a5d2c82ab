# SPDX-License-Identifier: Apache-2.0
"""Pipelines around the Q-chunking policy: our own, or those of the policy that is its actor."""

from __future__ import annotations

from typing import Any

from lerobot_ext.processing.pipelines import Pipelines, make_pipelines

from .configuration_q_chunking import QChunkingConfig


def make_q_chunking_pre_post_processors(
    config: QChunkingConfig,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: Any | None = None,
) -> Pipelines:
    """Build preprocessor and postprocessor; LeRobot's factory calls this by its name.

    An actor from a checkpoint keeps that checkpoint's, statistics included: it is to act as it did.
    """
    if config.other_actor is None:
        return make_pipelines(config, dataset_stats)
    from .borrowed import actor_pipelines

    return actor_pipelines(config, dataset_stats, dataset_meta)
