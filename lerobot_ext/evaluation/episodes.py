# SPDX-License-Identifier: Apache-2.0
"""Which episodes of a dataset are looked at, and what was recorded in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lerobot_ext.cli.command import CommandError
from lerobot_ext.evaluation.errors import Floats

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

ACTION: Final = "action"
STATE: Final = "observation.state"


@dataclass(frozen=True)
class Episode:
    """What was recorded in one episode.

    Args:
        index (`int`): Its number in the dataset.
        first (`int`): Row of its first frame, as the opened dataset counts.
        actions (`Floats`): (T, A).
        states (`Floats`, *optional*): (T, S).
        tasks (`list[str]`): The task of each frame.
    """

    index: int
    first: int
    actions: Floats
    states: Floats | None
    tasks: list[str]

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Recordings:
    """The episodes that are looked at.

    Args:
        episodes (`list[Episode]`): At least one.
        joints (`list[str]`): Names of the action's dimensions, made up where the dataset has none.
        state_is_action (`bool`): Whether the state is of the same joints, in the same order.
        mean_action (`Floats`, *optional*): (A,) of the whole dataset, by its statistics.
        fps (`float`): Frames a second.
    """

    episodes: list[Episode]
    joints: list[str]
    state_is_action: bool
    mean_action: Floats | None
    fps: float

    @property
    def n_frames(self) -> int:
        """Frames in all episodes."""
        return sum(len(episode) for episode in self.episodes)


def parse_episodes(text: str, total: int) -> list[int]:
    """Episode numbers from `3`, `0:10`, `-5:` (the last five), `::2`, or several of them with commas.

    Args:
        text (`str`): What the user typed.
        total (`int`): Episodes of the dataset.

    Raises:
        CommandError: It is none of these, names an episode that is not there, or no episode at all.
    """
    chosen: dict[int, None] = {}
    for part in text.split(","):
        chosen.update(dict.fromkeys(_episodes_of(part.strip(), text, total)))
    if not chosen:
        raise CommandError(
            f"--episodes {text} names no episode", f"the dataset has {total}: 0 to {total - 1}"
        )
    return list(chosen)


def _episodes_of(part: str, text: str, total: int) -> Iterator[int]:
    numbers = part.split(":")
    try:
        bounds = [int(number) if number else None for number in numbers]
        if len(bounds) > 3 or (len(bounds) == 1 and bounds[0] is None) or bounds[2:] in ([0], [None]):
            raise ValueError
    except ValueError:
        raise CommandError(
            f"--episodes {text}: {part!r} is no episode and no range",
            "say 3, 0:10 (0 to 9), -5: (the last five), or several with commas",
        ) from None
    if len(bounds) > 1:
        yield from range(total)[slice(*bounds)]
        return
    assert bounds[0] is not None
    if not -total <= bounds[0] < total:
        raise CommandError(
            f"--episodes {text}: there is no episode {bounds[0]}",
            f"the dataset has {total}: 0 to {total - 1}",
        )
    yield bounds[0] % total


def held_out(episodes: Sequence[int], tasks: Sequence[Sequence[str]], fraction: float) -> list[int]:
    """The episodes that the stock trainer holds out with `--dataset.eval_split=FRACTION`.

    They are the last of each task, as `make_train_eval_datasets` chooses them.

    Args:
        episodes (`Sequence[int]`): Numbers to choose from.
        tasks (`Sequence[Sequence[str]]`): Tasks of each episode of the dataset.
        fraction (`float`): Between 0 and 1.
    """
    by_task: dict[str, list[int]] = {}
    for index in episodes:
        by_task.setdefault(tasks[index][0] if len(tasks[index]) else "", []).append(index)
    return [
        index
        for group in by_task.values()
        for index in group[len(group) - math.ceil(len(group) * fraction) :]
    ]


def read_recordings(dataset: LeRobotDataset) -> Recordings:
    """Actions, states and tasks of an opened dataset; no picture is decoded.

    Raises:
        CommandError: It has no actions.
    """
    features = dataset.meta.features
    if ACTION not in features:
        raise CommandError(
            "the dataset has no feature `action`, so there is nothing to compare with",
            "record it with a teleoperator, or choose another dataset",
        )
    rows = dataset.hf_dataset
    episode_of = np.asarray(rows.data.column("episode_index").to_pylist())
    actions = _matrix(rows, ACTION)
    states = _matrix(rows, STATE) if STATE in features else None
    names = list(dataset.meta.tasks.index)
    tasks = [names[number] for number in rows.data.column("task_index").to_pylist()]
    # `data` is the table before any selection of rows; LeRobot filters while reading, so both agree.
    assert len(episode_of) == len(rows)
    begins = np.flatnonzero(np.diff(episode_of, prepend=-1))
    episodes = []
    for first, end in zip(begins, [*begins[1:], len(episode_of)], strict=True):
        part = slice(int(first), int(end))
        episodes.append(
            Episode(
                index=int(episode_of[first]),
                first=int(first),
                actions=actions[part],
                states=None if states is None else states[part],
                tasks=tasks[part],
            )
        )
    return Recordings(
        episodes=episodes,
        joints=_names(features[ACTION], actions.shape[1]),
        state_is_action=STATE in features and _same_joints(features[STATE], features[ACTION]),
        mean_action=_mean(dataset.meta.stats),
        fps=float(dataset.fps),
    )


def _matrix(rows: Any, key: str) -> Floats:
    """A column of vectors as (N, D)."""
    column = np.asarray(rows.data.column(key).to_pylist(), dtype=np.float64)
    return column.reshape(len(column), -1)


def _mean(stats: dict[str, dict[str, Any]] | None) -> Floats | None:
    mean = ((stats or {}).get(ACTION) or {}).get("mean")
    return None if mean is None else np.asarray(mean, dtype=np.float64).reshape(-1)


def _names(feature: dict[str, Any], width: int) -> list[str]:
    flat = _flat(feature.get("names"))
    return flat if len(flat) == width else [f"{ACTION}[{joint}]" for joint in range(width)]


def _flat(names: Any) -> list[str]:
    """Names of dimensions, which some datasets group in a dictionary."""
    if isinstance(names, dict):  # {"motors": ["pan", "lift"]}, or {"pan": 0, "lift": 1}
        return [
            name for key, group in names.items() for name in (group if isinstance(group, list) else [key])
        ]
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def _same_joints(state: dict[str, Any], action: dict[str, Any]) -> bool:
    mine, theirs = _flat(state.get("names")), _flat(action.get("names"))
    return mine == theirs if mine and theirs else tuple(state["shape"]) == tuple(action["shape"])
