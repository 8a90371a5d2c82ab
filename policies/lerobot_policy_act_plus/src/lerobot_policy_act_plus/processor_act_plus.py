# SPDX-License-Identifier: Apache-2.0
"""Pipelines around ACT+: stock ACT's, with relative actions where they are asked for."""

from __future__ import annotations

from typing import Any

from lerobot.processor import AbsoluteActionsProcessorStep, ProcessorStep, RelativeActionsProcessorStep

from lerobot_ext.processing.pipelines import Pipelines, make_pipelines

from .configuration_act_plus import ActPlusConfig


def make_act_plus_pre_post_processors(
    config: ActPlusConfig,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: Any | None = None,
) -> Pipelines:
    """Build preprocessor and postprocessor; see `make_pipelines`. LeRobot's factory calls this by its name.

    With `use_relative_actions` LeRobot's own steps make actions relative before they are normalised, and
    absolute again at the end.
    """
    before: list[ProcessorStep] = []
    after: list[ProcessorStep] = []
    if config.use_relative_actions:
        relative = RelativeActionsProcessorStep(
            enabled=True,
            exclude_joints=config.relative_exclude_joints,
            action_names=config.action_feature_names,
        )
        before.append(relative)
        after.append(AbsoluteActionsProcessorStep(enabled=True, relative_step=relative))
    return make_pipelines(
        config,
        dataset_stats,
        before_normalizing=before,
        after_unnormalizing=after,
        normalizer_device=config.device,
    )
