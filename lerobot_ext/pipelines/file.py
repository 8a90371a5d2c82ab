# SPDX-License-Identifier: Apache-2.0
"""Files of processor steps: LeRobot's own saved-pipeline JSON, several of them under names in one file.

```json
{"teleop_action":     {"name": "…", "steps": [{"registry_name": "…", "config": {…}, "state_file": "…"}]},
 "robot_action":      {"name": "…", "steps": […]},
 "robot_observation": {"name": "…", "steps": […]}}
```

State files lie beside it. A file that LeRobot itself saved, with one pipeline and no name above it, is read
too. Neither LeRobot nor torch is needed to read one: `lerobot-ext pipeline --help` must not load them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

TELEOP_ACTION, ROBOT_ACTION, ROBOT_OBSERVATION = "teleop_action", "robot_action", "robot_observation"
ROBOT_SIDE = (TELEOP_ACTION, ROBOT_ACTION, ROBOT_OBSERVATION)
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor", "policy_postprocessor"
POLICY_SIDE = (PREPROCESSOR, POSTPROCESSOR)

_ENTRY_FIELDS = ("registry_name", "class", "config", "state_file")


class PipelineError(ValueError):
    """A file of steps, or what its steps do, is wrong; `remedy` says what to do.

    Args:
        message (`str`): What is wrong, with file, pipeline and step.
        remedy (`str`, *optional*): What to do next, without a full stop.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class StepEntry:
    """One step as the file has it.

    Args:
        name (`str`): Its registry name, or the dotted path of its class.
        registered (`bool`): Whether `name` is a registry name.
        config (`Mapping[str, Any]`): Arguments of its constructor.
        state_file (`str`): File of its tensors beside the JSON; empty for none.
    """

    name: str
    registered: bool
    config: Mapping[str, Any] = field(default_factory=dict)
    state_file: str = ""


@dataclass(frozen=True)
class PipelineEntry:
    """One pipeline as the file has it.

    Args:
        key (`str`): Its name in the file; empty for the only one of a plain file.
        name (`str`): The name that LeRobot saved it under.
        steps (`Sequence[StepEntry]`): Its steps in order.
        path (`Path`): The file.
        where (`str`): Of a policy's: where its steps belong, see `insertion.py`; empty for the usual place.
    """

    key: str
    name: str
    steps: Sequence[StepEntry]
    path: Path
    where: str = ""

    def place(self, index: int | None = None) -> str:
        """The file, this pipeline and one of its steps, for messages."""
        inside = f", {self.key}" if self.key else ""
        if index is None:
            return f"{self.path}{inside}"
        return f"{self.path}{inside}, step {index} ({self.steps[index].name})"


def read_file(path: Path | str, allowed: Sequence[str]) -> dict[str, PipelineEntry]:
    """Read a file of pipelines.

    Args:
        path (`Path`): The file.
        allowed (`Sequence[str]`): The pipelines that make sense where the file is used: `ROBOT_SIDE`, say.

    Returns:
        The pipelines by name. A plain file gives one, under the name it was saved with if that is one of
        `allowed`, else under `""`: the caller knows what it is, or refuses it.

    Raises:
        PipelineError: The file cannot be read, or is not of this form.
    """
    path = Path(path).expanduser()
    raw = _read_json(path)
    if "steps" in raw:
        key = str(raw.get("name", ""))
        key = key if key in allowed else ""
        return {key: _pipeline(path, key, raw)}
    if not raw:
        raise PipelineError(f"{path} names no pipeline", f"name one of {', '.join(allowed)}")
    for key in raw:
        if key not in allowed:
            raise PipelineError(f"{path} has a pipeline {key!r}", _did_you_mean(key, allowed))
    return {key: _pipeline(path, key, value) for key, value in raw.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise PipelineError(f"{path} is not there", "name a file of processor steps") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}", "name a file of steps") from None
    except ValueError as error:
        raise PipelineError(f"{path} is not JSON: {error}", "mend it there") from None
    if not isinstance(raw, dict):
        raise PipelineError(f"{path} holds a {type(raw).__name__}", "an object of pipelines is needed")
    return raw


def _pipeline(path: Path, key: str, raw: Any) -> PipelineEntry:
    where = f"{path}, {key}" if key else str(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("steps"), list):
        raise PipelineError(f"{where} has no list in field `steps`", 'write {"name": …, "steps": […]}')
    for name in raw:
        if name not in ("name", "steps", "where"):
            raise PipelineError(
                f"{where} has a field {name!r}", _did_you_mean(name, ("name", "steps", "where"))
            )
    steps = [_step(f"{where}, step {index}", entry) for index, entry in enumerate(raw["steps"])]
    place = raw.get("where", "")
    if not isinstance(place, (str, int)) or isinstance(place, bool):
        raise PipelineError(f"{where} has `where` {place!r}", "name a place, or the index of a step")
    return PipelineEntry(key, str(raw.get("name") or key or path.stem), steps, path, str(place))


def _step(where: str, raw: Any) -> StepEntry:
    if not isinstance(raw, dict):
        raise PipelineError(f"{where} is {raw!r}", 'write {"registry_name": …, "config": {…}}')
    for name in raw:
        if name not in _ENTRY_FIELDS:
            raise PipelineError(f"{where} has a field {name!r}", _did_you_mean(name, _ENTRY_FIELDS))
    registry_name, path = raw.get("registry_name"), raw.get("class")
    name = registry_name or path
    if not isinstance(name, str) or not name or (registry_name and path):
        raise PipelineError(f"{where} needs a text in `registry_name` or in `class`", "name the step, once")
    if path and "." not in path:
        raise PipelineError(f"{where} has `class` {path!r}", "write it as `package.module.Class`")
    config, state = raw.get("config", {}), raw.get("state_file") or ""
    if not isinstance(config, dict):
        raise PipelineError(f"{where} has `config` {config!r}", "an object is needed")
    if not isinstance(state, str) or Path(state).name != state:
        raise PipelineError(f"{where} has `state_file` {state!r}", "name a file beside this one")
    return StepEntry(name, bool(registry_name), config, state)


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
