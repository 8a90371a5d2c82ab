# SPDX-License-Identifier: Apache-2.0
"""Each processor step in the settings that tests and the fresh process share: step, its data, its inverse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.processor import NormalizerProcessorStep, TransitionKey
from lerobot_robot_processors.steps.augment import AugmentStep
from lerobot_robot_processors.steps.crop_resize import CropResizeStep
from lerobot_robot_processors.steps.depth import DepthInverseStep, DepthStep
from lerobot_robot_processors.steps.frame_stack import FrameStackStep
from lerobot_robot_processors.steps.gripper import GripperBinaryStep, GripperValueStep
from lerobot_robot_processors.steps.labels import LabelsStep
from lerobot_robot_processors.steps.relative_actions import AbsoluteActionsStep, RelativeActionsStep
from lerobot_robot_processors.steps.rename import RenameStep
from lerobot_robot_processors.steps.statistics_check import AfterNormalizerStep, BeforeNormalizerStep

from lerobot_ext.testing.contracts.step_data import JOINTS, policy_transition, robot_transition

Make = Callable[[], Any]
STATE, ACTION = "observation.state", "action"


@dataclass
class Case:
    """One step in one setting."""

    make: Make
    data: Make = policy_transition
    invert: Callable[[Any], Any] | None = None


def acting() -> dict[Any, Any]:
    """What a policy's preprocessor gets while it acts: observations of no dataset, and no action."""
    transition = policy_transition()
    return {**transition, TransitionKey.ACTION: None, TransitionKey.COMPLEMENTARY_DATA: {"task": ["go"] * 2}}


def depth(*, robot: bool = False, masked: bool = False) -> dict[Any, Any]:
    """Two cameras' samples of which the first measures depth, in millimetres from 100 to 4000."""
    transition = robot_transition() if robot else policy_transition()
    drawn = np.random.default_rng(2)
    if robot:
        measured = drawn.integers(100, 4001, (64, 96, 1), dtype=np.uint16)
        key: str = "front_depth"
    else:
        measured = torch.from_numpy(drawn.uniform(100, 4000, (2, 1, 64, 96)).astype(np.float32))
        key = "observation.images.cam0_depth"
    transition[TransitionKey.OBSERVATION][key] = measured
    return DepthStep(mask="key")(transition) if masked else transition


def grippers() -> dict[Any, Any]:
    """Samples of which each gripper is at one of its two values."""
    transition = policy_transition()
    transition[TransitionKey.ACTION][:, -1] = torch.tensor([0.0, 100.0])
    return transition


def noted() -> dict[Any, Any]:
    """What comes out of a normaliser with all statistics, with the note of what went in."""
    given = BeforeNormalizerStep()(policy_transition())
    features = {
        STATE: PolicyFeature(FeatureType.STATE, (6,)),
        ACTION: PolicyFeature(FeatureType.ACTION, (6,)),
    }
    stats = {key: {"mean": torch.zeros(6), "std": torch.ones(6)} for key in features}
    modes = dict.fromkeys((FeatureType.STATE, FeatureType.ACTION), NormalizationMode.MEAN_STD)
    return NormalizerProcessorStep(features, modes, stats)(given)


CASES: dict[str, Case] = {
    "crop_resize pads": Case(lambda: CropResizeStep(32, 32)),
    "crop_resize crops": Case(lambda: CropResizeStep(32, 48, fit="crop", crop_box=[2, 3, 50, 60])),
    "crop_resize of a robot": Case(
        lambda: CropResizeStep(48, 48, per_camera={"wrist": {"fit": "stretch", "height": 24}}),
        robot_transition,
    ),
    "crop_resize only cuts": Case(lambda: CropResizeStep(centre_crop=[40, 40]), robot_transition),
    "crop_resize of depth": Case(lambda: CropResizeStep(32, 32), depth),
    "depth": Case(lambda: DepthStep(scale="log"), depth, lambda step: step.inverted()),
    "depth with a channel": Case(
        lambda: DepthStep(mask="channel", scale="inverse"), depth, lambda step: step.inverted()
    ),
    "depth with a mask": Case(
        lambda: DepthStep(mask="key", cameras=["cam0_depth"]), depth, lambda step: step.inverted()
    ),
    "depth of a robot": Case(lambda: DepthStep(mask="key"), lambda: depth(robot=True)),
    "depth_inverse": Case(lambda: DepthInverseStep(mask="key"), lambda: depth(masked=True)),
    "augment": Case(lambda: AugmentStep(brightness=0.3, hue=0.1, shift_px=4, noise=0.02, erase=0.5)),
    "augment always": Case(
        lambda: AugmentStep(contrast=0.3, crop=0.8, rotate_deg=5, blur_sigma_px=2.0, when="always"), acting
    ),
    "augment while acting": Case(lambda: AugmentStep(brightness=0.3), acting),
    "relative_actions": Case(
        lambda: RelativeActionsStep(exclude_indices=[-1]),
        policy_transition,
        lambda step: AbsoluteActionsStep(relative_step=step),
    ),
    "relative_actions of a robot": Case(
        lambda: RelativeActionsStep(exclude_joints=["gripper.pos"]),
        robot_transition,
        lambda step: AbsoluteActionsStep(exclude_joints=["gripper.pos"]),
    ),
    "absolute_actions of a robot": Case(AbsoluteActionsStep, robot_transition),
    "gripper_binary": Case(GripperBinaryStep, grippers, lambda step: step.inverted()),
    "gripper_binary of a robot": Case(
        lambda: GripperBinaryStep(open_value=-90, closed_value=90, hysteresis=5), robot_transition
    ),
    "gripper_binary of the state": Case(lambda: GripperBinaryStep(part="observation")),
    "gripper_value": Case(lambda: GripperValueStep(hysteresis=0.2)),
    "before_normalizer": Case(BeforeNormalizerStep),
    "after_normalizer": Case(AfterNormalizerStep, noted),
    "labels above": Case(lambda: LabelsStep(indices=[0], threshold=1.0, step_reward=-0.01)),
    "labels near": Case(
        lambda: LabelsStep(rule="near", indices=[0, 1], goal=[1.0, 2.0], threshold=9, distance_weight=0.1)
    ),
    "labels at the end": Case(lambda: LabelsStep(rule="end", key="action")),
    "labels of a robot": Case(lambda: LabelsStep(rule="below", key="gripper.pos"), robot_transition),
    "rename": Case(
        lambda: RenameStep({"observation.images.cam*": "observation.images.camera_*"}),
        policy_transition,
        lambda step: step.inverted(),
    ),
    "rename of a robot": Case(
        lambda: RenameStep({"*.pos": "joint_*.pos", "front": "top"}, parts=["observation", "action"]),
        robot_transition,
        lambda step: step.inverted(),
    ),
    "frame_stack": Case(lambda: FrameStackStep(3, ["observation.state", "observation.images.*"]), acting),
    "frame_stack concatenated": Case(
        lambda: FrameStackStep(2, ["observation.images.*"], "concatenate"), acting
    ),
    "frame_stack of a robot": Case(
        lambda: FrameStackStep(3, [f"{joint}.pos" for joint in JOINTS] + ["front"], "concatenate"),
        robot_transition,
    ),
}
