# SPDX-License-Identifier: Apache-2.0
"""Recomputes statistics of a dataset that are missing or wrong, and leaves the others as they are."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from lerobot.datasets.compute_stats import aggregate_stats, compute_episode_stats, sample_indices
from lerobot.datasets.io_utils import cast_stats_to_numpy
from lerobot.datasets.utils import STATS_PATH
from lerobot.utils.utils import unflatten_dict

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data.durable import replacing
from lerobot_ext.doctor.dataset_content import flat, read_stats, wrong_stats
from lerobot_ext.repair.contents import Episode, Info


def refuse_snapshot(root: Path) -> None:
    """Raise for a dataset in the Hub's cache: what is downloaded there is never changed.

    Raises:
        CommandError: It is one.
    """
    if "snapshots" in root.parts:
        raise CommandError(
            f"{root} is in the cache of the Hub, where nothing may be changed",
            "copy it: `hf download --repo-type dataset USER/REPO --local-dir DIR`, and give "
            "--dataset.root=DIR",
        )


def recompute(root: Path, info: Info, episodes: Sequence[Episode], features: Sequence[str]) -> str:
    """Compute the statistics of `features` from the rows and pictures and write `stats.json`.

    Args:
        root (`Path`): The dataset's folder.
        info (`Info`): Its `info.json`.
        episodes (`Sequence[Episode]`): Its episodes.
        features (`Sequence[str]`): What to compute; all others are kept.

    Returns:
        What was done.

    Raises:
        CommandError: A picture cannot be read, or the dataset is in the Hub's cache.
    """
    refuse_snapshot(root)
    new = {}
    for key in features:
        per_episode = [_of_episode(root, info, episode, key) for episode in episodes]
        new[key] = aggregate_stats([{key: stats} for stats in per_episode])[key]
    stats, _ = read_stats(root)
    stats |= {
        key: {name: np.asarray(value).tolist() for name, value in entry.items()} for key, entry in new.items()
    }
    kept = _keep_old(root)
    with replacing(root / STATS_PATH) as path:
        path.write_text(json.dumps(stats, indent=4), encoding="utf-8")
    return f"recomputed the statistics of {', '.join(features)}{kept}"


def _keep_old(root: Path) -> str:
    """Copy the old file beside the dataset, where a push does not take it along."""
    if not (root / STATS_PATH).exists():
        return ""
    stem = f"{root.name}.stats-backup-{time.strftime('%Y%m%d-%H%M%S')}"
    target, n = root.parent / f"{stem}.json", 1
    while target.exists():
        target, n = root.parent / f"{stem}-{n}.json", n + 1
    shutil.copy2(root / STATS_PATH, target)
    return f"; the old file is {target}"


def _of_episode(root: Path, info: Info, episode: Episode, key: str) -> dict[str, Any]:
    entry = info.raw["features"][key]
    if entry["dtype"] in ("image", "video"):
        saved = _saved(episode, key)
        return saved if saved is not None else _of_pictures(root, info, episode, key)
    rows = pq.read_table(
        root / episode.data_path, columns=[key], filters=[("episode_index", "=", episode.index)]
    )
    values = flat(rows.column(key)).reshape(rows.num_rows, *entry["shape"])
    if entry["shape"] == [1]:
        values = values.reshape(-1)  # as LeRobot has them when it saves an episode
    computed: dict[str, Any] = compute_episode_stats({key: values}, {key: entry})[key]
    return computed


def _saved(episode: Episode, key: str) -> dict[str, Any] | None:
    """The statistics that LeRobot noted when it saved the episode; `None` if it did not, or they are bad."""
    prefix = f"stats/{key}/"
    row = episode.row
    flat_stats = {name: row.column(name)[0].as_py() for name in row.column_names if name.startswith(prefix)}
    if not flat_stats:
        return None
    stats = unflatten_dict({name.removeprefix("stats/"): value for name, value in flat_stats.items()})
    found: dict[str, Any] = cast_stats_to_numpy(stats)[key]
    entry = {"dtype": "video", "shape": [len(found.get("mean", [])), 0, 0]}
    if "q01" not in found:
        return None  # of before LeRobot had quantiles
    return None if wrong_stats({k: v.tolist() for k, v in found.items()}, entry) else found


def _of_pictures(root: Path, info: Info, episode: Episode, key: str) -> dict[str, Any]:
    """Of a sample of its frames, as many as LeRobot takes."""
    from lerobot.datasets.compute_stats import get_feature_stats

    entry = info.raw["features"][key]
    if (entry.get("info") or {}).get("is_depth_map"):
        raise CommandError(
            f"the statistics of {key} cannot be recomputed: it is a depth camera", "nothing was changed"
        )
    frames = sample_indices(episode.length)
    pictures = _video_frames(root, info, episode, key, frames) if entry["dtype"] == "video" else None
    if pictures is None:
        pictures = _images(root, episode, key, frames)
    stats = get_feature_stats(pictures, axis=(0, 2, 3), keepdims=True)  # pictures: (N, 3, H, W)
    return {k: v if k == "count" else np.squeeze(v / 255.0, axis=0) for k, v in stats.items()}


def _video_frames(root: Path, info: Info, episode: Episode, key: str, frames: Sequence[int]) -> Any:
    from lerobot.datasets.video_utils import decode_video_frames

    span, fps = episode.videos[key], float(info.raw["fps"])
    times = [span.from_s + frame / fps for frame in frames]
    try:
        decoded = decode_video_frames(root / span.path, times, 1e-4, "pyav", return_uint8=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CommandError(f"{span.path} cannot be decoded: {error}", "nothing was changed") from error
    return decoded.numpy()


def _images(root: Path, episode: Episode, key: str, frames: Sequence[int]) -> Any:
    import io

    from PIL import Image

    rows = pq.read_table(
        root / episode.data_path, columns=[key], filters=[("episode_index", "=", episode.index)]
    )
    cells = [rows.column(key)[int(frame)].as_py() for frame in frames]
    return np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))).transpose(2, 0, 1) for cell in cells])
