# SPDX-License-Identifier: Apache-2.0
"""The columns of a dataset that labels are made of, episode by episode."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lerobot_ext.cli.command import CommandError
from lerobot_ext.repair.contents import Info, read_info

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Labelled:
    """A dataset's episodes.

    Args:
        root (`Path`): Its folder.
        info (`Info`): Its `info.json`.
        lengths (`list[int]`): Frames of each episode.
        columns (`dict`): (frames,) what is there of `next.reward`, `next.done`, `next.success`.
    """

    root: Path
    info: Info
    lengths: list[int]
    columns: dict[str, Column]

    @property
    def starts(self) -> list[int]:
        """Index of each episode's first frame."""
        return [0, *np.cumsum(self.lengths)[:-1].tolist()]

    def of(self, episode: int, name: str) -> Column:
        """A column's values in one episode."""
        start = self.starts[episode]
        return self.columns[name][start : start + self.lengths[episode]]


def read_episodes(root: Path) -> Labelled:
    """Read what labels are made of.

    Raises:
        CommandError: The dataset is damaged: its rows do not follow each other from 0 on.
    """
    info = read_info(root)
    wanted = [name for name in ("next.reward", "next.done", "next.success") if name in info.raw["features"]]
    try:
        tables = [
            pq.read_table(path, columns=["index", "episode_index", *wanted])
            for path in sorted((root / "data").glob("*/*.parquet"))
        ]
        table = pa.concat_tables(tables)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise CommandError(
            f"the data files of {root} cannot be read: {' '.join(str(error).split())[:120]}",
            f"`lerobot-ext repair {root}`",
        ) from error
    episode = table.column("episode_index").to_numpy()
    steps = np.diff(episode, prepend=0)
    numbered = np.array_equal(table.column("index").to_numpy(), np.arange(len(table)))
    if not len(table) or not numbered or not np.isin(steps, (0, 1)).all():
        raise CommandError(
            f"the rows of {root} are not numbered one after the other", f"`lerobot-ext repair {root}`"
        )
    return Labelled(
        root,
        info,
        np.bincount(episode).tolist(),
        {name: table.column(name).to_numpy(zero_copy_only=False) for name in wanted},
    )
