# SPDX-License-Identifier: Apache-2.0
"""The features of the dataset to be, and an episode's rows for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from lerobot.utils.constants import DONE, REWARD, SUCCESS, TRUNCATED

from lerobot_ext.importing import values
from lerobot_ext.importing.episodes import Episode
from lerobot_ext.importing.findings import Problem, SourceError
from lerobot_ext.importing.mapping import Mapping
from lerobot_ext.importing.survey import Survey
from lerobot_ext.importing.tree import H5_ERRORS, opened, reason

SIGNAL_FEATURES: Final = {"reward": REWARD, "done": DONE, "truncated": TRUNCATED, "success": SUCCESS}
Columns = dict[str, npt.NDArray[Any]]


def features_of(found: Survey, *, video: bool) -> dict[str, dict[str, Any]]:
    """LeRobot's description of the dataset's features.

    Args:
        found (`Survey`): Without problems.
        video (`bool`): Whether pictures become videos.
    """
    mapping = found.mapping
    assert mapping is not None
    features: dict[str, dict[str, Any]] = {}
    for size in found.cameras:
        features[size.camera.name] = {
            "dtype": "video" if video else "image",
            "shape": (size.height, size.width, 3),
            "names": ["height", "width", "channels"],
        }
    for column in mapping.columns:
        width = found.widths[column.name]
        leaf = (
            column.paths[0].rsplit("/", 1)[-1] if len(column.paths) == 1 else column.name.rsplit(".", 1)[-1]
        )
        features[column.name] = {
            "dtype": "float32",
            "shape": (width,),
            "names": [f"{leaf}_{index}" for index in range(width)],
        }
    for signal in _signals(mapping):
        dtype = "float32" if signal == "reward" else "bool"
        features[SIGNAL_FEATURES[signal]] = {"dtype": dtype, "shape": (1,), "names": None}
    return features


def _signals(mapping: Mapping) -> list[str]:
    """What is written about each step: a file that says when episodes end also says where they do not."""
    said = list(mapping.signals)
    if "done" in said and "truncated" not in said:
        said.insert(said.index("done") + 1, "truncated")
    return said


@contextmanager
def open_group(files: list[Path], episode: Episode) -> Iterator[Any]:
    """Where an episode's datasets are."""
    with opened(files[episode.file]) as file:
        yield file[episode.group] if episode.group else file


def read_columns(files: list[Path], mapping: Mapping, episode: Episode) -> Columns:
    """The numbers of an episode: (n, width) float32 columns, (n,) float32 rewards and (n,) bool flags.

    Raises:
        SourceError: The file is damaged there.
    """
    try:
        made = _read(files, mapping, episode)
    except H5_ERRORS as error:
        place = f"{files[episode.file]}:{episode.group}"
        text = f"cannot be read any more: {reason(error)}"
        raise SourceError([Problem("damaged", place, text, "copy the file again")]) from error
    if DONE in made:
        truncated = made.setdefault(TRUNCATED, np.zeros(episode.length, bool))
        if not made[DONE][-1]:  # the log, or the time, ran out: no terminal state
            truncated[-1] = True
    return made


def _read(files: list[Path], mapping: Mapping, episode: Episode) -> Columns:
    start, stop = episode.start, episode.start + episode.length
    made: Columns = {}
    with open_group(files, episode) as group:
        for column in mapping.columns:
            parts = [values.read_rows(group[path], start, stop) for path in column.paths]
            made[column.name] = np.concatenate(parts, axis=1)
        for signal, path in mapping.signals.items():
            if signal == "reward":
                made[REWARD] = values.read_rows(group[path], start, stop)[:, 0]
            else:
                made[SIGNAL_FEATURES[signal]] = values.read_flags(group[path], start, stop)
    return made
