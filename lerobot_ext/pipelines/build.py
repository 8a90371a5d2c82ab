# SPDX-License-Identifier: Apache-2.0
"""Makes the steps that a file names, and says what to do about those that cannot be made.

LeRobot's own errors list every registered step, or quote a `TypeError`. Here: the nearest name, the package
to install, the nearest field.
"""

import dataclasses
import inspect
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from lerobot.processor import ProcessorStep, ProcessorStepRegistry

from lerobot_ext.pipelines.file import PipelineEntry, PipelineError, StepEntry
from lerobot_ext.plugins import describe_error, load_all

STEP_PACKAGE = "lerobot_robot_processors"
"""Where a step is to be found that nobody here has."""


def build_steps(entry: PipelineEntry) -> list[ProcessorStep]:
    """The steps of one pipeline, with their state.

    Raises:
        PipelineError: A step is unknown, a field of its configuration is, or its state cannot be loaded.
    """
    load_all()
    return [_build(entry, index, step) for index, step in enumerate(entry.steps)]


def _build(entry: PipelineEntry, index: int, step: StepEntry) -> ProcessorStep:
    place = entry.place(index)
    cls = _step_class(place, step)
    _check_fields(place, step, cls)
    try:
        made = cls(**step.config)
    except Exception as error:  # the boundary to anybody's step
        raise PipelineError(
            f"{place} refuses its configuration: {describe_error(error)}", "mend `config`"
        ) from error
    if not isinstance(made, ProcessorStep):
        raise PipelineError(f"{place} is no processor step", "name a subclass of LeRobot's ProcessorStep")
    if step.state_file:
        _load_state(place, step, made, entry)
    return made


def _step_class(place: str, step: StepEntry) -> Any:
    if not step.registered:
        module, _, name = step.name.rpartition(".")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise PipelineError(
                f"{place} cannot be imported: {describe_error(error)}",
                f"install the package that has {module.partition('.')[0]!r}, or mend the name",
            ) from None
    try:
        return ProcessorStepRegistry.get(step.name)
    except KeyError:
        raise PipelineError(f"{place} is no registered step", _remedy_for_unknown(step.name)) from None


def _remedy_for_unknown(name: str) -> str:
    """The nearest known name, and which package may be missing."""
    from importlib import metadata

    from lerobot_ext.installing import install_command

    near = get_close_matches(name, ProcessorStepRegistry.list(), n=1, cutoff=0.75)
    if near:
        return f"did you mean {near[0]!r}?"
    try:
        metadata.version(STEP_PACKAGE)
    except metadata.PackageNotFoundError:
        return f"`{install_command(STEP_PACKAGE)}` brings ours; for another's step install its package"
    return "install the package that has it; `lerobot-ext plugins` lists what is installed and what failed"


def _check_fields(place: str, step: StepEntry, cls: Any) -> None:
    """Refuse a configuration with a field that the constructor does not have, or without one it needs."""
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return  # a class without a signature: its own error has to do
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        for name in step.config:
            if name not in parameters:
                near = get_close_matches(name, list(parameters), n=1)
                known = f"its fields are {', '.join(parameters) or 'none'}"
                raise PipelineError(
                    f"{place} has no field {name!r}", f"did you mean {near[0]!r}?" if near else known
                )
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, one in parameters.items():
        if one.kind in kinds and one.default is inspect.Parameter.empty and name not in step.config:
            raise PipelineError(f"{place} needs a field {name!r}", f'add it: "config": {{"{name}": …}}')


def _load_state(place: str, step: StepEntry, made: ProcessorStep, entry: PipelineEntry) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = entry.path.parent / step.state_file
    try:
        made.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise PipelineError(
            f"{place} keeps its state in {path}, which is not there", "copy it there"
        ) from None
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise PipelineError(
            f"{place} cannot load {path}: {describe_error(error)}", "get both files from one place"
        ) from None


def entry_of(step: ProcessorStep, state_file: str = "") -> dict[str, Any]:
    """A step as LeRobot's JSON has it."""
    name = getattr(type(step), "_registry_name", None)
    made: dict[str, Any] = (
        {"registry_name": name} if name else {"class": f"{type(step).__module__}.{type(step).__name__}"}
    )
    made["config"] = step.get_config()
    if state_file:
        made["state_file"] = state_file
    return made


def step_name(step: ProcessorStep) -> str:
    """What a step is called in messages: its registry name, or its class."""
    return str(getattr(type(step), "_registry_name", None) or type(step).__name__)


def same_step(one: ProcessorStep, other: ProcessorStep) -> bool:
    """Whether two steps are of one kind and configured alike."""
    return type(one) is type(other) and _plain(one.get_config()) == _plain(other.get_config())


def _plain(value: Any) -> Any:
    """A configuration as JSON would give it back."""
    import json

    return json.loads(json.dumps(value, default=_plain_object))


def _plain_object(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)  # type: ignore[arg-type]
