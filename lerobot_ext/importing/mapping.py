# SPDX-License-Identifier: Apache-2.0
"""Which dataset of an HDF5 file becomes which feature: what a layout says, or a file of the user's.

```yaml
episodes: groups            # groups, file (one episode a file), flat (cut where `done` or `truncated` fires)
groups: data/demo_*         # for `groups`: where they are; every path below is inside one of them
columns:
  observation.state: [obs/joint_pos, obs/gripper]     # side by side
  action: actions
cameras:
  observation.images.front: {path: obs/front_image, color: rgb, channels: last}
reward: rewards             # these four may be left out
done: dones
truncated: timeouts
success: success
task: {attribute: language_instruction}               # of the group or the file
```
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from lerobot_ext.cli.command import CommandError
from lerobot_ext.importing.findings import nearest

EPISODES: Final = ("flat", "groups", "file")
_KEYS: Final = ("episodes", "groups", "columns", "cameras", "reward", "done", "truncated", "success", "task")


@dataclass(frozen=True)
class Camera:
    """A camera's pictures.

    Args:
        name (`str`): Feature, `observation.images.…`.
        path (`str`): Dataset in the file.
        color (`str`, *optional*, defaults to `"rgb"`): Or `"bgr"`: the channels are swapped.
        channels (`str`, *optional*, defaults to `"last"`): Or `"first"`: (T, C, H, W) in the file.
    """

    name: str
    path: str
    color: str = "rgb"
    channels: str = "last"


@dataclass(frozen=True)
class Column:
    """A feature made of numbers: datasets of one row a frame, side by side."""

    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Mapping:
    """Everything that is taken from a file, and how its frames fall into episodes.

    Args:
        layout (`str`): Its name, for messages.
        episodes (`str`): One of `EPISODES`.
        groups (`str`): Pattern of the groups that are episodes.
        columns (`tuple`): `observation.state`, `action` and others.
        cameras (`tuple`): All cameras.
        reward, done, truncated, success (`str`, *optional*): Paths of one number a frame.
        task_attribute (`str`, *optional*): Attribute of a group or file that names its task.
        same_width (`bool`): Whether state and action should be equally wide.
    """

    layout: str
    episodes: str
    groups: str = ""
    columns: tuple[Column, ...] = ()
    cameras: tuple[Camera, ...] = ()
    reward: str | None = None
    done: str | None = None
    truncated: str | None = None
    success: str | None = None
    task_attribute: str | None = None
    same_width: bool = False

    @property
    def signals(self) -> dict[str, str]:
        """What is said about each step: `reward`, `done`, `truncated`, `success`, with its path."""
        every = {
            "reward": self.reward,
            "done": self.done,
            "truncated": self.truncated,
            "success": self.success,
        }
        return {name: path for name, path in every.items() if path is not None}

    @property
    def paths(self) -> list[str]:
        """All datasets it reads, in each episode."""
        columns = [path for column in self.columns for path in column.paths]
        return [*columns, *(camera.path for camera in self.cameras), *self.signals.values()]

    def as_plain(self) -> dict[str, Any]:
        """For fingerprints and `--json`."""
        return asdict(self)


def read_mapping(file: Path) -> Mapping:
    """The mapping in a YAML file.

    Raises:
        CommandError: It cannot be read, or says something that is not understood; all of it in one line.
    """
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise CommandError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(raw, dict):
        raise CommandError(f"{file} holds no mapping", "see docs/offline_data.md for one")
    wrong = [f"`{key}` is not known{nearest(str(key), _KEYS)}" for key in raw if key not in _KEYS]
    if raw.get("episodes") not in EPISODES:
        wrong.append(f"`episodes` must be one of {', '.join(EPISODES)}, not {raw.get('episodes')!r}")
    if (raw.get("episodes") == "groups") != isinstance(raw.get("groups"), str):
        wrong.append("`groups`, a pattern such as data/demo_*, goes with `episodes: groups`")
    if raw.get("episodes") == "flat" and not (raw.get("done") or raw.get("truncated")):
        wrong.append("`episodes: flat` needs `done` or `truncated`: where an episode ends")
    columns = _columns(raw.get("columns"), wrong)
    cameras = _cameras(raw.get("cameras") or {}, wrong)
    signals: dict[str, Any] = {name: raw.get(name) for name in ("reward", "done", "truncated", "success")}
    wrong += [
        f"`{name}` must be a path" for name, path in signals.items() if not isinstance(path, str | None)
    ]
    task = raw.get("task")
    attribute = task.get("attribute") if isinstance(task, dict) and len(task) == 1 else None
    if task is not None and not isinstance(attribute, str):
        wrong.append("`task` must be {attribute: NAME}; a task for all episodes goes with --task")
    if wrong:
        raise CommandError(f"{file}: " + "; ".join(wrong), "see docs/offline_data.md for a whole one")
    return Mapping(
        str(file.name),
        raw["episodes"],
        str(raw.get("groups") or ""),
        columns,
        cameras,
        task_attribute=attribute,
        **signals,
    )


def _columns(raw: Any, wrong: list[str]) -> tuple[Column, ...]:
    if not isinstance(raw, dict) or "action" not in raw:
        wrong.append("`columns` must be a table with `action` in it, and usually `observation.state`")
        return ()
    found = []
    for name, paths in raw.items():
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
            wrong.append(f"`columns.{name}` must be a path or a list of paths")
        elif name != "action" and not str(name).startswith("observation."):
            wrong.append(f"`columns.{name}`: LeRobot trains on `action` and `observation.…` only")
        else:
            found.append(Column(str(name), tuple(paths)))
    return tuple(found)


def _cameras(raw: Any, wrong: list[str]) -> tuple[Camera, ...]:
    if not isinstance(raw, dict):
        wrong.append("`cameras` must be a table")
        return ()
    found = []
    for name, entry in raw.items():
        entry = {"path": entry} if isinstance(entry, str) else entry
        where = f"`cameras.{name}`"
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            wrong.append(f"{where} needs a path")
            continue
        unknown = set(entry) - {"path", "color", "channels"}
        if unknown:
            wrong.append(f"{where}: {sorted(map(str, unknown))} is not known")
        if entry.get("color", "rgb") not in ("rgb", "bgr"):
            wrong.append(f"{where}: `color` must be rgb or bgr")
        if entry.get("channels", "last") not in ("last", "first"):
            wrong.append(f"{where}: `channels` must be last or first")
        if not str(name).startswith("observation.images."):
            wrong.append(f"{where} must be called observation.images.…")
        if not unknown:
            found.append(Camera(str(name), **entry))
    return tuple(found)
