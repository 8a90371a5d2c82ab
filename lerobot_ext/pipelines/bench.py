# SPDX-License-Identifier: Apache-2.0
"""How long steps take: microseconds a frame and step, on made-up frames of the right shapes."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.lerobot_types import TransitionKey
from lerobot.processor.converters import create_transition

from lerobot_ext.pipelines.build import step_name
from lerobot_ext.pipelines.file import POSTPROCESSOR, PREPROCESSOR, ROBOT_OBSERVATION, PipelineError
from lerobot_ext.pipelines.survey import PipelineReport, StepReport
from lerobot_ext.plugins import describe_error

WARM_UP = 20


def bench(report: PipelineReport, frames: int) -> StepReport:
    """Time the steps of a pipeline; the figures go into its reports.

    Args:
        report (`PipelineReport`): The pipeline, with the features that come to it.
        frames (`int`): How many frames, after a few to warm up.

    Returns:
        The whole pipeline.
    """
    rng = np.random.default_rng(0)
    times = np.empty((frames, len(report.made)))
    for step in report.made:
        step.reset()
    for frame in range(-WARM_UP, frames):
        spent = _run(report, _frame(report, rng))[1]
        if frame >= 0:
            times[frame] = spent
    for one, column in zip(report.steps, times.T, strict=True):
        one.us_p50, one.us_p99 = _figures(column)
    p50, p99 = _figures(times.sum(axis=1))
    return StepReport("all steps", {}, us_p50=p50, us_p99=p99)


def run_once(report: PipelineReport) -> Any:
    """A made-up frame behind a pipeline's steps, as a transition.

    Raises:
        PipelineError: A step fails.
    """
    return _run(report, _frame(report, np.random.default_rng(0)))[0]


def _run(report: PipelineReport, transition: Any) -> tuple[Any, list[float]]:
    """A frame behind the steps, and the microseconds of each."""
    spent = []
    for index, step in enumerate(report.made):
        start = time.perf_counter()
        try:
            transition = step(transition)
        except Exception as error:  # the boundary to anybody's step
            raise PipelineError(
                f"{report.key}, step {index} ({step_name(step)}) failed: {describe_error(error)}",
                "it may need other values than a made-up frame has, or its code is wrong",
            ) from error
        spent.append((time.perf_counter() - start) * 1e6)
    return transition, spent


def _figures(values: Any) -> tuple[float, float]:
    return float(np.percentile(values, 50)), float(np.percentile(values, 99))


def _frame(report: PipelineReport, rng: np.random.Generator) -> Any:
    if report.key in (PREPROCESSOR, POSTPROCESSOR):
        return _policy_frame(report, rng)
    first = report.lead or report
    action, observation = made_up_robot(first.action, report.observation, rng)
    given = None if report.key == ROBOT_OBSERVATION else action
    transition = create_transition(action=given, observation=observation)
    return _run(report.lead, transition)[0] if report.lead is not None else transition


def _policy_frame(report: PipelineReport, rng: np.random.Generator) -> Any:
    import torch

    def drawn(features: Mapping[str, PolicyFeature]) -> dict[str, Any]:
        return {
            name: torch.from_numpy(
                (rng.random if one.type is FeatureType.VISUAL else rng.standard_normal)(
                    (1, *one.shape)
                ).astype("f4")
            )
            for name, one in features.items()
        }

    action = next(iter(drawn(report.action).values()), None)
    if report.key == POSTPROCESSOR:
        return {TransitionKey.ACTION: action}
    return create_transition(observation=drawn(report.observation), complementary_data={"task": [""]})


def made_up_robot(
    action: Mapping[str, Any], observation: Mapping[str, Any], rng: np.random.Generator | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    """An action and an observation of a robot with these features; joints within ±30, and near each other."""
    rng = rng or np.random.default_rng(0)
    numbers = {name: float(rng.uniform(-30, 30)) for name in [*action, *observation]}
    seen: dict[str, Any] = {}
    for name, one in observation.items():
        if isinstance(one, tuple):
            seen[name] = (
                rng.integers(0, 256, one, dtype=np.uint8) if math.prod(one) else np.zeros(one, np.uint8)
            )
        else:
            seen[name] = numbers[name]
    return {name: numbers[name] for name in action}, seen
