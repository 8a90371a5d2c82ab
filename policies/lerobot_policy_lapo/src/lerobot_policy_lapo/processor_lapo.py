# SPDX-License-Identifier: Apache-2.0
"""Pipelines around the LAPO policy."""

from __future__ import annotations

from typing import Any

from lerobot.processor import PolicyAction, PolicyProcessorPipeline
from lerobot.processor.factory import make_default_policy_processor_steps, make_policy_processor_pipelines

from lerobot_ext.processing.environment_state import SplitEnvironmentStateStep
from lerobot_ext.processing.statistics import require_statistics

from .configuration_lapo import LAPOConfig


def make_lapo_pre_post_processors(
    config: LAPOConfig,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: Any | None = None,
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """Build the pipelines: rename, split, add the batch axis, move to the device, normalise; and back.

    With an environment state among the features, a step after the renaming splits it off a state that carries
    both, as an arm with an object tracker delivers it.

    Args:
        config (`LAPOConfig`): Features, device and normalisation.
        dataset_stats (`dict`, *optional*): Statistics for the normalisation.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): Unused; LeRobot's factory offers it.

    Returns:
        `tuple`: Preprocessor of batches and postprocessor of actions.

    Raises:
        ValueError: Statistics are given, but not those of a feature that is to be normalised.
    """
    require_statistics(config, dataset_stats)
    steps = make_default_policy_processor_steps(config, dataset_stats)
    input_steps: list[Any] = [steps.rename_observations]
    state, environment = config.robot_state_feature, config.env_state_feature
    if state is not None and environment is not None:
        input_steps.append(
            SplitEnvironmentStateStep(state_dim=state.shape[0], environment_dim=environment.shape[0])
        )
    input_steps += [steps.add_batch_dim, steps.to_device, steps.normalize]
    pipelines: tuple[Any, Any] = make_policy_processor_pipelines(
        input_steps=input_steps,
        output_steps=[steps.unnormalize, steps.to_cpu],
    )
    return pipelines
