# SPDX-License-Identifier: Apache-2.0
"""What a file of steps is and does, for `lerobot-ext pipeline`: steps, features in and out, what is wrong.

A file is looked at beside what it is for: a robot, a dataset, a checkpoint. Nothing is connected.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lerobot.configs import FeatureType

from lerobot_ext.cli.command import CommandError
from lerobot_ext.pipelines.build import build_steps, step_name
from lerobot_ext.pipelines.features import Features, as_robot_features, describe, walk
from lerobot_ext.pipelines.file import (
    POLICY_SIDE,
    PREPROCESSOR,
    ROBOT_ACTION,
    ROBOT_OBSERVATION,
    ROBOT_SIDE,
    TELEOP_ACTION,
    PipelineEntry,
    PipelineError,
    read_file,
)
from lerobot_ext.pipelines.insertion import ExtraSteps, check_names, moved_values
from lerobot_ext.pipelines.robot_side import RobotSide, Spaces, lost_in_rollout
from lerobot_ext.pipelines.running import require_command

_APART = 1e-3


@dataclass(frozen=True)
class Finding:
    """Something that will not work, or will surprise.

    Args:
        severity (`str`): `problem` or `note`.
        what (`str`): What it is.
        remedy (`str`): What to do about it.
    """

    severity: Literal["problem", "note"]
    what: str
    remedy: str = ""


@dataclass
class StepReport:
    """One step.

    Args:
        name (`str`): Registry name or class.
        config (`dict`): Its configuration.
        before (`dict`): Features that come to it, by name, in words; empty when they are not known.
        after (`dict`): Features behind it.
        us_p50 (`float`, *optional*): Microseconds a frame, median; only of a bench.
        us_p99 (`float`, *optional*): The 99th percentile.
    """

    name: str
    config: dict[str, Any]
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    us_p50: float | None = None
    us_p99: float | None = None


@dataclass
class PipelineReport:
    """One pipeline of a file.

    Args:
        key (`str`): Its name.
        steps (`list[StepReport]`): Its steps.
        action (`dict`): Features of the action that come to it.
        observation (`dict`): Features of the observation that come to it.
        made (`list`): The steps themselves.
        lead (`PipelineReport`, *optional*): The pipeline whose action this one takes.
    """

    key: str
    steps: list[StepReport] = field(default_factory=list)
    action: Features = field(default_factory=dict)
    observation: Features = field(default_factory=dict)
    made: list[Any] = field(default_factory=list, repr=False)
    lead: "PipelineReport | None" = field(default=None, repr=False)


@dataclass
class Survey:
    """All that is known of a file.

    Args:
        path (`Path`): The file.
        pipelines (`list[PipelineReport]`): Its pipelines.
        findings (`list[Finding]`): What is wrong with them.
    """

    path: Path
    pipelines: list[PipelineReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(one.severity == "problem" for one in self.findings)


@dataclass(frozen=True)
class Subject:
    """What a file is for; what is not known is `None`.

    Args:
        robot (`Robot`, *optional*): A robot, not connected.
        dataset (`dict`, *optional*): Features of a dataset, as its `meta/info.json` has them.
        stats (`dict`, *optional*): Its statistics.
        checkpoint (`Path`, *optional*): A checkpoint.
    """

    robot: Any = None
    dataset: dict[str, Any] | None = None
    stats: dict[str, Any] | None = None
    checkpoint: Path | None = None


def survey(path: Path, subject: Subject) -> Survey:
    """Look at a file of steps, or at the pipelines of a checkpoint's folder."""
    found = Survey(path)
    try:
        if path.is_dir():
            _saved(found, path)
        elif _is_policy_side(path, subject):
            _policy_side(found, subject)
        else:
            _robot_side(found, subject)
    except PipelineError as error:
        found.findings.insert(0, Finding("problem", error.message, error.remedy))
    return found


def _is_policy_side(path: Path, subject: Subject) -> bool:
    entries = read_file(path, (*ROBOT_SIDE, *POLICY_SIDE))
    sides = {key in POLICY_SIDE for key in entries if key}
    if len(sides) > 1:
        raise PipelineError(f"{path} has pipelines of a robot and of a policy", "make two files of it")
    return (
        sides.pop()
        if sides
        else subject.robot is None and (subject.checkpoint or subject.dataset) is not None
    )


def _report(found: Survey, key: str, steps: Sequence[Any], action: Features, observation: Features) -> None:
    """Add a pipeline; without features its steps are listed only."""
    report = PipelineReport(key, action=dict(action), observation=dict(observation), made=list(steps))
    found.pipelines.append(report)
    if not action and not observation:
        report.steps = [StepReport(step_name(step), step.get_config()) for step in steps]
        return
    before = _in_words(action, observation)
    try:
        walked = walk(steps, action, observation, place=key)
    except PipelineError as error:
        report.steps = [StepReport(step_name(step), step.get_config()) for step in steps]
        found.findings.append(Finding("problem", error.message, error.remedy))
        return
    for step, pair in walked:
        after = _in_words(*pair)
        report.steps.append(StepReport(step_name(step), step.get_config(), before, after))
        before = after


def _in_words(action: Features, observation: Features) -> dict[str, str]:
    return {f"action {name}": describe(one) for name, one in action.items()} | {
        name: describe(one) for name, one in observation.items()
    }


# --- around a robot


def _robot_side(found: Survey, subject: Subject) -> None:
    side = RobotSide.load(found.path)
    robot = subject.robot
    motors, raw = (robot.action_features, robot.observation_features) if robot is not None else ({}, {})
    action: Features = dict(motors)
    for key, pipeline in side.pipelines.items():
        given = {} if key == ROBOT_OBSERVATION else action
        if pipeline.steps:
            _report(found, key, pipeline.steps, given, raw)
            if key == ROBOT_ACTION and found.pipelines[0].key == TELEOP_ACTION:
                found.pipelines[-1].lead = found.pipelines[0]
        if key == TELEOP_ACTION and motors and found.is_sound:
            walked = walk(pipeline.steps, motors, raw, place=key)
            action = as_robot_features(walked[-1][1][0] if walked else motors)
    if robot is None:
        found.findings.append(
            Finding(
                "note", "no robot was named: features are not known", "add --robot.type=… and its options"
            )
        )
        return
    if not found.is_sound:
        return
    spaces = side.spaces(motors, raw)
    found.findings += [*_about_rollout(spaces), *_about_one_frame(side, spaces)]
    if subject.dataset is not None:
        found.findings += _about_dataset(spaces, subject.dataset)
    if subject.checkpoint is not None:
        found.findings += _about_policy(spaces, subject.checkpoint)


def _about_rollout(spaces: Spaces) -> Iterator[Finding]:
    lost = lost_in_rollout(spaces)
    if lost:
        yield Finding(
            "note",
            f"as --robot.pipeline, lerobot-rollout would leave out {', '.join(lost)}",
            "it takes names that end in .pos or .vel: let the step give such names, or use "
            "LEROBOT_EXT_PIPELINES",
        )


def _about_one_frame(side: RobotSide, spaces: Spaces) -> Iterator[Finding]:
    """Whether a made-up frame goes through, as announced; and whether the way back is one."""
    from lerobot_ext.pipelines.bench import made_up_robot

    command, observation = made_up_robot(spaces.motors, spaces.raw)
    side.reset()
    try:
        said = side.teleop_action((command, observation))
        back = require_command(side.robot_action((said, observation)), spaces.motors, side.robot_action.name)
        seen = side.robot_observation(observation)
    except PipelineError as error:
        yield Finding("problem", f"on a made-up frame, {error.message}", error.remedy)
        return
    finally:
        side.reset()
    for name, one in spaces.observation.items():
        given = tuple(getattr(seen.get(name), "shape", ()))
        if name not in seen or (isinstance(one, tuple) and given != one):
            yield Finding(
                "problem",
                f"{name} is announced as {describe(one)} and comes as {given if name in seen else 'nothing'}",
                "a step's transform_features is wrong: tell its author",
            )
    off = {name: abs(back[name] - command[name]) for name in command}
    wrong = {name: value for name, value in off.items() if value > _APART}
    if wrong and side.teleop_action.steps:
        worst = max(wrong, key=lambda name: wrong[name])
        yield Finding(
            "note",
            f"`{ROBOT_ACTION}` does not give back what `{TELEOP_ACTION}` took: {worst} {command[worst]:.4g} "
            f"comes back as {back[worst]:.4g}",
            "right for limits and smoothing; wrong if one is meant to undo the other",
        )


def _about_dataset(spaces: Spaces, features: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether a dataset has what would be recorded."""
    from lerobot.utils.feature_utils import hw_to_dataset_features

    mine = {
        **hw_to_dataset_features(spaces.action, "action"),
        **hw_to_dataset_features(spaces.observation, "observation"),
    }
    for name, one in mine.items():
        other = features.get(name)
        if other is None:
            yield Finding("problem", f"the dataset has no {name}", "it was recorded with other steps")
        elif list(other.get("names") or []) != list(one["names"]) or tuple(other["shape"]) != tuple(
            one["shape"]
        ):
            yield Finding(
                "problem",
                f"{name} is {tuple(one['shape'])} of {', '.join(one['names'])}, in the dataset "
                f"{tuple(other['shape'])} of {', '.join(other.get('names') or [])}",
                "record, replay and roll out with the same steps",
            )


def _about_policy(spaces: Spaces, checkpoint: Path) -> Iterator[Finding]:
    """Whether a policy takes what the robot gives, as `lerobot-rollout` would hand it over."""
    from lerobot.utils.feature_utils import dataset_to_policy_features, hw_to_dataset_features

    from lerobot_ext.hub.checkpoint import read_config

    config = read_config(checkpoint)
    mine = dataset_to_policy_features(
        {
            **hw_to_dataset_features(spaces.action, "action"),
            **hw_to_dataset_features(spaces.observation, "observation"),
        }
    )
    for side in ("input_features", "output_features"):
        for name, one in (config.get(side) or {}).items():
            given = mine.get(name)
            if given is None:
                yield Finding(
                    "problem", f"the policy has {name}, the robot's side does not", "other steps, or robot"
                )
            elif given.type is not FeatureType.VISUAL and list(given.shape) != list(one["shape"]):
                yield Finding(
                    "problem",
                    f"{name} is {tuple(given.shape)} of the robot, {tuple(one['shape'])} of the policy",
                    "train with the dataset that these steps record",
                )


# --- around a policy


def _policy_side(found: Survey, subject: Subject) -> None:
    extra = ExtraSteps.load(found.path)
    inputs, outputs = _policy_features(subject)
    for key in POLICY_SIDE:
        if key in extra.entries:
            _report(found, key, extra.steps[key], outputs, inputs if key == PREPROCESSOR else {})
    if not inputs:
        found.findings.append(
            Finding(
                "note",
                "neither a checkpoint nor a dataset was named: features are not known",
                "add --policy.path=… or --dataset.repo_id=…",
            )
        )
        return
    after = extra.inputs_after(inputs, outputs)
    extra.check_outputs(outputs)
    found.findings += _about_one_batch(found, after)
    if subject.checkpoint is not None:
        config, names = _checkpoint(subject.checkpoint)
        for key, present in names.items():
            check_names(key, present)
            if key in extra.entries:
                extra.positions(key, present)
        extra.check_statistics(inputs, outputs, config.normalization_mapping, subject.stats)
        if found.is_sound:
            for name in moved_values(extra, inputs, config.normalization_mapping):
                what = f"the steps change what the values of {name} are, before the normaliser"
                found.findings.append(
                    Finding("note", what, 'its statistics are off: "where": "after_normalizer"')
                )


def _about_one_batch(found: Survey, after: Features) -> Iterator[Finding]:
    """Whether a made-up batch of one goes through, and comes out as announced."""
    from lerobot.lerobot_types import TransitionKey

    from lerobot_ext.pipelines.bench import run_once

    for report in found.pipelines:
        try:
            transition = run_once(report)
        except PipelineError as error:
            yield Finding("problem", f"on a made-up frame, {error.message}", error.remedy)
            continue
        seen = transition.get(TransitionKey.OBSERVATION) or {}
        for name, one in after.items() if report.key == PREPROCESSOR else ():
            given = tuple(getattr(seen.get(name), "shape", ())[1:])
            if given != tuple(one.shape):
                yield Finding(
                    "problem",
                    f"{name} is announced as {tuple(one.shape)} and comes as {given}",
                    "a step's transform_features is wrong: tell its author",
                )


def _policy_features(subject: Subject) -> tuple[Features, Features]:
    from lerobot.utils.feature_utils import dataset_to_policy_features

    if subject.dataset is not None:
        both = dataset_to_policy_features(subject.dataset)
        outputs = {name: one for name, one in both.items() if one.type is FeatureType.ACTION}
        return {name: one for name, one in both.items() if name not in outputs}, outputs
    if subject.checkpoint is None:
        return {}, {}
    config, _ = _checkpoint(subject.checkpoint)
    return dict(config.input_features), dict(config.output_features)


def _checkpoint(folder: Path) -> tuple[Any, dict[str, list[str]]]:
    """A checkpoint's configuration, and the names of its saved steps by pipeline.

    Raises:
        CommandError: LeRobot, or the plugin that has the policy, cannot read it.
        PipelineError: It is not whole.
    """
    import json

    from lerobot_ext.doctor.checkpoint_child import load_plugins, read_config
    from lerobot_ext.hub.checkpoint import examine
    from lerobot_ext.hub.derive import import_processors

    problems = examine(folder)
    if problems:
        raise PipelineError(f"{folder} is not whole: {problems[0]}", problems[0].remedy)
    load_plugins()
    config, reason = read_config(folder)
    if config is None:
        raise CommandError(
            f"{folder} cannot be loaded: {reason}", f"`lerobot-ext doctor --policy.path={folder}` examines it"
        )
    import_processors(type(config).__module__)
    names = {}
    for key in POLICY_SIDE:
        steps = json.loads((folder / f"{key}.json").read_bytes())["steps"]
        names[key] = [str(one.get("registry_name") or one.get("class")) for one in steps]
    return config, names


def _saved(found: Survey, folder: Path) -> None:
    """The pipelines of a checkpoint."""
    from lerobot_ext.hub.checkpoint import examine

    found.findings += [Finding("problem", str(one), one.remedy) for one in examine(folder)]
    if not found.is_sound:
        return
    config, names = _checkpoint(folder)
    for key in POLICY_SIDE:
        entry: PipelineEntry = read_file(folder / f"{key}.json", POLICY_SIDE)[key]
        check_names(key, names[key])
        inputs = config.input_features if key == PREPROCESSOR else {}
        _report(found, key, build_steps(entry), config.output_features, inputs)
    found.findings += _about_statistics(found, config)


def _about_statistics(found: Survey, config: Any) -> Iterator[Finding]:
    """Features that a normaliser of a checkpoint lets through as they are, for want of statistics."""
    for report in found.pipelines:
        for step in report.made:
            if step_name(step) not in ("normalizer_processor", "unnormalizer_processor"):
                continue
            known = set(step.stats or {}) | set(getattr(step, "_tensor_stats", None) or {})
            modes = {getattr(k, "value", k): str(getattr(v, "value", v)) for k, v in step.norm_map.items()}
            for name, feature in step.features.items():
                if modes.get(feature.type.value, "IDENTITY") != "IDENTITY" and name not in known:
                    yield Finding(
                        "problem",
                        f"{report.key}: {step_name(step)} has no statistics of {name} and leaves it as it is",
                        "train again with a dataset that has them; `lerobot-ext doctor --dataset.repo_id=…` "
                        "finds out",
                    )
