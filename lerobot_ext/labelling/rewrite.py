# SPDX-License-Identifier: Apache-2.0
"""Writes a dataset again with other columns: rows, statistics and features; videos are only linked.

Everything is written to a folder of its own first, so that a kill at any moment leaves the dataset as it was.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.compute_stats import aggregate_stats, compute_episode_stats
from lerobot.datasets.feature_utils import get_hf_features_from_features
from lerobot.datasets.io_utils import load_stats, write_stats
from lerobot.datasets.utils import DEFAULT_TASKS_PATH, EPISODES_DIR, INFO_PATH, STATS_PATH

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data.durable import flush_to_disk
from lerobot_ext.data.journal_files import FOLDER as JOURNAL
from lerobot_ext.data.journal_files import recording_process
from lerobot_ext.importing.joining import link_or_copy
from lerobot_ext.labelling.episodes import Labelled
from lerobot_ext.labelling.exchange import exchange, recover

Columns = Mapping[str, npt.NDArray[Any]]
_REWRITTEN: Final = (INFO_PATH, STATS_PATH)


@contextmanager
def working_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` that this process alone writes to; what a cut-off run left is removed.

    Raises:
        CommandError: Another process labels it, or it is being recorded.
    """
    from filelock import FileLock, Timeout

    pid = recording_process(target) if target.exists() else None
    if pid is not None:
        raise CommandError(f"{target} is being recorded at this moment, by process {pid}", "let it finish")
    if (target / JOURNAL).exists():
        raise CommandError(
            f"a recording into {target} was cut off: its journal is there", f"`lerobot-ext repair {target}`"
        )
    lock = FileLock(target.with_name(f".{target.name}.labelling.lock"))
    folder = target.with_name(f"{target.name}.labelling")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CommandError(f"another process labels {target} at this moment", "wait for it") from None
    except OSError as error:
        raise CommandError(f"{target.parent} cannot be written: {error}", "name another --out") from error
    try:
        recover(target)
        shutil.rmtree(folder, ignore_errors=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # while it is held: nobody else can hold a file without a name
            Path(lock.lock_file).unlink()
        lock.release()


def write_labelled(
    found: Labelled,
    columns: Columns,
    features: Mapping[str, dict[str, Any]],
    target: Path,
    tell: Callable[[Path], None] = lambda path: None,
) -> None:
    """Write the dataset with these columns, and put it in its place at once.

    Args:
        found (`Labelled`): The dataset.
        columns (`Mapping`): (frames,) by name; one of a name that is there replaces it.
        features (`Mapping`): Their descriptions.
        target (`Path`): A new folder, or the dataset's own.
        tell (`Callable`, *optional*): Called with each file that is written.

    Raises:
        CommandError: `target` is something else that is there, or cannot be written.
    """
    in_place = target == found.root
    if target.exists() and not in_place:
        raise CommandError(f"{target} is there already", "name another --out, or `--in-place`")
    target.parent.mkdir(parents=True, exist_ok=True)
    with working_folder(target) as folder:
        try:
            _write(found, columns, features, folder, tell)
            for path in sorted(folder.rglob("*")):
                flush_to_disk(path)
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error}; the dataset is as it was") from error
        if in_place:
            exchange(folder, target)
        else:
            folder.rename(target)
        flush_to_disk(target.parent)


def _write(
    found: Labelled,
    columns: Columns,
    features: Mapping[str, dict[str, Any]],
    folder: Path,
    tell: Callable[[Path], None],
) -> None:
    described = {**found.info.raw["features"], **features}
    shapes = {name: {**feature, "shape": tuple(feature["shape"])} for name, feature in described.items()}
    schema = get_hf_features_from_features(shapes).arrow_schema
    stats = _episode_stats(found, columns, shapes)
    for path in sorted(path for path in found.root.rglob("*") if path.is_file()):
        name = path.relative_to(found.root)
        if name.as_posix() in _REWRITTEN:
            continue
        tell(name)
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if name.parts[0] == "data" and path.suffix == ".parquet":
            _copy_rows(path, copy, columns, schema)
        elif name.as_posix().startswith(EPISODES_DIR) and path.suffix == ".parquet":
            _copy_episodes(path, copy, stats)
        elif name.parts[0] in ("videos", "images") or name.as_posix() == DEFAULT_TASKS_PATH:
            link_or_copy(path, copy)
        else:
            shutil.copy2(path, copy)
    (folder / INFO_PATH).write_text(
        json.dumps({**found.info.raw, "features": described}, indent=4, ensure_ascii=False)
    )
    total = load_stats(found.root) or {}
    write_stats({**total, **aggregate_stats(stats)}, folder)


def _episode_stats(
    found: Labelled, columns: Columns, features: Mapping[str, dict[str, Any]]
) -> list[dict[str, dict[str, npt.NDArray[Any]]]]:
    """LeRobot's statistics of the columns, by episode."""
    return [
        compute_episode_stats(
            {name: column[start : start + length] for name, column in columns.items()}, dict(features)
        )
        for start, length in zip(found.starts, found.lengths, strict=True)
    ]


def _copy_rows(source: Path, target: Path, columns: Columns, schema: pa.Schema) -> None:
    """A data file with other columns, row group by row group."""
    with pq.ParquetFile(source) as file, pq.ParquetWriter(target, schema, compression="snappy") as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            index = table.column("index").to_numpy()
            arrays = [
                pa.array(columns[field.name][index]).cast(field.type)
                if field.name in columns
                else table.column(field.name)
                for field in schema
            ]
            writer.write_table(pa.table(arrays, schema=schema))


def _copy_episodes(source: Path, target: Path, stats: list[dict[str, dict[str, Any]]]) -> None:
    """A file of `meta/episodes` with the statistics of the new columns."""
    table = pq.read_table(source)
    mine = [stats[index] for index in table.column("episode_index").to_pylist()]
    for name, of_feature in mine[0].items() if mine else ():
        for key in of_feature:
            column = f"stats/{name}/{key}"
            values = pa.array([np.asarray(each[name][key]).tolist() for each in mine])
            at = table.schema.get_field_index(column)
            table = table.append_column(column, values) if at < 0 else table.set_column(at, column, values)
    # `datasets` would read its own description of the old columns back
    pq.write_table(table.replace_schema_metadata(None), target, compression="snappy")
