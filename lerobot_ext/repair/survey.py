# SPDX-License-Identifier: Apache-2.0
"""Finds how many whole episodes a dataset holds, and everything that does not agree with them.

An episode is whole when its row of `meta/episodes`, all its frames in the data and all its video frames are
there. What is kept is the longest run of whole episodes from the first: indices must be without gaps.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from lerobot.datasets.utils import DEFAULT_TASKS_PATH, STATS_PATH

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data import journal_files
from lerobot_ext.data.durable import SUFFIX
from lerobot_ext.repair.contents import (
    UNREADABLE,
    DataRows,
    Episode,
    Info,
    Numbers,
    data_files,
    meta_files,
    read_episodes,
    read_info,
    video_files,
)
from lerobot_ext.repair.encode import image_folder, not_encoded
from lerobot_ext.repair.videos import VideoFrames, read_frames

SIDECAR_PATH = "meta/stale_values.jsonl"

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what repair does about it.

    Args:
        path (`str`): File or folder, relative to the dataset's folder.
        problem (`str`): What is wrong.
        action (`str`): What is done: `rewrite`, `cut`, `encode` or `remove`.
        detail (`str`): The outcome in words.
    """

    path: str
    problem: str
    action: str
    detail: str


@dataclass
class Survey:
    """What a dataset holds and what is wrong with it.

    Args:
        root (`Path`): The dataset's folder.
        info (`Info`): Its `info.json`.
        kept (`list[Episode]`): The whole episodes, from the first on.
        rows (`DataRows`): Their rows.
        tasks (`pandas.DataFrame`): Tasks that remain, index `task`, column `task_index`.
        n_known (`int`): Episodes of which any trace was found.
        why_not_more (`str`): What is missing of the first episode that is not kept.
        findings (`list[Finding]`): What is wrong; empty for a healthy dataset.
    """

    root: Path
    info: Info
    kept: list[Episode]
    rows: DataRows
    tasks: pd.DataFrame
    n_known: int
    why_not_more: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def n_frames(self) -> int:
        """Frames of the kept episodes."""
        return sum(episode.length for episode in self.kept)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def survey(root: Path, progress: Progress = lambda what, total: None) -> Survey:
    """Look at everything in the dataset at `root`; changes nothing.

    Args:
        root (`Path`): The dataset's folder.
        progress (`Callable`, *optional*): Called before each file with what is looked at and how many there
            are in all.

    Raises:
        CommandError: Nothing can be said or saved; the message names what is missing.
    """
    info = read_info(root)
    episodes, unreadable_meta = read_episodes(root, info)
    rows = DataRows(root)
    videos = _read_videos(root, episodes, progress)
    kept, why_not_more = _whole_prefix(episodes, rows, videos, info)
    n_known = max([int(info.raw["total_episodes"]), *(index + 1 for index in episodes)])
    if not kept:
        raise _nothing_to_save(root, info, why_not_more)
    tasks, task_findings = _tasks(root, info, kept, rows)
    found = Survey(root, info, kept, rows, tasks, n_known, why_not_more)
    found.findings += _meta_findings(found, unreadable_meta)
    found.findings += _data_findings(found)
    found.findings += _encode_findings(found)
    found.findings += _video_findings(found, videos)
    found.findings += task_findings
    found.findings += _info_findings(found)
    found.findings += _stats_findings(found)
    found.findings += _sidecar_findings(found)
    found.findings += _left_overs(found)
    return found


def _nothing_to_save(root: Path, info: Info, why: str) -> CommandError:
    if info.raw["total_episodes"] == 0 and not any(data_files(root)):
        why = "its recording ended before the first episode was saved"
    return CommandError(
        f"{root} holds no whole episode, nothing can be saved: {why}",
        f"nothing was changed; record anew, `rm -r {root}` frees the name",
    )


# --- what is whole


def _read_videos(root: Path, episodes: dict[int, Episode], progress: Progress) -> dict[str, VideoFrames]:
    """The frames of every video file there is or should be."""
    named = {span.path for episode in episodes.values() for span in episode.videos.values()}
    paths = sorted(named | set(video_files(root)))
    videos = {}
    for path in paths:
        progress(path, len(paths))
        videos[path] = read_frames(root / path)
    return videos


def _whole_prefix(
    episodes: dict[int, Episode], rows: DataRows, videos: dict[str, VideoFrames], info: Info
) -> tuple[list[Episode], str]:
    """The whole episodes from the first on, and what is missing of the next."""
    kept: list[Episode] = []
    while True:
        index = len(kept)
        if index not in episodes:
            return kept, f"episode {index} has no row in meta/episodes, and none in a journal"
        missing = _missing(episodes[index], kept, rows, videos, info)
        if missing:
            return kept, missing
        kept.append(episodes[index])


def _missing(
    episode: Episode, before: list[Episode], rows: DataRows, videos: dict[str, VideoFrames], info: Info
) -> str:
    """What is missing of `episode`; empty if it is whole."""
    name = f"episode {episode.index}"
    expected = before[-1].start + before[-1].length if before else 0
    if episode.start != expected:
        return f"{name} starts at frame {episode.start} and should at {expected}"
    if rows.tasks_of(episode) is None:
        problem = rows.file(episode.data_path).problem or "its frames are not all there"
        return f"{name}: {episode.data_path}: {problem}, and no journal holds them"
    for key in info.video_keys:
        if key not in episode.videos:
            if image_folder(rows.root, info, key, episode) is None:
                return f"{name}: the video of {key} was not encoded yet, and its images are not all there"
            continue
        span = episode.videos[key]
        if not videos[span.path].has(span, episode.length, float(info.raw["fps"])):
            return f"{name}: {span.path}: {videos[span.path].problem or 'its frames are not all there'}"
    return ""


# --- what does not agree with it


def _meta_findings(found: Survey, unreadable: dict[str, str]) -> list[Finding]:
    """Files of `meta/episodes` that are not exactly the kept rows meant for them."""
    findings = []
    present = {path.relative_to(found.root).as_posix() for path in meta_files(found.root)}
    wanted = {path: list(rows) for path, rows in _grouped(found.kept, "meta_path")}
    for path in sorted(present | set(wanted)):
        kept = wanted.get(path, [])
        problem = unreadable.get(path) or ("" if path in present else "missing")
        if not problem and any(not_encoded(found.info, row) for row in kept):
            problem = "does not name the videos that are not encoded yet"
        if not problem and (
            any(row.from_journal for row in kept) or not kept or _n_rows(found.root / path) != len(kept)
        ):
            problem = "its rows are not those of the whole episodes"
        if problem:
            findings.append(_rewrite_or_remove(path, problem, kept))
    return findings


def _data_findings(found: Survey) -> list[Finding]:
    """Data files that are not exactly the frames of the kept episodes meant for them."""
    findings = []
    wanted = {path: list(rows) for path, rows in _grouped(found.kept, "data_path")}
    for path in sorted(set(data_files(found.root)) | set(wanted)):
        kept = wanted.get(path, [])
        data = found.rows.file(path)
        problem = data.problem
        if not kept:
            problem = problem or "none of the whole episodes is in it"
        elif not problem and not _tiles(found.rows, path, kept):
            problem = f"{data.n_rows} rows, the whole episodes have {sum(row.length for row in kept)}"
        if problem:
            findings.append(_rewrite_or_remove(path, problem, kept))
    return findings


def _tiles(rows: DataRows, path: str, kept: list[Episode]) -> bool:
    """Whether a data file holds these episodes one after the other and nothing else."""
    end = 0
    for episode in kept:
        place = rows.file(path).rows_of(episode)
        if place is None or place.start != end:
            return False
        end = place.stop
    return end == rows.file(path).n_rows


def _rewrite_or_remove(path: str, problem: str, kept: list[Episode]) -> Finding:
    if not kept:
        return Finding(path, problem, "remove", "")
    return Finding(
        path,
        problem,
        "rewrite",
        f"{_episodes(kept)} from {'the journal' if _journaled(kept) else 'what is there'}",
    )


def _journaled(kept: list[Episode]) -> bool:
    return any(episode.from_journal for episode in kept)


def _episodes(kept: list[Episode]) -> str:
    first, last = kept[0].index, kept[-1].index
    return f"episode {first}" if first == last else f"episodes {first} to {last}"


def _grouped(kept: list[Episode], name: str) -> Any:
    """Kept episodes by file; the episodes of a file follow each other."""
    return groupby(kept, key=lambda episode: getattr(episode, name))


def _n_rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _encode_findings(found: Survey) -> list[Finding]:
    """Videos of kept episodes that are images so far."""
    return [
        Finding(
            image_folder(found.root, found.info, key, episode).relative_to(found.root).as_posix(),  # type: ignore[union-attr]
            "not encoded yet",
            "encode",
            f"{episode.length} frames of episode {episode.index}",
        )
        for episode in found.kept
        for key in not_encoded(found.info, episode)
    ]


def _video_findings(found: Survey, videos: dict[str, VideoFrames]) -> list[Finding]:
    """Video files with frames behind the last kept episode, or of none."""
    findings = []
    fps = float(found.info.raw["fps"])
    ends = video_ends(found.kept)
    for path, frames in videos.items():
        if SUFFIX in Path(path).stem:
            continue  # among the left-overs
        if path not in ends:
            if (found.root / path).exists():
                findings.append(
                    Finding(path, frames.problem or "none of the whole episodes is in it", "remove", "")
                )
            continue
        extra = frames.after(ends[path], fps)
        if extra or frames.problem:
            problem = frames.problem or f"{extra} frames more than the whole episodes have"
            findings.append(Finding(path, problem, "cut", f"after {ends[path]:.2f} s"))
    return findings


def video_ends(kept: list[Episode]) -> dict[str, float]:
    """Where the last kept episode ends in each video file, in seconds."""
    ends: dict[str, float] = {}
    for episode in kept:
        for span in episode.videos.values():
            ends[span.path] = max(ends.get(span.path, 0.0), span.to_s)
    return ends


def _tasks(root: Path, info: Info, kept: list[Episode], rows: DataRows) -> tuple[pd.DataFrame, list[Finding]]:
    """The tasks that remain and what is wrong with the file.

    Raises:
        CommandError: The kept frames use a task whose text is nowhere to be found.
    """
    used = np.unique(np.concatenate([rows.tasks_of(episode) for episode in kept]))  # type: ignore[arg-type]
    path = DEFAULT_TASKS_PATH
    tasks, problem = _read_tasks(root / path, used)
    if tasks is None:
        tasks, _ = _read_tasks(root / journal_files.FOLDER / "tasks.parquet", used)
    if tasks is None:
        tasks = _tasks_from_rows(kept, rows)
    if tasks is None or not set(used.tolist()) <= set(tasks["task_index"]):
        raise CommandError(
            f"{root / path}: {problem}, and the text of its tasks is nowhere else",
            "restore meta/tasks.parquet from a copy of the dataset",
        )
    if not problem and len(tasks) > info.raw.get("total_tasks", 0):
        trimmed = tasks[tasks["task_index"] <= max(int(used.max()), info.raw.get("total_tasks", 0) - 1)]
        if len(trimmed) < len(tasks):
            problem, tasks = f"{len(tasks) - len(trimmed)} tasks of unsaved episodes", trimmed
    return tasks, [Finding(path, problem, "rewrite", f"{len(tasks)} tasks")] if problem else []


def _read_tasks(path: Path, used: Numbers) -> tuple[pd.DataFrame | None, str]:
    try:
        tasks = pd.read_parquet(path)
        tasks.index.name = "task"
        if not set(used.tolist()) <= set(tasks["task_index"]):
            return None, "a task of the kept frames is missing"
    except UNREADABLE as error:
        return None, "missing" if isinstance(error, FileNotFoundError) else "cannot be read"
    return tasks, ""


def _tasks_from_rows(kept: list[Episode], rows: DataRows) -> pd.DataFrame | None:
    """Tasks by the rows of `meta/episodes`: certain only for episodes with one task."""
    texts: dict[int, str] = {}
    for episode in kept:
        indices = np.unique(rows.tasks_of(episode)).tolist()  # type: ignore[arg-type]
        names = episode.row.column("tasks")[0].as_py()
        if len(indices) == 1 and len(names) == 1:
            texts[indices[0]] = names[0]
    if sorted(texts) != list(range(len(texts))):
        return None
    ordered = [texts[index] for index in range(len(texts))]
    return pd.DataFrame({"task_index": range(len(ordered))}, index=pd.Index(ordered, name="task"))


def _info_findings(found: Survey) -> list[Finding]:
    raw = found.info.raw
    wanted = {
        "total_episodes": len(found.kept),
        "total_frames": found.n_frames,
        "total_tasks": len(found.tasks),
    }
    wrong = [
        f"{name} {raw.get(name)} instead of {value}"
        for name, value in wanted.items()
        if raw.get(name) != value
    ]
    bare = [key for key in found.info.video_keys if not raw["features"][key].get("info")]
    if bare and any(not_encoded(found.info, episode) for episode in found.kept):
        wrong.append(f"nothing about the videos of {', '.join(bare)}")
    problem = found.info.problem or ", ".join(wrong)
    detail = f"{len(found.kept)} episodes, {found.n_frames} frames"
    return [Finding("meta/info.json", problem, "rewrite", detail)] if problem else []


def _stats_findings(found: Survey) -> list[Finding]:
    """`stats.json` counts the frames it was made from."""
    if not any(name.startswith("stats/") for name in found.kept[0].row.column_names):
        return []  # nothing to make it from
    problem = ""
    try:
        stats = json.loads((found.root / STATS_PATH).read_text())
        counts = [stats[name]["count"][0] for name in ("index", "frame_index") if name in stats]
        if any(count != found.n_frames for count in counts):
            problem = f"made from {counts[0]} frames"
    except FileNotFoundError:
        problem = "missing"
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        problem = "cannot be read"
    detail = "from the statistics of the whole episodes"
    return [Finding(STATS_PATH, problem, "rewrite", detail)] if problem else []


def sidecar_lines(root: Path, n_episodes: int) -> tuple[list[str], int]:
    """Lines of the record of stale values that belong to kept episodes, and the number of others."""
    try:
        lines = (root / SIDECAR_PATH).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return [], 0
    good = []
    for line in lines:
        try:
            if 0 <= json.loads(line)["episode_index"] < n_episodes:
                good.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # torn by the kill
    return good, len(lines) - len(good)


def _sidecar_findings(found: Survey) -> list[Finding]:
    good, n_other = sidecar_lines(found.root, len(found.kept))
    if not n_other:
        return []
    return [Finding(SIDECAR_PATH, f"{n_other} lines of other episodes", "cut", f"{len(good)} lines stay")]


def _left_overs(found: Survey) -> list[Finding]:
    """What a recording leaves behind when it cannot clean up."""
    root = found.root
    paths = [path for path in sorted((root / "images").glob("*/episode-*")) if path.is_dir()]
    paths += [path for path in sorted(root.glob("tmp*")) if path.is_dir() and _only_videos(path)]
    paths += sorted(
        path for folder in ("videos", "meta", "data") for path in (root / folder).rglob(f"*{SUFFIX}.*")
    )
    journals = [root / journal_files.FOLDER, *sorted(root.glob("meta/journal-*"))]
    inside = [path for path in paths if any(journal in path.parents for journal in journals)]
    findings = [
        Finding(path.relative_to(root).as_posix(), "left over from the recording", "remove", "")
        for path in paths
        if path not in inside
    ]
    findings += [
        Finding(path.relative_to(root).as_posix(), "the recording was not finished", "remove", "")
        for path in journals
        if path.exists()
    ]
    return findings


def _only_videos(folder: Path) -> bool:
    """Whether a folder is one of LeRobot's for a video that is being encoded."""
    return all(path.suffix == ".mp4" for path in folder.iterdir())
