# SPDX-License-Identifier: Apache-2.0
"""The pipelines around all our policies: LeRobot's own, with the environment state and checked statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lerobot.configs.policies import PreTrainedConfig
from lerobot.processor import PolicyAction, PolicyProcessorPipeline, ProcessorStep
from lerobot.processor.factory import make_default_policy_processor_steps, make_policy_processor_pipelines

from .environment_state import SplitEnvironmentStateStep
from .statistics import require_statistics

Pipelines = tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]


def make_pipelines(
    config: PreTrainedConfig,
    dataset_stats: dict[str, dict[str, Any]] | None,
    *,
    before_normalizing: Sequence[ProcessorStep] = (),
    after_unnormalizing: Sequence[ProcessorStep] = (),
    normalizer_device: str | None = None,
) -> Pipelines:
    """Build the pipelines: rename, split, add the batch axis, move to the device, normalise; and back.

    With an environment state among the features, a step after the renaming splits it off a state that carries
    both, as an arm with an object tracker delivers it.

    Args:
        config (`PreTrainedConfig`): Features, device and normalisation.
        dataset_stats (`dict`, *optional*): Statistics for the normalisation.
        before_normalizing (`Sequence[ProcessorStep]`, *optional*): More steps, on the device.
        after_unnormalizing (`Sequence[ProcessorStep]`, *optional*): More steps for actions.
        normalizer_device (`str`, *optional*): Where the normaliser keeps its statistics.

    Returns:
        `Pipelines`: Preprocessor of batches and postprocessor of actions.

    Raises:
        ValueError: Statistics are given, but not those of a feature that is to be normalised.
    """
    require_statistics(config, dataset_stats)
    steps = make_default_policy_processor_steps(config, dataset_stats, normalizer_device=normalizer_device)
    split: list[ProcessorStep] = []
    state, environment = config.robot_state_feature, config.env_state_feature
    if state is not None and environment is not None:
        split.append(
            SplitEnvironmentStateStep(state_dim=state.shape[0], environment_dim=environment.shape[0])
        )
    pipelines: Pipelines = make_policy_processor_pipelines(
        input_steps=[
            steps.rename_observations,
            *split,
            steps.add_batch_dim,
            steps.to_device,
            *before_normalizing,
            steps.normalize,
        ],
        output_steps=[steps.unnormalize, *after_unnormalizing, steps.to_cpu],
    )
    return pipelines
