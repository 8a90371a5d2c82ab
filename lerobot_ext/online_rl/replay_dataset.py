# SPDX-License-Identifier: Apache-2.0
"""Collected episodes on disk: a LeRobotDataset that grows.

Each episode is in the journal (`lerobot_ext.data.episode_journal`) as soon as it is saved, so that a kill
loses the running one at most; `open` repairs what a kill has left. `close` makes it whole for every other
program, and the next episode opens it again: the trainer does so at each checkpoint.
"""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION, DONE, OBS_PREFIX, REWARD, TRUNCATED
from numpy.typing import NDArray

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data import episode_journal
from lerobot_ext.data.journal_files import FOLDER as JOURNAL
from lerobot_ext.data.journal_files import recording_process
from lerobot_ext.offline_rl.labels import SUCCESS, _flat

from .episode import Episode

logger = logging.getLogger(__name__)

_LABELS = {REWARD: "float32", DONE: "bool", TRUNCATED: "bool", SUCCESS: "bool"}


class ReplayDataset:
    """The dataset that a run writes.

    Args:
        root (`Path`): Its folder; made with the first episode.
        repo_id (`str`): Its name.
        fps (`int`): Frames a second.
        known (`dict`, *optional*): Features of the prior data, for the names of what is inside a vector.
        robot_type (`str`, *optional*): As the prior data's.
    """

    def __init__(
        self,
        root: Path,
        repo_id: str,
        fps: int,
        known: dict[str, Any] | None = None,
        robot_type: str | None = None,
    ) -> None:
        self.root, self.repo_id, self.fps = root, repo_id, fps
        self._known, self._robot_type = known or {}, robot_type
        self._dataset: Any = None
        episode_journal.start()

    def recover(self) -> None:
        """Make the dataset whole if the process that wrote it was ended.

        Raises:
            CommandError: It is still being written.
        """
        if not self.root.exists():
            return
        if not (self.root / JOURNAL).exists() and (self.root / "meta/episodes").exists():
            return
        writer = recording_process(self.root)
        if writer is not None:
            raise CommandError(
                f"{self.root} is being written by process {writer}", "let it end, or stop it with Ctrl-C"
            )
        from lerobot_ext.data.journal_files import journaled_episodes
        from lerobot_ext.repair.mend import back_up, backup_path, mend
        from lerobot_ext.repair.survey import survey

        if not journaled_episodes(self.root) and not (self.root / "meta/episodes").exists():
            shutil.rmtree(self.root)  # not one episode was ever saved
            return
        found = survey(self.root)
        if found.findings:
            backup = backup_path(self.root)
            back_up(self.root, backup)
            mend(found)
            shutil.rmtree(backup)
            logger.info("%s was cut off; repaired: %d episodes.", self.root, len(found.kept))

    def save(self, episode: Episode) -> None:
        """Write one episode; when this returns it survives a kill."""
        if self._dataset is None:
            self._dataset = self._open(episode)
        for number, task in enumerate(episode.tasks):
            frame = {name: _cell(values[number]) for name, values in episode.columns.items()}
            self._dataset.add_frame({**frame, "task": task})
        with _without_bars():
            self._dataset.save_episode()

    def close(self) -> None:
        """Make the dataset whole for every program."""
        if self._dataset is not None:
            self._dataset.finalize()
            self._dataset = None

    def load(self) -> list[Episode]:
        """All episodes, as they were saved; call `recover` first.

        Raises:
            CommandError: The dataset cannot be read.
        """
        if not self.root.exists():
            return []
        columns = _read_columns(self.root)
        if not columns:
            return []
        tasks = _task_texts(self.root)
        numbers = columns.pop("episode_index")
        texts = [tasks[int(number)] for number in columns.pop("task_index")]
        del columns["index"]
        bounds = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1))
        return [
            Episode({name: values[start:end] for name, values in columns.items()}, texts[start:end])
            for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]

    def _open(self, episode: Episode) -> Any:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        if self.root.exists():
            return LeRobotDataset.resume(self.repo_id, root=self.root, video_backend="pyav")
        return LeRobotDataset.create(
            self.repo_id,
            fps=self.fps,
            features=self._features(episode),
            root=self.root,
            robot_type=self._robot_type,
            use_videos=False,  # pictures lossless: a resumed run learns from the very same
            video_backend="pyav",
        )

    def _features(self, episode: Episode) -> dict[str, Any]:
        features: dict[str, Any] = {}
        for name, values in episode.columns.items():
            shape = list(values.shape[1:]) or [1]
            known = self._known.get(name, {})
            names = known.get("names") if list(known.get("shape", ())) == shape else None
            if name in _LABELS:
                features[name] = {"dtype": _LABELS[name], "shape": (1,), "names": None}
            elif values.dtype == np.uint8 and len(shape) == 3:
                features[name] = {
                    "dtype": "image",
                    "shape": tuple(shape),
                    "names": ["height", "width", "channels"],
                }
            elif values.dtype == np.uint16:
                features[name] = {
                    "dtype": "image",
                    "shape": tuple(shape),
                    "names": ["height", "width", "channels"],
                    "info": {"is_depth_map": True},
                }
            else:
                features[name] = {"dtype": "float32", "shape": tuple(shape), "names": names}
        return features


@contextmanager
def _without_bars() -> Iterator[None]:
    """The library that writes the rows draws a bar for each episode."""
    from datasets.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    drawn = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            enable_progress_bar()


def _cell(value: Any) -> NDArray[Any]:
    found = np.asarray(value)
    return found.reshape(1) if found.ndim == 0 else found


def _read_columns(root: Path) -> dict[str, NDArray[Any]]:
    """Columns of all frames in the order of `index`, pictures decoded."""
    import pyarrow.parquet as pq

    files = sorted((root / "data").glob("**/*.parquet"))
    if not files:
        return {}
    names = [
        name
        for name in pq.read_schema(files[0]).names
        if name.startswith(OBS_PREFIX) or name in (ACTION, *_LABELS, "index", "episode_index", "task_index")
    ]
    try:
        tables = [pq.read_table(file, columns=names) for file in files]
    except OSError as error:
        raise CommandError(f"{root} cannot be read: {error}", f"`lerobot-ext repair {root}`") from error
    read = {name: np.concatenate([_column(table.column(name)) for table in tables]) for name in names}
    order = np.argsort(read["index"], kind="stable")
    return {name: values[order] for name, values in read.items()}


def _column(column: Any) -> NDArray[Any]:
    """(frames, …) of a parquet column: numbers, vectors, or pictures as (frames, H, W, C)."""
    import pyarrow as pa
    from PIL import Image

    if pa.types.is_struct(column.type):
        pictures = [np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in column.to_pylist()]
        return np.stack([each if each.ndim == 3 else each[..., None] for each in pictures])  # depth: no C
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return _flat(column).reshape(len(column), -1)
    return _flat(column)


def _task_texts(root: Path) -> dict[int, str]:
    from lerobot.datasets.io_utils import load_tasks

    table = load_tasks(root)
    return {int(row["task_index"]): str(text) for text, row in table.iterrows()}
