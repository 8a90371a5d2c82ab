# SPDX-License-Identifier: Apache-2.0
"""Extra steps when a policy is trained: `--policy.extra_steps=FILE`, `LEROBOT_EXT_POLICY_STEPS=FILE`.

`lerobot-train` builds the policy from the dataset's features first and its pipelines afterwards. Steps that
change a shape have to be known by then: while it builds the policy, LeRobot's features of the dataset are
those behind the steps. The steps then go into the pipelines it has made. From there on they are like any
other step: saved, pushed, loaded in a fresh process, reset. Nothing of this module is needed for that.

A policy that starts from a checkpoint has its steps in the checkpoint.
"""

import inspect
import logging
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from lerobot.configs import FeatureType
from lerobot.policies import factory

from lerobot_ext.patches import Patch
from lerobot_ext.pipelines.build import same_step, step_name
from lerobot_ext.pipelines.file import POLICY_SIDE, PREPROCESSOR, PipelineError
from lerobot_ext.pipelines.hook import POLICY_VARIABLE as VARIABLE
from lerobot_ext.pipelines.insertion import ExtraSteps, check_names, moved_values

logger = logging.getLogger(__name__)

_patch = Patch("building of policies", f"--policy.extra_steps and {VARIABLE} are NOT IN EFFECT")
_building: ExtraSteps | None = None
_before: dict[str, Any] = {}


def install(script: ModuleType) -> bool:
    """Let a training script add steps; again, while it does, changes nothing.

    Args:
        script (`ModuleType`): `lerobot.scripts.lerobot_train`, under whatever name it runs.

    Returns:
        Whether it does: not with a LeRobot outside the tested window, which is logged.
    """
    return _patch.install(
        {
            (script, "make_policy"): _make_policy,
            (script, "make_pre_post_processors"): _make_pre_post_processors,
            (factory, "dataset_to_policy_features"): _dataset_to_policy_features,
        }
    )


def uninstall() -> None:
    """Give LeRobot its own code back."""
    global _building
    _patch.uninstall()
    _building = None
    _before.clear()


def file_of(config: Any) -> str | None:
    """The file of steps that a policy is to be trained with, if any.

    Raises:
        PipelineError: Field and environment variable name two files.
    """
    field, variable = getattr(config, "extra_steps", None), os.environ.get(VARIABLE) or None
    if field and variable and Path(field).resolve() != Path(variable).resolve():
        raise PipelineError(
            f"--policy.extra_steps is {field}, {VARIABLE} is {variable}", "put all steps into one file"
        )
    return field or variable


def _make_policy(*words: Any, **named: Any) -> Any:
    """Stock's; a new policy is built for what its steps make of the dataset."""
    global _building
    stock = _patch.stock("make_policy")
    config = inspect.signature(stock).bind(*words, **named).arguments["cfg"]
    path = file_of(config)
    if not path or config.pretrained_path:
        return stock(*words, **named)
    _building = ExtraSteps.load(path)
    try:
        return stock(*words, **named)
    finally:
        _building = None


def _dataset_to_policy_features(features: Any) -> Any:
    """Stock's, behind the steps of the policy that is being built."""
    found = _patch.stock("dataset_to_policy_features")(features)
    if _building is None:
        return found
    outputs = {name: one for name, one in found.items() if one.type is FeatureType.ACTION}
    inputs = {name: one for name, one in found.items() if name not in outputs}
    after = _building.inputs_after(inputs, outputs)
    _building.check_outputs(outputs)
    _before.clear()
    _before.update(inputs)
    return {**after, **outputs}


def _make_pre_post_processors(*words: Any, **named: Any) -> tuple[Any, Any]:
    """Stock's, with the steps in their places."""
    stock = _patch.stock("make_pre_post_processors")
    given = inspect.signature(stock).bind(*words, **named).arguments
    config, source = given["policy_cfg"], given.get("pretrained_path")
    path = file_of(config)
    pipelines: tuple[Any, Any] = stock(*words, **named)
    if not path:
        return pipelines
    if source:
        _require_there(config, path, pipelines, str(source))
        return pipelines
    extra = ExtraSteps.load(path)
    extra.check_statistics(
        dict(_before), config.output_features, config.normalization_mapping, named.get("dataset_stats")
    )
    for name in _moved(extra, config):
        logger.warning(
            "lerobot_ext: steps of %s change what the values of %s are, before the normaliser, and its "
            'statistics are of the values before. Put them behind it ("where": "after_normalizer"), or set '
            "the type of %s to IDENTITY in normalization_mapping.",
            extra.path,
            name,
            name,
        )
    insert(extra, pipelines)
    return pipelines


def _moved(extra: ExtraSteps, config: Any) -> list[str]:
    """Features whose statistics are off; none where a step cannot be tried out of its context."""
    try:
        return moved_values(extra, dict(_before), config.normalization_mapping)
    except PipelineError as error:
        logger.info("lerobot_ext: whether statistics still fit is not known: %s", error)
        return []


def insert(extra: ExtraSteps, pipelines: tuple[Any, Any]) -> None:
    """Put steps into a policy's pipelines, which stay the objects they are.

    Args:
        extra (`ExtraSteps`): The steps.
        pipelines (`tuple`): Pre- and postprocessor.

    Raises:
        PipelineError: There is no such place, or a step that LeRobot overrides by name is missing.
    """
    for key, pipeline in zip(POLICY_SIDE, pipelines, strict=True):
        names = [step_name(step) for step in pipeline.steps]
        check_names(key, names)
        if key not in extra.entries:
            continue
        places = extra.positions(key, names)
        steps = list(pipeline.steps)
        for offset, (place, step) in enumerate(zip(places, extra.steps[key], strict=True)):
            steps.insert(place + offset, step)
        pipeline.steps = steps
        logger.info(
            "lerobot_ext: %s has %s at %s, from %s",
            key,
            ", ".join(step_name(step) for step in extra.steps[key]),
            ", ".join(str(place + offset) for offset, place in enumerate(places)),
            extra.path,
        )
    # LeRobot does so when it loads pipelines; an evaluation within the training needs it now.
    factory._reconnect_relative_absolute_steps(*pipelines)


def _require_there(config: Any, path: str, pipelines: tuple[Any, Any], source: str) -> None:
    """A checkpoint brings its steps; that others are asked for besides must not be lost."""
    if not Path(path).is_file() and not os.environ.get(VARIABLE):
        return  # the field tells how the checkpoint was made, perhaps on another machine
    extra = ExtraSteps.load(path)
    for key, pipeline in zip(POLICY_SIDE, pipelines, strict=True):
        if not _contains(pipeline.steps, extra.steps.get(key, [])):
            before = "before" if key == PREPROCESSOR else "behind"
            raise PipelineError(
                f"{source} was not trained with the steps {before} the policy that {path} names",
                f"`lerobot-ext pipeline add --policy.path={source} --steps={path}` adds them there; or leave "
                f"out --policy.extra_steps and {VARIABLE}",
            )


def _contains(steps: Any, wanted: list[Any]) -> bool:
    """Whether some steps, configured alike, are among others in this order."""
    rest = iter(steps)
    return all(any(same_step(one, other) for other in rest) for one in wanted)
