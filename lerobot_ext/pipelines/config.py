# SPDX-License-Identifier: Apache-2.0
"""The fields of our devices and policies that name a file of steps; importing them imports nothing."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class PipelineField:
    """A file of processor steps that a device runs itself.

    Args:
        pipeline (`str | None`, *optional*): A file in LeRobot's saved-pipeline JSON, see docs/pipelines.md.
            It is read when the device is made.
    """

    # File of processor steps that run inside the device: LeRobot's saved-pipeline JSON
    pipeline: str | None = None


@dataclass(kw_only=True)
class ExtraStepsField:
    """A file of processor steps that a policy is trained with; a base of our policies' configurations.

    Args:
        extra_steps (`str | None`, *optional*): A file in LeRobot's saved-pipeline JSON, see
            docs/pipelines.md. `lerobot-train` reads it when it builds a new policy. A checkpoint has the
            steps themselves; there the field only tells where they came from.
    """

    # File of processor steps to train with, before and behind the policy: LeRobot's saved-pipeline JSON
    extra_steps: str | None = None
