# SPDX-License-Identifier: Apache-2.0
"""The field `pipeline` of our robots and teleoperators; importing it imports nothing."""

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
