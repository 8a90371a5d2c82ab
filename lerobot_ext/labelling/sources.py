# SPDX-License-Identifier: Apache-2.0
"""Where rewards and success come from: rules, columns that are there, a CSV file."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lerobot_ext.cli.command import CommandError
from lerobot_ext.labelling import rewards as rules
from lerobot_ext.labelling.episodes import Labelled

REWARDS: Final = ("sparse_success", "step_cost", "csv", "model", "keep")
SUCCESS: Final = ("success", "done", "reward", "all", "csv")
_TRUE: Final = {"1", "true", "yes", "success"}
_FALSE: Final = {"0", "false", "no", "failure", ""}


@dataclass(frozen=True)
class Labels:
    """What is written.

    Args:
        reward (`np.ndarray`): (frames,) float32.
        success (`np.ndarray`): (episodes,) bool.
        returns (`np.ndarray`): (frames,) float32.
    """

    reward: npt.NDArray[np.float32]
    success: npt.NDArray[np.bool_]
    returns: npt.NDArray[np.float32]


def successes(found: Labelled, source: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(episodes,) whether each succeeded.

    Args:
        found (`Labelled`): The dataset.
        source (`Sequence[str]`): A name of `SUCCESS`, and for `csv` the file.

    Raises:
        CommandError: The column or the file are not there, or say nothing of some episode.
    """
    kind = source[0]
    if kind == "all":
        return np.ones(len(found.lengths), bool)
    if kind == "csv":
        table = read_csv(_file(source, "--success-from"), found)
        if "success" not in table.names:
            raise CommandError(f"{table.path} has no column `success`", "name the column so")
        return np.array([table.last(episode, "success") > 0 for episode in range(len(found.lengths))])
    name = f"next.{kind}"
    if name not in found.columns:
        there = ", ".join(found.columns) or "none of next.reward, next.done, next.success"
        raise CommandError(
            f"the dataset has no column `{name}` (it has {there})",
            "say what success is: `--success-from all`, or `--success-from csv FILE`",
        )
    each = range(len(found.lengths))
    if kind == "done":
        return np.array([bool(found.of(episode, name)[-1]) for episode in each])
    return np.array([bool((found.of(episode, name) > 0).any()) for episode in each])


def rewards(
    found: Labelled,
    source: Sequence[str],
    success: npt.NDArray[np.bool_],
    model: Callable[[Path | str], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """(frames,) rewards.

    Args:
        found (`Labelled`): The dataset.
        source (`Sequence[str]`): A name of `REWARDS`, and for `csv` and `model` the file.
        success (`np.ndarray`): (episodes,) whether each succeeded.
        model (`Callable`): (frames,) what the reward model in a folder, or of that name, says.

    Raises:
        CommandError: What is asked for is not there.
    """
    kind = source[0]
    pairs = list(zip(found.lengths, success.tolist(), strict=True))
    if kind == "sparse_success":
        return np.concatenate([rules.sparse_success(length, success=won) for length, won in pairs])
    if kind == "step_cost":
        return np.concatenate([rules.step_cost(length, success=won) for length, won in pairs])
    if kind == "csv":
        return read_csv(_file(source, "--reward"), found).rewards(found)
    if kind == "model":
        said = model(str(_word(source, "--reward", "PATH")))
        if len(said) != sum(found.lengths) or not np.isfinite(said).all():
            raise CommandError(
                f"the reward model gave {len(said)} values, {sum(found.lengths)} finite ones were expected",
                "is it trained, and on these cameras?",
            )
        return said
    if "next.reward" not in found.columns:
        raise CommandError("the dataset has no column `next.reward` to keep", "choose another --reward")
    return found.columns["next.reward"].astype(np.float32)


def labels(
    found: Labelled,
    success: npt.NDArray[np.bool_],
    reward: npt.NDArray[np.float32],
    discount: float,
) -> Labels:
    """Rewards with the returns that follow from them."""
    parts = [
        rules.returns(reward[start : start + length], discount)
        for start, length in zip(found.starts, found.lengths, strict=True)
    ]
    return Labels(reward, success, np.concatenate(parts))


def _word(source: Sequence[str], option: str, what: str) -> str:
    if len(source) != 2:
        raise CommandError(f"{option} {source[0]} needs a {what}", f"{option} {source[0]} {what}")
    return source[1]


def _file(source: Sequence[str], option: str) -> Path:
    return Path(_word(source, option, "FILE"))


@dataclass(frozen=True)
class Table:
    """A CSV file: a row an episode, or a row a frame if it has `frame_index`.

    Args:
        path (`Path`): The file.
        names (`list[str]`): Its columns.
        rows (`dict`): By episode and frame (-1 without `frame_index`): numbers by column.
    """

    path: Path
    names: list[str]
    rows: dict[tuple[int, int], dict[str, float]]

    def last(self, episode: int, name: str) -> float:
        """The value in an episode's last row."""
        return self.rows[max(key for key in self.rows if key[0] == episode)][name]

    def rewards(self, found: Labelled) -> npt.NDArray[np.float32]:
        """(frames,) its rewards: of a row an episode, at the last step."""
        if "reward" not in self.names:
            raise CommandError(f"{self.path} has no column `reward`", "name the column so")
        if "frame_index" not in self.names:
            parts = [
                rules.at_the_end(length, self.rows[episode, -1]["reward"])
                for episode, length in enumerate(found.lengths)
            ]
            return np.concatenate(parts)
        every = [
            self.rows[episode, frame]["reward"]
            for episode, length in enumerate(found.lengths)
            for frame in range(length)
        ]
        return np.array(every, np.float32)


def read_csv(path: Path, found: Labelled) -> Table:
    """Read a CSV file with `episode_index`, `frame_index` if there is a row a frame, `reward`, `success`.

    Raises:
        CommandError: It cannot be read; all rows that are wrong, twice there or missing are named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = names
            raw = list(reader)
    except (OSError, UnicodeError, csv.Error) as error:
        raise CommandError(f"{path} cannot be read: {error}", "give a CSV file with a header") from error
    if "episode_index" not in names:
        raise CommandError(
            f"{path} has no column `episode_index` (it has {', '.join(names) or 'none'})",
            "begin it with a line such as `episode_index,reward,success`",
        )
    wrong: list[str] = []
    rows: dict[tuple[int, int], dict[str, float]] = {}
    for number, row in enumerate(raw, start=2):
        values = _numbers(row, names)
        if isinstance(values, str):
            wrong.append(f"line {number}: {values}")
            continue
        key = int(values["episode_index"]), int(values.get("frame_index", -1))
        if key in rows:
            wrong.append(f"line {number}: episode {key[0]} is there twice")
        rows[key] = values
    frames = "frame_index" in names
    needed = {
        (episode, frame)
        for episode, length in enumerate(found.lengths)
        for frame in (range(length) if frames else [-1])
    }
    missing, more = sorted(needed - rows.keys()), sorted(rows.keys() - needed)
    if missing and not wrong:
        wrong.append(f"{len(missing)} rows are missing, the first for {_name(missing[0])}")
    if more:
        wrong.append(f"{_name(more[0])} is not in the dataset")
    if wrong:
        listed = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise CommandError(f"{path}: {listed}", "mend these lines")
    return Table(path, names, rows)


def _name(key: tuple[int, int]) -> str:
    return f"episode {key[0]}" + (f" frame {key[1]}" if key[1] >= 0 else "")


def _numbers(row: dict[str, Any], names: Sequence[str]) -> dict[str, float] | str:
    """A row's numbers, or what is wrong with it."""
    values = {}
    for name in names:
        if name not in ("episode_index", "frame_index", "reward", "success"):
            continue
        text = (row.get(name) or "").strip()
        if name == "success" and text.lower() in _TRUE | _FALSE:
            values[name] = float(text.lower() in _TRUE)
            continue
        try:
            values[name] = float(text)
        except ValueError:
            return f"`{name}` is {text!r}, no number"
        if not math.isfinite(values[name]) or (name.endswith("index") and values[name] != int(values[name])):
            return f"`{name}` is {text}"
    return values
