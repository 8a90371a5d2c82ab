# SPDX-License-Identifier: Apache-2.0
"""What the rows of a dataset hold, compared with what `info.json` and `stats.json` say about them.

Shapes: `N` rows, `D` values of a feature.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.utils import STATS_PATH

from lerobot_ext.doctor.child import one_line
from lerobot_ext.doctor.findings import Finding, Fix, note, problem
from lerobot_ext.repair.contents import UNREADABLE, Info

if TYPE_CHECKING:
    from lerobot_ext.repair.survey import Survey

Numbers = np.ndarray[Any, Any]

TOLERANCE_S: Final = 1e-4
"""LeRobot refuses a video frame that is further than this from the row's timestamp."""
BASIC: Final = ("min", "max", "mean", "std", "count")
_PICTURES: Final = ("image", "video")
_NO_STATISTICS: Final = ("string", "language")
# `index` and its like are counted, not measured; their statistics are nobody's concern.
_COUNTERS: Final = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_RECOMPUTE: Final = "`--fix` recomputes them from the data and keeps the old file beside the dataset"


@dataclass
class Content:
    """What the rows hold.

    Args:
        low (`dict`), high (`dict`), mean (`dict`): By numeric feature, (D,) extremes and mean, NaN left out.
        n_rows (`int`): Rows of all files.
        bad_episodes (`dict[str, list[int]]`): By feature, episodes with NaN or infinity.
        absent (`dict[str, str]`): Features without a column, with the file.
        misshapen (`dict[str, str]`): Features whose rows have another size, with the size.
        off_grid (`tuple | None`): Worst timestamp: seconds off, episode, frame.
        apparent_fps (`float`): What the timestamps' steps amount to; 0 when there are none.
    """

    low: dict[str, Numbers] = field(default_factory=dict)
    high: dict[str, Numbers] = field(default_factory=dict)
    mean: dict[str, Numbers] = field(default_factory=dict)
    n_rows: int = 0
    bad_episodes: dict[str, list[int]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    misshapen: dict[str, str] = field(default_factory=dict)
    off_grid: tuple[float, int, int] | None = None
    apparent_fps: float = 0.0


def numeric(info: Info) -> dict[str, dict[str, Any]]:
    """Features that are numbers in the rows."""
    skipped = (*_PICTURES, *_NO_STATISTICS)
    return {key: entry for key, entry in info.raw["features"].items() if entry["dtype"] not in skipped}


def read_content(root: Path, info: Info, files: list[str]) -> Content:
    """Read the numbers of all data files, one file at a time.

    Args:
        root (`Path`): The dataset's folder.
        info (`Info`): Its `info.json`.
        files (`list[str]`): Data files, relative to `root`.
    """
    found = Content()
    sums: dict[str, Numbers] = {}
    steps: list[Numbers] = []
    for file in files:
        schema = pq.read_schema(root / file)
        wanted = [key for key in numeric(info) if key in schema.names]
        for key in set(numeric(info)) - set(wanted):
            found.absent.setdefault(key, file)
        table = pq.read_table(root / file, columns=wanted)
        found.n_rows += table.num_rows
        if table.num_rows:
            _read_table(found, table, info, sums)
            steps.append(_check_times(found, table, float(info.raw["fps"])))
    found.mean = {key: total / max(found.n_rows, 1) for key, total in sums.items()}
    durations = np.concatenate(steps) if steps else np.zeros(0)
    found.apparent_fps = (
        float(1 / np.median(durations)) if durations.size and np.median(durations) > 0 else 0.0
    )
    return found


def _read_table(found: Content, table: pa.Table, info: Info, sums: dict[str, Numbers]) -> None:
    episodes = table.column("episode_index").to_numpy()
    for key, entry in numeric(info).items():
        if key not in table.column_names or key in found.misshapen:
            continue
        size = int(np.prod(entry["shape"]))
        values = flat(table.column(key))
        if values.size != table.num_rows * size:
            found.misshapen[key] = f"{values.size / table.num_rows:g}"
            continue
        rows = values.reshape(table.num_rows, size).astype(np.float64)  # (N, D)
        good = np.isfinite(rows)
        if not good.all():
            bad = np.unique(episodes[~good.all(axis=1)]).tolist()
            found.bad_episodes[key] = sorted({*found.bad_episodes.get(key, []), *bad})
        low = np.where(good, rows, np.inf).min(axis=0)
        high = np.where(good, rows, -np.inf).max(axis=0)
        found.low[key] = np.minimum(found.low.get(key, low), low)
        found.high[key] = np.maximum(found.high.get(key, high), high)
        sums[key] = sums.get(key, np.zeros(size)) + np.where(good, rows, 0).sum(axis=0)


def flat(column: pa.ChunkedArray) -> Numbers:
    """All values of a column of numbers or (nested) lists of numbers."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif (
            pa.types.is_list(array.type)
            or pa.types.is_fixed_size_list(array.type)
            or pa.types.is_large_list(array.type)
        ):
            array = array.flatten()
        else:
            return np.asarray(array.to_numpy(zero_copy_only=False))


def _check_times(found: Content, table: pa.Table, fps: float) -> Numbers:
    """Compare timestamps with the grid of `fps`; the steps within episodes."""
    names = ("timestamp", "frame_index", "episode_index")
    if any(name not in table.column_names for name in names):
        return np.zeros(0)
    times, frames, episodes = (flat(table.column(name)) for name in names)
    off = np.abs(times.astype(np.float64) - frames / fps)
    worst = int(off.argmax())
    if off[worst] > TOLERANCE_S and (found.off_grid is None or off[worst] > found.off_grid[0]):
        found.off_grid = (float(off[worst]), int(episodes[worst]), int(frames[worst]))
    return np.asarray(np.diff(times.astype(np.float64))[np.diff(episodes) == 0])


# --- findings


def edit_command(root: Path, repo_id: str, operation: str, **values: object) -> str:
    """The stock command that writes an edited dataset into a new folder beside it.

    In place LeRobot removes whatever an earlier edit kept as `…_old`; only `modify_tasks` knows no other way.

    Args:
        root (`Path`): The dataset's folder.
        repo_id (`str`): As the user named it; a folder's name becomes one.
        operation (`str`): Its type, such as `delete_episodes`.
        values (`object`): Its options.
    """
    name = (
        repo_id
        if repo_id.count("/") == 1 and not repo_id.startswith(("/", ".", "~"))
        else f"local/{root.name}"
    )
    options: dict[str, object] = {"repo_id": name, "root": root, "operation.type": operation}
    if operation != "modify_tasks":
        options |= {"new_repo_id": f"{name}_edited", "new_root": root.with_name(f"{root.name}_edited")}
    options |= {f"operation.{key}": value for key, value in values.items()}
    words = [f"--{key}={shlex.quote(str(value))}" for key, value in options.items()]
    return " ".join(["lerobot-edit-dataset", *words])


def about_rows(found: Content, info: Info, root: Path, repo_id: str) -> Iterator[Finding]:
    """Columns, shapes, names, NaN and timestamps.

    Args:
        found (`Content`): What the rows hold.
        info (`Info`): `info.json`.
        root (`Path`): The dataset's folder, for commands.
        repo_id (`str`): As the user named it, for commands.
    """
    for key, file in found.absent.items():
        yield problem(
            "dataset_column",
            key,
            f"info.json lists it, {file} has no such column",
            f"remove it: `{edit_command(root, repo_id, 'remove_feature', feature_names=[key])}`",
        )
    for key, size in found.misshapen.items():
        yield problem(
            "dataset_shape",
            key,
            f"info.json gives it shape {info.raw['features'][key]['shape']}, its rows hold {size} values "
            "each",
            "correct `shape` in meta/info.json if the rows are right; else record again",
        )
    for key, episodes in found.bad_episodes.items():
        shown = ", ".join(map(str, episodes[:8])) + (", …" if len(episodes) > 8 else "")
        yield problem(
            "dataset_nan",
            key,
            f"NaN or infinity in episode{'s' if len(episodes) > 1 else ''} {shown}",
            f"leave them out: `{edit_command(root, repo_id, 'delete_episodes', episode_indices=episodes)}`",
        )
    yield from _about_names(info)
    yield from _about_times(found, info)


def _about_names(info: Info) -> Iterator[Finding]:
    for key, entry in info.raw["features"].items():
        names = entry.get("names")
        if entry["dtype"] in _PICTURES or not isinstance(names, list) or len(entry["shape"]) != 1:
            continue
        if len(names) != entry["shape"][0]:
            yield problem(
                "feature_names",
                key,
                f"it has {entry['shape'][0]} values and {len(names)} names",
                "correct `names` in meta/info.json: lerobot-replay and -rollout send actions by these names",
            )


def _about_times(found: Content, info: Info) -> Iterator[Finding]:
    if found.off_grid is None:
        return
    off_s, episode, frame = found.off_grid
    fps = info.raw["fps"]
    rate = found.apparent_fps
    looks = f"; their steps look like {rate:.4g} fps" if rate and abs(rate - fps) > 0.01 * fps else ""
    level = problem if info.video_keys else note
    yield level(
        "timestamps",
        "timestamp",
        f"timestamps are not on the grid of {fps} fps, the worst by {off_s:.4g} s in episode {episode}, "
        "frame "
        f"{frame}{looks}"
        + ("; LeRobot takes video frames by them and refuses those" if info.video_keys else ""),
        f"if the recording ran at {rate:.4g} fps, correct `fps` in meta/info.json; else record again"
        if looks
        else "timestamp must be frame_index / fps: rewrite the column, or record again",
    )


# --- statistics


def read_stats(root: Path) -> tuple[dict[str, Any], str]:
    """`stats.json`, and why it cannot be read."""
    try:
        stats = json.loads((root / STATS_PATH).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, "is missing"
    except UNREADABLE as error:
        return {}, f"cannot be read: {one_line(error, 100)}"
    return (stats, "") if isinstance(stats, dict) else ({}, "holds no object")


def about_stats(stats: dict[str, Any], why: str, found: Content, info: Info) -> Iterator[Finding]:
    """Whether every feature has its statistics, and whether they are those of the rows.

    Args:
        stats (`dict`): As `read_stats` returns them.
        why (`str`): Why they cannot be read; empty when they can.
        found (`Content`): What the rows hold.
        info (`Info`): `info.json`.
    """
    if why:
        yield problem("dataset_stats", STATS_PATH, f"{STATS_PATH} {why}", _RECOMPUTE, fix="recompute_stats")
        return
    for key, entry in info.raw["features"].items():
        if entry["dtype"] in _NO_STATISTICS or key in _COUNTERS:
            continue
        wrong = wrong_stats(stats.get(key), entry)
        if wrong:
            yield problem("dataset_stats", key, wrong, _RECOMPUTE, fix="recompute_stats")
        elif key in found.low and key not in found.bad_episodes:
            yield from _about_values(key, stats[key], found)


def wrong_stats(stats: Any, entry: dict[str, Any]) -> str:
    """What is wrong with a feature's statistics, whatever its rows are; empty if nothing."""
    if not isinstance(stats, dict):
        return "stats.json has no statistics of it"
    lacking = [name for name in BASIC if name not in stats]
    if lacking:
        return f"stats.json lacks its {', '.join(lacking)}"
    channels = next((n for n in entry["shape"] if n in (1, 3)), 3)
    wanted = (channels, 1, 1) if entry["dtype"] in _PICTURES else tuple(entry["shape"])
    for name in BASIC[:-1]:
        try:
            values = np.asarray(stats[name], dtype=float)
        except (ValueError, TypeError):
            return f"its {name} is no list of numbers"
        # Of a matrix LeRobot keeps one value a column; normalising repeats it for every row.
        if values.shape not in (wanted, wanted[-1:]) or (entry["dtype"] in _PICTURES and values.ndim != 3):
            return f"its {name} has shape {list(values.shape)}, it should be {list(wanted)}"
        if not np.isfinite(values).all():
            return f"its {name} is NaN or infinite"
    return ""


def _about_values(key: str, stats: dict[str, Any], found: Content) -> Iterator[Finding]:
    low, high, mean = (np.asarray(stats[name], dtype=float).reshape(-1) for name in ("min", "max", "mean"))
    # The rows are float32, statistics are not: a value that never changes differs in the last digits.
    if low.size != found.low[key].size:
        return  # statistics of a matrix, by column
    largest = np.maximum(np.abs(found.high[key]), np.abs(found.low[key]))
    spread = np.maximum(found.high[key] - found.low[key], np.maximum(1e-3 * largest, 1e-6))
    for name, said, true in (
        ("min", low, found.low[key]),
        ("max", high, found.high[key]),
        ("mean", mean, found.mean[key]),
    ):
        off = np.abs(said - true) / spread
        if (off > 0.01).any():
            place = int(off.argmax())
            yield problem(
                "dataset_stats_wrong",
                key,
                f"stats.json says {name} {said[place]:.4g} in dimension {place}, the rows say "
                f"{true[place]:.4g}",
                _RECOMPUTE,
                fix="recompute_stats",
            )
            return
    still = np.flatnonzero(found.high[key] == found.low[key]).tolist()
    if still and found.n_rows > 1:
        yield note(
            "dataset_constant",
            key,
            f"dimension{'s' if len(still) > 1 else ''} {', '.join(map(str, still))} never change"
            f"{'' if len(still) > 1 else 's'}: normalised with it, the smallest deviation becomes huge",
            "nothing where they never change in use either (the height of a goal); else leave them out, or "
            "record data in which they change",
        )


def has_statistics(entry: dict[str, Any]) -> bool:
    """Whether a feature has any."""
    return entry["dtype"] not in _NO_STATISTICS


def recomputing(surveyed: "Survey", features: Sequence[str]) -> list[Fix]:
    """The fix that computes the statistics of `features`; none for no features."""
    if not features:
        return []

    def apply() -> str:
        from lerobot_ext.doctor.dataset_fix import recompute

        return recompute(surveyed.root, surveyed.info, surveyed.kept, features)

    what = f"recompute the statistics of {', '.join(features)} in {surveyed.root / STATS_PATH}, with a backup"
    return [Fix("recompute_stats", what, apply)]
