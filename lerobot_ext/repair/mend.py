# SPDX-License-Identifier: Apache-2.0
"""Carries out what `survey` found, after a backup; a repair that is cut off itself can simply be run again.

Every file is written beside its place and put there at once, and the journal is removed last: until then
everything that was kept can still be read.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.compute_stats import aggregate_stats
from lerobot.datasets.io_utils import cast_stats_to_numpy, write_stats
from lerobot.datasets.utils import DEFAULT_TASKS_PATH, INFO_PATH, STATS_PATH
from lerobot.utils.utils import unflatten_dict

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data.durable import replacing
from lerobot_ext.repair.contents import Episode
from lerobot_ext.repair.encode import encode_missing
from lerobot_ext.repair.survey import SIDECAR_PATH, Finding, Survey, sidecar_lines, survey, video_ends
from lerobot_ext.repair.videos import cut_after

Tell = Callable[[str], None]


def backup_path(root: Path, folder: Path | None = None) -> Path:
    """A name for the backup that is not taken: beside the dataset, or in `folder`."""
    stem = f"{root.name}.repair-backup-{time.strftime('%Y%m%d-%H%M%S')}"
    parent = folder if folder is not None else root.parent
    path, n = parent / stem, 1
    while path.exists():
        path, n = parent / f"{stem}-{n}", n + 1
    return path


def back_up(root: Path, target: Path) -> None:
    """Copy the whole dataset to `target`.

    Data, videos and images become hard links where the file system has them: they take no space, and neither
    repair nor LeRobot writes into such a file again. The small files of `meta`, into which a resumed
    recording does write, are copied.

    Raises:
        CommandError: There is no room, or the folder cannot be written; nothing was changed.
    """

    def link_or_copy(source: str, destination: str) -> None:
        if "meta" not in Path(source).relative_to(root).parts[:1]:
            try:
                os.link(os.path.realpath(source), destination)
                return
            except OSError:
                pass  # another file system, or one without links
        shutil.copy2(source, destination)

    try:
        shutil.copytree(root, target, copy_function=link_or_copy)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise CommandError(
            f"the backup {target} cannot be made: {str(error)[:200]}; nothing was changed",
            "make room, or name another folder with `--backup-dir`",
        ) from error


def mend(found: Survey, tell: Tell = lambda what: None) -> None:
    """Make the dataset agree with its whole episodes.

    Args:
        found (`Survey`): What `survey` found there.
        tell (`Callable`, *optional*): Called with each file before it is written.

    Raises:
        CommandError: The result is not healthy; the backup has the state before.
    """
    rewritten = {finding.path: finding for finding in found.findings if finding.action in ("rewrite", "cut")}
    _mend_files(found, rewritten, tell)
    # A repair that was cut off has left a video which nothing named; encoded anew, it has its episode.
    in_use = {span.path for episode in found.kept for span in episode.videos.values()}
    removed = [item for item in found.findings if item.action == "remove" and item.path not in in_use]
    for finding in sorted(removed, key=lambda finding: finding.path.startswith("meta/journal")):
        tell(finding.path)
        _remove(found.root / finding.path)
    _remove_empty_folders(found.root)
    again = survey(found.root)
    if again.findings:
        first = again.findings[0]
        raise CommandError(
            f"{found.root}: after the repair {first.path} still is wrong: {first.problem}",
            "the backup holds the state before; please report this with the output of `--dry-run --json`",
        )


def _mend_files(found: Survey, wrong: dict[str, Finding], tell: Tell) -> None:
    """Write what has to change: first data and videos, then what describes them."""
    for finding in found.findings:
        if finding.action == "encode":
            tell(finding.path)
    found.kept = encode_missing(found.root, found.info, found.kept)
    for path, episodes in groupby(found.kept, key=lambda episode: episode.data_path):
        if path in wrong:
            tell(path)
            _write_data(found, path, list(episodes))
    for path, end_s in video_ends(found.kept).items():
        if path in wrong:
            tell(path)
            with replacing(found.root / path) as new:
                cut_after(found.root / path, new, end_s, float(found.info.raw["fps"]))
    for path, episodes in groupby(found.kept, key=lambda episode: episode.meta_path):
        if path in wrong:
            tell(path)
            rows = pa.concat_tables([episode.row for episode in episodes], promote_options="permissive")
            with replacing(found.root / path) as new:
                pq.write_table(rows, new, compression="snappy", use_dictionary=True)
    writers: dict[str, Callable[[Path], None]] = {
        DEFAULT_TASKS_PATH: lambda new: found.tasks.to_parquet(new),
        STATS_PATH: lambda new: _write_stats(found.kept, new),
        SIDECAR_PATH: lambda new: _write_sidecar(found, new),
        INFO_PATH: lambda new: _write_info(found, new),
    }
    for path, write in writers.items():
        if path in wrong:
            tell(path)
            with replacing(found.root / path) as new:
                write(new)


def _write_data(found: Survey, path: str, episodes: list[Episode]) -> None:
    """A data file as LeRobot writes it: one row group an episode."""
    tables = [found.rows.table(episode) for episode in episodes]
    with (
        replacing(found.root / path) as new,
        pq.ParquetWriter(new, tables[0].schema, compression="snappy", use_dictionary=True) as writer,
    ):
        for table in tables:
            writer.write_table(table.cast(tables[0].schema))


def _write_stats(kept: list[Episode], path: Path) -> None:
    """Statistics of the kept episodes, put together one after the other as LeRobot does while it records."""
    total = None
    for episode in kept:
        flat = {
            name.removeprefix("stats/"): episode.row.column(name)[0].as_py()
            for name in episode.row.column_names
            if name.startswith("stats/") and episode.row.column(name)[0].is_valid
        }
        stats = cast_stats_to_numpy(unflatten_dict(flat))
        total = stats if total is None else aggregate_stats([total, stats])
    # LeRobot's function takes the dataset's folder and adds the name itself.
    folder = path.with_name(f"{path.name}.folder")
    try:
        write_stats(total, folder)
        os.replace(folder / STATS_PATH, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_info(found: Survey, path: Path) -> None:
    """`info.json` with the counts of the kept episodes; everything else stays."""
    raw = dict(found.info.raw)
    raw["total_episodes"] = len(found.kept)
    raw["total_frames"] = found.n_frames
    raw["total_tasks"] = len(found.tasks)
    raw["splits"] = {"train": f"0:{len(found.kept)}"}
    path.write_text(json.dumps(raw, indent=4, ensure_ascii=False))


def _write_sidecar(found: Survey, path: Path) -> None:
    good, _ = sidecar_lines(found.root, len(found.kept))
    path.write_text("".join(f"{line}\n" for line in good))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_empty_folders(root: Path) -> None:
    """Folders of files and images that are gone."""
    for name in ("images", "videos", "data", "meta"):
        for folder, _, _ in os.walk(root / name, topdown=False):
            path = Path(folder)
            if not any(path.iterdir()):
                path.rmdir()
