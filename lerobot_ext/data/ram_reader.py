# SPDX-License-Identifier: Apache-2.0
"""Reads LeRobotDataset items from columns in RAM, exactly equal to the stock reader's.

Stock fetches every item, and every window of actions, as Python objects through a HuggingFace dataset: 7 ms
for a state-only sample and 16-20 ms for a window of 100 actions, more than a small policy's whole training
step. Here the numeric columns lie in one tensor each and an item is a few tensor look-ups. Images and videos
are decoded as in stock.

The columns lie in memory that all DataLoader workers, forked or spawned, and all ranks of a machine map:
there is one copy of them, and it goes with the last process (`lerobot_ext.data.shared_region`).

Stock's own `get_item` still builds the item: only what it reads from (`hf_dataset`, the window look-ups) is
answered from RAM, so image transforms, depth units and task strings cannot drift away from stock.

`install()` makes new `LeRobotDataset` objects use it; `LEROBOT_EXT_COLUMNS=off` (see `lerobot_ext.data.hook`)
and `uninstall()` undo that. A dataset whose numeric columns exceed `LEROBOT_EXT_COLUMNS_MAX_GIB` (4 by
default), or whose episodes do not lie in one piece, is read the stock way; one log line says so.
"""

import functools
import logging
import multiprocessing.context
import operator
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lerobot
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from lerobot.datasets import dataset_reader, lerobot_dataset

from lerobot_ext.data import fingerprint
from lerobot_ext.data.batches import Arrival
from lerobot_ext.data.pool.budget import budget_from_environment, size_of_backend
from lerobot_ext.data.pool.episode_pool import EpisodePool
from lerobot_ext.data.pool.opening import pool_of_reader
from lerobot_ext.data.shared_region import NoRoomError, find_or_build
from lerobot_ext.data.shared_tensors import SharedTensors
from lerobot_ext.lerobot_window import inside_tested_window

LIMIT = "LEROBOT_EXT_COLUMNS_MAX_GIB"
DEFAULT_LIMIT_GIB = 4.0
_SHARED_MEMORY = Path("/dev/shm")

logger = logging.getLogger(__name__)


class NotDenseError(Exception):
    """The dataset cannot be held in RAM as columns; the message says why."""


@dataclass(frozen=True)
class Columns:
    """A dataset's numeric columns, and where each episode lies in them.

    `N` rows, `E` episodes of the whole dataset.

    Args:
        tensors (`dict[str, torch.Tensor]`): (N, …) a column: float32, int64 or bool, as stock's items have
            them.
        names (`list[str]`): All column names in stock's order.
        episode_start (`np.ndarray`): (E,) first absolute frame index.
        episode_end (`np.ndarray`): (E,) one past the last.
        rest (`datasets.Dataset | None`): The other columns (images, strings), read the stock way.
        shared (`SharedTensors`, *optional*): Where the tensors lie if other processes see them too.
    """

    tensors: dict[str, torch.Tensor]
    names: list[str]
    episode_start: npt.NDArray[np.int64]
    episode_end: npt.NDArray[np.int64]
    rest: Any
    shared: SharedTensors | None = None

    def __len__(self) -> int:
        return len(self.tensors["index"])

    def __getstate__(self) -> dict[str, Any]:
        """Without the tensors where the other process can map them."""
        return {**self.__dict__, **({"tensors": None} if self.shared else {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.shared is not None:
            self.__dict__["tensors"] = self.shared.map()

    def __getitem__(self, idx: Any) -> dict[str, Any]:
        """Row `idx` as stock's `hf_dataset[idx]` gives it; the tensors are copies and may be written to.

        Raises:
            IndexError: There is no such row.
        """
        row = operator.index(idx)
        if not -len(self) <= row < len(self):
            raise IndexError(f"Invalid key: {row} is out of bounds for size {len(self)}")
        rest = self.rest[row] if self.rest is not None else {}
        return {
            name: self.tensors[name][row].clone() if name in self.tensors else rest[name]
            for name in self.names
        }


class _ColumnView(dataset_reader.DatasetReader):
    """A stock reader for the length of one call: its `hf_dataset` is a `Columns`, its windows are rows."""

    hf_dataset: Columns
    _row: int
    _windows: dict[str, torch.Tensor]

    def _get_query_indices(
        self, abs_idx: int, ep_idx: int
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Rows of each window, clamped to the episode as stock does, and which of them are padding."""
        columns = self.hf_dataset
        start, end = columns.episode_start[ep_idx], columns.episode_end[ep_idx]
        rows: dict[str, torch.Tensor] = {}
        padding: dict[str, torch.Tensor] = {}
        for key, deltas in self.delta_indices.items():
            wanted = np.add(deltas, abs_idx)  # (T,) absolute frame indices
            inside = np.clip(wanted, start, end - 1)
            # An episode lies in one piece, so its rows and its frame indices differ by a constant.
            rows[key] = torch.from_numpy(inside - start + self._first_row[ep_idx])
            padding[f"{key}_is_pad"] = torch.from_numpy(wanted != inside)
        return rows, padding

    def _query_hf_dataset(self, query_indices: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The windows of all keys but videos; those not in RAM are read the stock way."""
        columns = self.hf_dataset
        result: dict[str, torch.Tensor] = {}
        for key, rows in query_indices.items():
            if key in columns.tensors:
                result[key] = columns.tensors[key][rows]
            elif columns.rest is not None and key in columns.rest.column_names:
                result[key] = torch.stack(columns.rest.select_columns([key])[rows.tolist()][key])
        return result

    def _get_query_timestamps(
        self, current_ts: float, query_indices: dict[str, torch.Tensor] | None = None
    ) -> dict[str, list[float]]:
        """The times at which each video is to be decoded."""
        windows = self._windows = query_indices or {}
        timestamps = self.hf_dataset.tensors["timestamp"]
        return {
            key: timestamps[windows[key]].tolist() if key in windows else [current_ts]
            for key in self._meta.video_keys
        }

    def _query_videos(self, query_timestamps: dict[str, list[float]], ep_idx: int) -> dict[str, torch.Tensor]:
        """The frames of all videos, from the pool if there is one."""
        pool: EpisodePool | None = self._pool
        if pool is None:
            return dict(super()._query_videos(query_timestamps, ep_idx))
        first = int(self._first_row[ep_idx])
        rows = {
            number: (self._windows[key] - first).tolist() if key in self._windows else [self._row - first]
            for number, key in enumerate(pool.source.cameras)
        }
        try:
            pictures = pool.pictures(ep_idx, rows)
        except Exception:
            super()._query_videos(query_timestamps, ep_idx)  # says which frame of which camera it is
            raise
        return {key: self._as_stock(key, pictures[n]) for n, key in enumerate(pool.source.cameras)}

    def _as_stock(self, key: str, frames: torch.Tensor) -> torch.Tensor:
        """(T, C, H, W) frames as stock's `_query_videos` gives them."""
        if key in self._meta.depth_keys:
            encoder = self._depth_encoder_configs[key]
            frames = dataset_reader.dequantize_depth(
                frames,
                depth_min=encoder.depth_min,
                depth_max=encoder.depth_max,
                shift=encoder.shift,
                use_log=encoder.use_log,
                output_unit=self._depth_output_unit,
            )
        elif not self._return_uint8:
            frames = frames.to(torch.float32).div_(255)
        return frames.squeeze(0)


class RamDatasetReader(dataset_reader.DatasetReader):
    """LeRobot's reader with the numeric columns in RAM; see the module's docstring.

    It pickles into DataLoader workers, which map the columns. Where memory cannot be shared that way, they
    travel through `/dev/shm` if that has room, else each worker reads them again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._columns: Columns | None = None
        self._first_row: npt.NDArray[np.int64] | None = None
        self._stock_because = ""
        self._budget = budget_from_environment()
        self._pool: EpisodePool | None = None
        self._batches = Arrival()  # to spawned workers

    def _build_index_mapping(self) -> None:
        """Stock calls this whenever it has (re)loaded the dataset; the columns are loaded with it."""
        super()._build_index_mapping()
        self._load_columns()
        self._pool, size = None, size_of_backend(self._video_backend)
        if self._columns is not None and self._budget is not None:
            self._pool = pool_of_reader(self, self._budget)
            size = self._budget.size if self._pool is not None and self._budget.size else size
        if size is not None:
            # Imported here: it needs LeRobot's processors, which not every script has loaded.
            from lerobot_ext.data.pool.size import declare

            declare(self._meta, size)

    def get_item(self, idx: Any) -> dict[str, Any]:
        """The item at row `idx`, equal to stock's.

        Args:
            idx (`int`): Row of the (possibly episode-filtered) dataset.

        Returns:
            The same keys, types and values as `DatasetReader.get_item(idx)`.
        """
        if self._columns is None and not self._stock_because:
            self._load_columns()
        if self._columns is None:
            return dict(super().get_item(idx))
        view = object.__new__(_ColumnView)
        view.__dict__.update(self.__dict__)  # transforms, root and windows as they are now
        view.hf_dataset = self._columns
        view._row = range(len(self._columns))[idx] if self._pool is not None else 0
        return dict(view.get_item(idx))

    def _load_columns(self) -> None:
        """Fill the columns, or note once why this dataset is read the stock way."""
        self._columns, self._stock_because = None, ""
        try:
            self._columns = self._shared_columns()
            self._first_row = first_rows(self._columns, filtered=self.episodes is not None)
        except NotDenseError as reason:
            self._columns, self._stock_because = None, str(reason)
            logger.warning("lerobot_ext: %s is read by LeRobot's own, slower reader: %s", self.root, reason)

    def _shared_columns(self) -> Columns:
        """The columns in shared memory; where there is no room, in this process's own, with one line.

        Raises:
            NotDenseError: The dataset cannot be held in RAM as columns.
        """

        def build() -> Any:
            return SharedTensors.of(load_tensors(self.hf_dataset, self._meta, limit_bytes())).region

        def key() -> str:
            files = fingerprint.data_files(self.root)
            return "columns " + fingerprint.of_files(self.root, files, self._columns_key())

        try:
            shared = SharedTensors(find_or_build(key, build))
        except NoRoomError as reason:
            _say_once(f"lerobot_ext: each process has its own copy of the columns of {self.root}: {reason}")
            return make_columns(
                load_tensors(self.hf_dataset, self._meta, limit_bytes()), self.hf_dataset, self._meta
            )
        return make_columns(shared.map(), self.hf_dataset, self._meta, shared)

    def _columns_key(self) -> Any:
        """What the columns depend on besides the files."""
        features = {key: (ft["dtype"], ft["shape"]) for key, ft in self._meta.features.items()}
        return features, self.episodes, len(self.hf_dataset), self.hf_dataset._fingerprint

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._columns is not None and not _can_travel(self._columns):
            # The other process reads them again at its first item; it must not have a pool of its own.
            state["_columns"] = state["_pool"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._pool is not None and self._columns is not None:
            self._pool.source.timestamps = self._columns.tensors["timestamp"]


def load_tensors(hf_dataset: Any, meta: Any, limit: int) -> dict[str, torch.Tensor]:
    """Read the numeric columns of a dataset into tensors.

    Args:
        hf_dataset (`datasets.Dataset`): What LeRobot loaded.
        meta (`LeRobotDatasetMetadata`): Its metadata, for shapes and episode bounds.
        limit (`int`): Most bytes that the columns may take.

    Returns:
        (N, …) each, by name; those with gaps are left out.

    Raises:
        NotDenseError: The columns are larger than `limit`, or LeRobot's own columns are missing.
    """
    names = list(hf_dataset.column_names)
    numeric = [name for name in names if _is_numeric(hf_dataset.data.schema.field(name).type)]
    size = sum(_row_bytes(meta.features.get(name, {}).get("shape", (1,))) for name in numeric) * len(
        hf_dataset
    )
    if size > limit:
        raise NotDenseError(
            f"its columns need {size / 2**30:.1f} GiB and {LIMIT} allows {limit / 2**30:.1f}; raise it to "
            f"use RAM"
        )
    table = hf_dataset.select_columns(numeric).with_format("arrow")[:]
    tensors: dict[str, torch.Tensor] = {}
    for name in numeric:
        values = _dense(table.column(name), meta.features.get(name, {}).get("shape", (1,)))
        if values is not None:
            tensors[name] = values
    for name in ("index", "episode_index", "timestamp", "task_index"):
        if name not in tensors:
            raise NotDenseError(f"column {name!r} is missing or has gaps")
    return tensors


def make_columns(
    tensors: dict[str, torch.Tensor], hf_dataset: Any, meta: Any, shared: SharedTensors | None = None
) -> Columns:
    """Tensors of some columns, and the others read the stock way, as `Columns`.

    Args:
        tensors (`dict[str, torch.Tensor]`): (N, …) as `load_tensors` gives them.
        hf_dataset (`datasets.Dataset`): What LeRobot loaded.
        meta (`LeRobotDatasetMetadata`): Its metadata, for episode bounds.
        shared (`SharedTensors`, *optional*): Where the tensors lie if other processes see them too.
    """
    names = list(hf_dataset.column_names)
    others = [name for name in names if name not in tensors]
    return Columns(
        tensors=tensors,
        names=names,
        episode_start=np.asarray(meta.episodes["dataset_from_index"], dtype=np.int64),
        episode_end=np.asarray(meta.episodes["dataset_to_index"], dtype=np.int64),
        rest=hf_dataset.select_columns(others) if others else None,
        shared=shared,
    )


def first_rows(columns: Columns, *, filtered: bool) -> npt.NDArray[np.int64]:
    """The row at which each episode starts, after checking that episodes lie in one piece.

    Args:
        columns (`Columns`): A dataset's columns.
        filtered (`bool`): Whether only some episodes were loaded. Unfiltered, stock takes a frame index for a
            row number, so the two must agree.

    Returns:
        (E,) int64; -1 for an episode that was not loaded.

    Raises:
        NotDenseError: Rows are missing, doubled or out of order.
    """
    index = columns.tensors["index"].numpy()
    episode = columns.tensors["episode_index"].numpy()
    if not filtered and not np.array_equal(index, np.arange(len(index))):
        raise NotDenseError("its frame indices do not count up from 0; `lerobot-edit-dataset` can rewrite it")
    starts = np.flatnonzero(np.diff(episode, prepend=-1))  # rows where another episode begins
    ends = np.append(starts[1:], len(episode))
    first = np.full(len(columns.episode_start), -1, dtype=np.int64)
    for start, end in zip(starts, ends, strict=True):
        number = episode[start]
        bounds = columns.episode_start[number], columns.episode_end[number]
        if first[number] != -1 or not np.array_equal(index[start:end], np.arange(*bounds)):
            raise NotDenseError(f"the frames of episode {number} do not lie in one piece")
        first[number] = start
    return first


def limit_bytes() -> int:
    """How much RAM the columns of one dataset may take, from `LEROBOT_EXT_COLUMNS_MAX_GIB`.

    Raises:
        ValueError: The variable is no number, or negative.
    """
    text = os.environ.get(LIMIT, "")
    try:
        gib = float(text) if text else DEFAULT_LIMIT_GIB
    except ValueError:
        gib = -1.0
    if not gib >= 0:
        raise ValueError(f"environment variable {LIMIT} is {text!r}; set it to a number of GiB, 0 or more")
    return int(gib * 2**30)


def install() -> bool:
    """Make every `LeRobotDataset` opened from now on use `RamDatasetReader`.

    LeRobot has no hook for its reader, so this rebinds one name,
    `lerobot.datasets.lerobot_dataset.DatasetReader`, and only for the LeRobot versions it is tested against.

    Returns:
        Whether it is in effect. It is not, with one log line, for another LeRobot or when somebody else has
        rebound that name.
    """
    current = lerobot_dataset.DatasetReader
    if current is RamDatasetReader:
        return True
    if not inside_tested_window():
        logger.warning(
            "lerobot_ext: LeRobot %s is not one the fast dataset reader is tested with; the stock reader "
            "stays. "
            "Install lerobot>=0.6.1,<0.7.",
            lerobot.__version__,
        )
        return False
    if current is not dataset_reader.DatasetReader:
        logger.warning(
            "lerobot_ext: %s.%s took the place of LeRobot's dataset reader; it stays, the fast reader is "
            "off.",
            current.__module__,
            current.__qualname__,
        )
        return False
    lerobot_dataset.DatasetReader = RamDatasetReader
    return True


def uninstall() -> None:
    """Give LeRobot its own reader back, and its processors; datasets that are open keep theirs."""
    if lerobot_dataset.DatasetReader is RamDatasetReader:
        lerobot_dataset.DatasetReader = dataset_reader.DatasetReader
    # A reader of smaller pictures lets the training script resize a robot's to the same size.
    size = sys.modules.get("lerobot_ext.data.pool.size")
    if size is not None:
        size.uninstall()


def _is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this arrow type becomes a tensor of numbers in stock's items."""
    if isinstance(kind, pa.ExtensionType):
        kind = kind.storage_type
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    # uint64 does not fit the int64 that stock makes of it; leave the rare case to stock.
    whole = pa.types.is_integer(kind) and not pa.types.is_uint64(kind)
    return bool(whole or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _row_bytes(shape: Any) -> int:
    """Upper bound of the bytes one row of a column takes as a tensor."""
    return int(np.prod(shape, dtype=np.int64)) * 8


def _dense(column: pa.ChunkedArray, shape: Any) -> torch.Tensor | None:
    """A column as one tensor in stock's types, or None when it has gaps or rows of differing lengths.

    Stock goes through Python numbers: every float becomes float32, every integer int64, and a feature of
    shape (1,) a scalar.
    """
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=array.type)
    nested = False
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if array.null_count:
            return None
        if not hasattr(array, "flatten") or not pa.types.is_nested(array.type):
            break
        nested = True
        array = array.flatten()
    row_shape = tuple(shape) if nested else ()
    if len(array) != len(column) * int(np.prod(row_shape, dtype=np.int64)):
        return None
    values = array.to_numpy(zero_copy_only=False).reshape(len(column), *row_shape)
    if values.dtype.kind == "f":
        return torch.from_numpy(values.astype(np.float32))
    return torch.from_numpy(values.astype(np.bool_ if values.dtype.kind == "b" else np.int64))


def _can_travel(columns: Columns) -> bool:
    """Whether the columns can go to a starting worker without a copy for each.

    Where they are not shared, they go through `/dev/shm`: containers often have 64 MB of it, and a full one
    kills the worker without a word. A pickle that goes elsewhere (a file, another machine) must not carry a
    copy of the dataset either.
    """
    if multiprocessing.context.get_spawning_popen() is None:
        return False
    if columns.shared is not None or not _SHARED_MEMORY.is_dir():
        return True
    size = sum(tensor.numel() * tensor.element_size() for tensor in columns.tensors.values())
    return size < shutil.disk_usage(_SHARED_MEMORY).free / 2


@functools.cache
def _say_once(line: str) -> None:
    logger.warning(line)
