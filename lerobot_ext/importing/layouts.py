# SPDX-License-Identifier: Apache-2.0
"""The layouts that are known by name, each as a mapping of what a file of it has."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from lerobot_ext.importing.findings import Problem, SourceError
from lerobot_ext.importing.mapping import Camera, Column, Mapping

LAYOUTS: Final = ("lapo", "robomimic", "aloha")
LAPO_CAMERAS: Final = ("left_image", "right_image", "global_image")
# What robomimic's own image policies read, in its order; `object` is what only a simulator knows.
_ROBOMIMIC_STATE: Final = ("eef_pos", "eef_quat", "gripper_qpos")
_DEMO: Final = re.compile(r"data/[^/]+/(.+)")


def detect(paths: Iterable[str], where: str) -> str:
    """Which layout a file has.

    Args:
        paths (`Iterable[str]`): Of its datasets.
        where (`str`): The file, for the message.

    Raises:
        SourceError: None of those that are known.
    """
    paths = set(paths)
    demos = {match[1] for path in paths if (match := _DEMO.fullmatch(path))}
    if "actions" in demos or any(path.startswith("obs/") for path in demos):
        return "robomimic"
    if "action" in paths or "observations/qpos" in paths:
        return "aloha"
    if "actions" in paths or "terminals" in paths or any(path.startswith("observations/") for path in paths):
        return "lapo"
    raise SourceError(
        [
            Problem(
                "layout",
                where,
                f"is of no known layout ({', '.join(LAYOUTS)})",
                "say what is what in a file for --mapping; `--validate` shows the tree",
            )
        ]
    )


def mapping_of(layout: str, datasets: dict[str, tuple[int, ...]]) -> Mapping:
    """The mapping of a layout for a file with these datasets.

    Args:
        layout (`str`): One of `LAYOUTS`.
        datasets (`dict`): Shape by path; of a robomimic file those in one demonstration, without its name.
    """
    return {"lapo": _lapo, "robomimic": _robomimic, "aloha": _aloha}[layout](datasets)


def _lapo(datasets: dict[str, tuple[int, ...]]) -> Mapping:
    """`observations/{left_image,right_image,global_image,joint}`, `actions`, `rewards`, `terminals`, flat."""
    images = [name for name in _below(datasets, "observations/") if "image" in name]
    # With one of the documented three the others are expected too; other names are taken as they are.
    cameras = images or list(LAPO_CAMERAS)
    if any(name in images for name in LAPO_CAMERAS):
        cameras = [*LAPO_CAMERAS, *(name for name in images if name not in LAPO_CAMERAS)]
    return Mapping(
        "lapo",
        "flat",
        columns=(Column("observation.state", ("observations/joint",)), Column("action", ("actions",))),
        cameras=_cameras(cameras, "observations/"),
        reward="rewards",
        done="terminals",
        truncated=_first(datasets, "timeouts", "truncations", "truncated"),
        success=_first(datasets, "success", "successes"),
        same_width=True,
    )


def _robomimic(datasets: dict[str, tuple[int, ...]]) -> Mapping:
    """`data/demo_k/{obs/*, actions, rewards, dones}`."""
    names = _below(datasets, "obs/")
    images = [name for name in names if name.endswith(("_image", "_rgb")) or name in ("image", "rgb")]
    robots = sorted({name.split("_")[0] for name in names if re.fullmatch(r"robot\d+_.*", name)}) or [
        "robot0"
    ]
    state = [f"{robot}_{part}" for robot in robots for part in _ROBOMIMIC_STATE]
    found = [name for name in state if name in names]
    columns = [
        Column("observation.state", tuple(f"obs/{name}" for name in found or state)),
        Column("action", ("actions",)),
    ]
    if "object" in names:
        columns.append(Column("observation.environment_state", ("obs/object",)))
    return Mapping(
        "robomimic",
        "groups",
        "data/*",
        tuple(columns),
        _cameras(images, "obs/"),
        reward=_first(datasets, "rewards"),
        done=_first(datasets, "dones"),
        truncated=_first(datasets, "timeouts", "truncations"),
        success=_first(datasets, "success", "successes"),
    )


def _aloha(datasets: dict[str, tuple[int, ...]]) -> Mapping:
    """`observations/{qpos, qvel, effort, images/*}`, `action`, one episode a file."""
    columns = [Column("observation.state", ("observations/qpos",)), Column("action", ("action",))]
    for name, feature in (("qvel", "velocity"), ("effort", "effort")):
        if f"observations/{name}" in datasets:
            columns.append(Column(f"observation.{feature}", (f"observations/{name}",)))
    cameras = _below(datasets, "observations/images/")
    return Mapping(
        "aloha",
        "file",
        columns=tuple(columns),
        cameras=_cameras(cameras, "observations/images/"),
        reward=_first(datasets, "rewards", "reward"),
        done=_first(datasets, "dones", "terminals"),
        success=_first(datasets, "success"),
    )


def _below(datasets: dict[str, tuple[int, ...]], prefix: str) -> list[str]:
    return sorted(
        path.removeprefix(prefix)
        for path in datasets
        if path.startswith(prefix) and "/" not in path.removeprefix(prefix)
    )


def _cameras(names: Sequence[str], folder: str) -> tuple[Camera, ...]:
    """Cameras by the names of their datasets, shortened where that leaves them apart."""
    short = [name.removesuffix("_image").removesuffix("_rgb") for name in names]
    apart = len(set(short)) == len(names)
    return tuple(
        Camera(f"observation.images.{brief if apart else name}", f"{folder}{name}")
        for name, brief in zip(names, short, strict=True)
    )


def _first(datasets: dict[str, tuple[int, ...]], *names: str) -> str | None:
    return next((name for name in names if name in datasets), None)
