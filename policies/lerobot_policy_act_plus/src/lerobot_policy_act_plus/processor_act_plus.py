# SPDX-License-Identifier: Apache-2.0
"""Pipelines around ACT+: stock ACT's, with relative actions where they are asked for."""

from __future__ import annotations

from typing import Any

from lerobot.processor import (
    AbsoluteActionsProcessorStep,
    PolicyAction,
    PolicyProcessorPipeline,
    RelativeActionsProcessorStep,
)
from lerobot.processor.factory import make_default_policy_processor_steps, make_policy_processor_pipelines

from lerobot_ext.processing.environment_state import SplitEnvironmentStateStep
from lerobot_ext.processing.statistics import require_statistics

from .configuration_act_plus import ActPlusConfig


def make_act_plus_pre_post_processors(
    config: ActPlusConfig,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: Any | None = None,
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """Build the pipelines: rename, split, add the batch axis, move to the device, normalise; and back.

    With an environment state among the features, a step after the renaming splits it off a state that carries
    both, as an arm with an object tracker delivers it. With `use_relative_actions` LeRobot's own steps make
    actions relative before they are normalised, and absolute again at the end.

    Args:
        config (`ActPlusConfig`): Features, device and normalisation.
        dataset_stats (`dict`, *optional*): Statistics for the normalisation.
        dataset_meta (`LeRobotDatasetMetadata`, *optional*): Unused; LeRobot's factory offers it.

    Returns:
        `tuple`: Preprocessor of batches and postprocessor of actions.

    Raises:
        ValueError: Statistics are given, but not those of a feature that is to be normalised.
    """
    require_statistics(config, dataset_stats)
    steps = make_default_policy_processor_steps(config, dataset_stats, normalizer_device=config.device)
    input_steps: list[Any] = [steps.rename_observations]
    state, environment = config.robot_state_feature, config.env_state_feature
    if state is not None and environment is not None:
        input_steps.append(
            SplitEnvironmentStateStep(state_dim=state.shape[0], environment_dim=environment.shape[0])
        )
    input_steps += [steps.add_batch_dim, steps.to_device]
    output_steps: list[Any] = [steps.unnormalize]
    if config.use_relative_actions:
        relative = RelativeActionsProcessorStep(
            enabled=True,
            exclude_joints=config.relative_exclude_joints,
            action_names=config.action_feature_names,
        )
        input_steps.append(relative)
        output_steps.append(AbsoluteActionsProcessorStep(enabled=True, relative_step=relative))
    pipelines: tuple[Any, Any] = make_policy_processor_pipelines(
        input_steps=[*input_steps, steps.normalize], output_steps=[*output_steps, steps.to_cpu]
    )
    return pipelines
