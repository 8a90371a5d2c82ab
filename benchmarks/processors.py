# SPDX-License-Identifier: Apache-2.0
"""What the steps of `lerobot_robot_processors` cost: on a robot's frame, together, on a policy's batch.

    uv run python benchmarks/processors.py [--quick] [--calls 3000] [--device cpu] [--out DIR]

The robot's frame has six joints and a 480x640 camera; the pipeline has six steps and runs as LeRobot runs it,
observation and action. Everything is measured in turns, one call of each after another, so that a busy
machine disturbs all alike: p50 and p99 of the thread's CPU time and of the wall clock. `resize` holds ways to
make 224x224 of the camera's picture beside each other. Prints Markdown tables, writes processors.json and
processors.png, and ends with the line `processors: … µs a frame …`.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from lerobot.processor import RobotProcessorPipeline, TransitionKey
from lerobot.processor.converters import (
    create_transition,
    observation_to_transition,
    robot_action_observation_to_transition,
    transition_to_observation,
    transition_to_robot_action,
)
from lerobot_robot_processors.steps.augment import AugmentStep
from lerobot_robot_processors.steps.crop_resize import CropResizeStep
from lerobot_robot_processors.steps.depth import DepthStep
from lerobot_robot_processors.steps.end_effector import JointsToEndEffectorStep
from lerobot_robot_processors.steps.frame_stack import FrameStackStep
from lerobot_robot_processors.steps.gripper import GripperBinaryStep
from lerobot_robot_processors.steps.jump_guard import JumpGuardStep
from lerobot_robot_processors.steps.labels import LabelsStep
from lerobot_robot_processors.steps.motion_limits import MotionLimitsStep
from lerobot_robot_processors.steps.relative_actions import RelativeActionsStep
from lerobot_robot_processors.steps.rename import RenameStep
from lerobot_robot_processors.steps.smoothing import OneEuroSmoothingStep
from lerobot_robot_processors.steps.statistics_check import AfterNormalizerStep, BeforeNormalizerStep
from PIL import Image

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
BUDGET_US = 1000.0
Calls = dict[str, Callable[[int], object]]


def limits() -> MotionLimitsStep:
    """A limiter of everything it can limit."""
    position = {joint: [-100.0, 100.0] for joint in JOINTS}
    return MotionLimitsStep(position=position, velocity=120.0, acceleration=600.0, jerk=6000.0)


def robot_frames(count: int) -> list[dict[str, Any]]:
    """Observations of an arm that moves: a camera and six joints."""
    drawn = np.random.default_rng(0)
    pictures = drawn.integers(0, 256, (min(count, 16), 480, 640, 3), dtype=np.uint8)
    return [
        {**{f"{joint}.pos": 40 * np.sin(0.02 * now + axis) for axis, joint in enumerate(JOINTS)}}
        | {"top": pictures[now % len(pictures)]}
        for now in range(count)
    ]


def commands(frames: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Commands a little ahead of the joints."""
    return [{key: float(value) + 1.0 for key, value in frame.items() if key != "top"} for frame in frames]


def robot_steps(frames: list[dict[str, Any]], actions: list[dict[str, float]]) -> Calls:
    """Each step alone, as a call with a frame's number."""
    depth = np.random.default_rng(1).integers(0, 5000, (480, 640, 1), dtype=np.uint16)
    steps: dict[str, Any] = {
        "rename (2 rules)": RenameStep({"top": "front", "*.pos": "*.pos"}),
        "crop_resize 480x640 -> 224x224": CropResizeStep(224, 224, cameras=["top"]),
        "crop_resize 480x640 -> 96x96": CropResizeStep(96, 96, fit="crop", cameras=["top"]),
        "depth 480x640": DepthStep(cameras=["top_depth"]),
        "frame_stack of 6 joints": FrameStackStep(3, ["*.pos"], "concatenate"),
        "relative_actions": RelativeActionsStep(exclude_joints=["gripper"]),
        "gripper_binary": GripperBinaryStep(hysteresis=5.0),
        "labels": LabelsStep(rule="below", key="gripper.pos", threshold=1.0),
        "joints_to_end_effector": JointsToEndEffectorStep(convert="observation"),
        "jump_guard": JumpGuardStep(max_jump=20.0),
        "one_euro_smoothing": OneEuroSmoothingStep(),
        "motion_limits": limits(),
    }
    return {
        name: lambda now, step=step: step(
            create_transition(observation={**frames[now], "top_depth": depth}, action=actions[now])
        )
        for name, step in steps.items()
    }


def robot_pipeline(frames: list[dict[str, Any]], actions: list[dict[str, float]]) -> Calls:
    """Six steps around a robot: a resized picture and a pose out, a smooth and bounded command in."""
    observation = RobotProcessorPipeline(
        [
            CropResizeStep(224, 224),
            JointsToEndEffectorStep(convert="observation"),
            RenameStep({"top": "front"}),
        ],
        to_transition=observation_to_transition,
        to_output=transition_to_observation,
    )
    command = RobotProcessorPipeline(
        [JumpGuardStep(max_jump=20.0), OneEuroSmoothingStep(), limits()],
        to_transition=robot_action_observation_to_transition,
        to_output=transition_to_robot_action,
    )

    def frame(now: int) -> object:
        return observation(frames[now]), command((actions[now], frames[now]))

    return {"six steps, observation and command": frame}


def resizers(frames: list[dict[str, Any]]) -> Calls:
    """Ways from 480x640 to 224x224; `linear` alone does not average what becomes one pixel."""
    step = CropResizeStep(224, 224, fit="stretch")

    def by_step(now: int) -> object:
        return step({TransitionKey.OBSERVATION: {"top": frames[now]["top"]}})

    def by_pil(now: int) -> object:
        return np.asarray(Image.fromarray(frames[now]["top"]).resize((224, 224), Image.Resampling.BILINEAR))

    def by_cv2(mode: int) -> Callable[[int], object]:
        return lambda now: cv2.resize(frames[now]["top"], (224, 224), interpolation=mode)

    def by_torch_floats(now: int) -> object:
        planes = torch.from_numpy(frames[now]["top"]).permute(2, 0, 1)[None].float()
        return torch.nn.functional.interpolate(planes, (224, 224), mode="bilinear", antialias=True)

    return {
        "crop_resize (torch, bytes, antialias)": by_step,
        "PIL bilinear (antialias)": by_pil,
        "cv2 area (antialias)": by_cv2(cv2.INTER_AREA),
        "torch floats (antialias)": by_torch_floats,
        "cv2 linear (no antialias)": by_cv2(cv2.INTER_LINEAR),
    }


def policy_steps(device: str, size: int) -> Calls:
    """Steps on a training batch of `size` samples: a 240x320 camera, 10 actions of 6 joints."""
    observation = {
        "observation.images.top": torch.rand(size, 3, 240, 320, device=device),
        "observation.images.top_depth": 4000 * torch.rand(size, 1, 240, 320, device=device),
        "observation.state": torch.rand(size, 6, device=device),
    }
    transition = create_transition(observation=observation, action=torch.rand(size, 10, 6, device=device))
    jitter = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}
    after = AfterNormalizerStep(checks=1)

    def bracket() -> Any:
        noted = BeforeNormalizerStep()(transition)
        fresh = {key: value + 0 for key, value in observation.items()}
        return after(
            {**noted, TransitionKey.OBSERVATION: fresh, TransitionKey.ACTION: transition["action"] + 0}
        )

    steps: dict[str, Any] = {
        "crop_resize to 224x224": CropResizeStep(224, 224, cameras=["top"]),
        "depth": DepthStep(scale="log"),
        "augment: colours": AugmentStep(**jitter, cameras=["top"]),
        "augment: shift": AugmentStep(shift_px=4, cameras=["top"]),
        "augment: colours, hue, turn, blur, noise, holes": AugmentStep(
            **jitter, hue=0.1, rotate_deg=5, blur_sigma_px=1, noise=0.02, erase=0.3, cameras=["top"]
        ),
        "relative_actions": RelativeActionsStep(exclude_indices=[-1]),
        "gripper_binary": GripperBinaryStep(),
        "labels": LabelsStep(indices=[0], threshold=0.5),
    }

    def timed(run: Callable[[], object]) -> Callable[[int], object]:
        def call(_: int) -> object:
            out = run()
            if device != "cpu":
                torch.cuda.synchronize()
            return out

        return call

    calls: Calls = {name: timed(lambda step=step: step(transition)) for name, step in steps.items()}
    return {**calls, "bracket around the normaliser": timed(bracket)}


def measure(calls: Calls, count: int) -> dict[str, dict[str, float]]:
    """p50 and p99 in microseconds of `count` calls of each, taken in turns after a warm-up."""
    for call in calls.values():
        for now in range(min(20, count)):
            call(now)
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for now in range(count):
        for name, call in calls.items():
            start, spent = time.perf_counter_ns(), time.thread_time_ns()
            call(now)
            cpu[name].append((time.thread_time_ns() - spent) / 1e3)
            wall[name].append((time.perf_counter_ns() - start) / 1e3)
    return {
        name: {
            f"{clock}_p{share}_us": float(np.percentile(taken[name], share))
            for clock, taken in (("cpu", cpu), ("wall", wall))
            for share in (50, 99)
        }
        for name in calls
    }


def table(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table: median and 99th percentile of CPU time and of the wall clock."""
    lines = [f"| {title} | CPU p50 µs | CPU p99 | wall p50 | wall p99 |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | " + " | ".join(f"{value:.0f}" for value in row.values()) + " |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def tables(document: Mapping[str, Any]) -> str:
    """All that was measured."""
    titles = {
        "steps": "step on a robot's frame",
        "pipeline": "pipeline on a robot's frame",
        "resize": "480x640 to 224x224",
        "policy": f"step on a batch of {document['batch']} ({document['device']})",
    }
    return "\n\n".join(table(title, document[name]) for name, title in titles.items())


def last_line(document: Mapping[str, Any]) -> str:
    """What the pipeline costs, against its budget."""
    whole = document["pipeline"]["six steps, observation and command"]
    fits = "within" if whole["cpu_p50_us"] < BUDGET_US else "over"
    return (
        f"processors: {whole['cpu_p50_us']:.0f} µs a frame for six steps (p99 {whole['cpu_p99_us']:.0f}), "
        f"{fits} the budget of {BUDGET_US:.0f}"
    )


def draw(results: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Bars of the robot's steps and the pipeline, with the budget as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = {**results["steps"], **results["pipeline"]}
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    names = list(rows)
    axes.barh(names, [row["cpu_p99_us"] for row in rows.values()], color="#c6dbef", label="p99")
    axes.barh(names, [row["cpu_p50_us"] for row in rows.values()], color="#3182bd", label="p50")
    axes.axvline(BUDGET_US, color="#de2d26", label="budget of a pipeline")
    axes.set(xscale="log", xlabel="µs of CPU a frame, one thread")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 calls of each: only shows that it runs")
    parser.add_argument("--calls", type=int, default=3000, help="of each (default: %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=8, help="samples of a policy's batch (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="of the policy's batch (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    args = parser.parse_args()
    calls = 60 if args.quick else args.calls
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    frames = robot_frames(calls)
    actions = commands(frames)
    results = {
        "steps": measure(robot_steps(frames, actions), calls),
        "pipeline": measure(robot_pipeline(frames, actions), calls),
        "resize": measure(resizers(frames), calls),
        "policy": measure(policy_steps(args.device, args.batch), max(5, calls // 100)),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    document = {"calls": calls, "batch": args.batch, "device": args.device, **results}
    print(f"\n{tables(document)}")
    (args.out / "processors.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    draw(results, args.out / "processors.png")
    print(last_line(document))


if __name__ == "__main__":
    main()
