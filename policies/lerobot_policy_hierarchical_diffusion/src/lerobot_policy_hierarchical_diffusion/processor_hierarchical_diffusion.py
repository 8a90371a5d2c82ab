# SPDX-License-Identifier: Apache-2.0
"""Pipelines around the hierarchical diffusion policy."""

from __future__ import annotations

from typing import Any

from lerobot.processor import PolicyAction, PolicyProcessorPipeline
from lerobot.processor.factory import make_default_policy_processor_steps, make_policy_processor_pipelines

from .configuration_hierarchical_diffusion import HierarchicalDiffusionConfig


def make_hierarchical_diffusion_pre_post_processors(
    config: HierarchicalDiffusionConfig,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: Any | None = None,
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """Build the pipelines: rename, add the batch axis, move to the device, normalise; and back.

    Args:
        config (`HierarchicalDiffusionConfig`): Features, device and normalisation.
        dataset_stats (`dict`, *optional*): Statistics for the normalisation.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): Unused; LeRobot's factory offers it.

    Returns:
        `tuple`: Preprocessor of batches and postprocessor of actions.
    """
    steps = make_default_policy_processor_steps(config, dataset_stats)
    pipelines: tuple[Any, Any] = make_policy_processor_pipelines(
        input_steps=[steps.rename_observations, steps.add_batch_dim, steps.to_device, steps.normalize],
        output_steps=[steps.unnormalize, steps.to_cpu],
    )
    return pipelines
