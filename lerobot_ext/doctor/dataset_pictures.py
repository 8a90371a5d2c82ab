# SPDX-License-Identifier: Apache-2.0
"""Whether a dataset's pictures can be had: videos by each backend at their ends and middle, and images."""

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lerobot_ext.doctor.child import Answer, one_line
from lerobot_ext.doctor.dataset_content import edit_command
from lerobot_ext.doctor.dataset_video_child import MAX_MEAN_DIFFERENCE
from lerobot_ext.doctor.findings import Finding, problem
from lerobot_ext.repair.contents import UNREADABLE, Episode, Info

_TIMEOUT_S: Final = 600.0
_MAX_FILES: Final = 120
"""Of a larger dataset so many video files, spread over it, are looked at."""
_MAX_IMAGE_FILES: Final = 12

AskChild = Callable[[list[dict[str, Any]]], Answer]


def ask_child(jobs: list[dict[str, Any]]) -> Answer:
    """Have the videos decoded in a process of its own; where that dies, the file is found by halving."""
    from lerobot_ext.doctor.child import ask

    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder) / "jobs.json"
        words.write_text(json.dumps(jobs), encoding="utf-8")
        told = ask("lerobot_ext.doctor.dataset_video_child", [str(words)], _TIMEOUT_S)
    if not told.failure:
        return told
    if len(jobs) == 1:
        error = {"decoder": f"the process that decodes it {told.failure}"}
        result = {"path": jobs[0]["path"], "errors": error, "shape": [], "fps": 0.0, "differs": 0.0}
        return Answer({"backends": [], "results": [result]})
    halves = [ask_child(jobs[: len(jobs) // 2]), ask_child(jobs[len(jobs) // 2 :])]
    backends = sorted({name for half in halves for name in half.value["backends"]})
    return Answer({"backends": backends, "results": [r for half in halves for r in half.value["results"]]})


def video_jobs(root: Path, info: Info, episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """For each video file the first, the middle and the last frame that an episode uses."""
    fps = float(info.raw["fps"])
    jobs: dict[str, dict[str, Any]] = {}
    for episode in episodes:
        for key, span in episode.videos.items():
            depth = bool((info.raw["features"][key].get("info") or {}).get("is_depth_map"))
            job = jobs.setdefault(
                span.path,
                {"path": str(root / span.path), "key": key, "depth": depth, "spans": [], "episodes": []},
            )
            job["spans"].append((span.from_s, episode.length))
            job["episodes"].append(episode.index)
    chosen = list(jobs.values())
    if len(chosen) > _MAX_FILES:
        chosen = [chosen[index] for index in np.linspace(0, len(chosen) - 1, _MAX_FILES).astype(int)]
    for job in chosen:
        job["times"] = _times(sorted(job.pop("spans")), fps)
    return chosen


def _times(spans: list[tuple[float, int]], fps: float) -> list[float]:
    middle_s, middle_length = spans[len(spans) // 2]
    last_s, last_length = spans[-1]
    return [spans[0][0], middle_s + (middle_length // 2) / fps, last_s + (last_length - 1) / fps]


def about_videos(
    root: Path, info: Info, jobs: list[dict[str, Any]], answer: dict[str, Any], repo_id: str
) -> Iterator[Finding]:
    """What decoding them showed.

    Args:
        root (`Path`): The dataset's folder.
        info (`Info`): Its `info.json`.
        jobs (`list[dict]`): What was to be decoded.
        answer (`dict`): What became of each.
        repo_id (`str`): As the user named it, for commands.
    """
    for job, result in zip(jobs, answer["results"], strict=True):
        path = Path(result["path"]).relative_to(root).as_posix()
        for backend, error in result["errors"].items():
            others = [name for name in answer["backends"] if name not in result["errors"]]
            yield problem(
                "video_decode",
                path,
                f"{backend} does not decode it {error}",
                f"`--dataset.video_backend={others[0]}` decodes it; "
                if others
                else "restore the file from a copy; else leave its episodes out: "
                f"`{edit_command(root, repo_id, 'delete_episodes', episode_indices=job['episodes'])}`",
            )
        if result["errors"]:
            continue
        yield from _about_stream(path, info, job["key"], result)
        if result["differs"] > MAX_MEAN_DIFFERENCE:
            yield problem(
                "video_backends_differ",
                path,
                f"{' and '.join(answer['backends'])} give different frames for one time (grey levels differ "
                "by "
                f"{result['differs']:.0f} in the mean)",
                "train and run with one backend, set openly: `--dataset.video_backend=pyav`; the file has "
                "irregular timestamps, encoding it anew makes them regular",
            )


def _about_stream(path: str, info: Info, key: str, result: dict[str, Any]) -> Iterator[Finding]:
    fps = float(info.raw["fps"])
    if result["fps"] and abs(result["fps"] - fps) > 0.01 * fps:
        yield problem(
            "video_fps",
            path,
            f"the video runs at {result['fps']:.4g} fps, info.json says {fps:g}",
            "torchcodec counts frames by the video's rate and gives the wrong ones: use "
            "`--dataset.video_backend=pyav`, or record again",
        )
    shape = info.raw["features"][key]["shape"]
    if result["shape"] and sorted(result["shape"]) != sorted(shape):
        yield problem(
            "video_size",
            path,
            f"its frames are {result['shape']} (channels, height, width), info.json says {shape} for {key}",
            "correct `shape` in meta/info.json if all videos of the camera are so; else leave the episodes "
            "out",
        )


# --- cameras that are kept as images


def about_images(root: Path, info: Info, files: Sequence[str], repo_id: str) -> Iterator[Finding]:
    """Read an image at the beginning, middle and end of some data files.

    Args:
        root (`Path`): The dataset's folder.
        info (`Info`): Its `info.json`.
        files (`Sequence[str]`): Its data files.
        repo_id (`str`): As the user named it, for commands.
    """
    keys = [key for key, entry in info.raw["features"].items() if entry["dtype"] == "image"]
    if len(files) > _MAX_IMAGE_FILES:
        files = [files[index] for index in np.linspace(0, len(files) - 1, _MAX_IMAGE_FILES).astype(int)]
    for key in keys:
        for file in files:
            wrong = _wrong_image(root, file, key, info.raw["features"][key]["shape"])
            if wrong:
                episodes = _episodes(root, file)
                yield problem(
                    "image_decode",
                    key,
                    f"{file}: {wrong}",
                    "restore the file from a copy; else leave its episodes out: "
                    f"`{edit_command(root, repo_id, 'delete_episodes', episode_indices=episodes)}`",
                )
                break


def _episodes(root: Path, file: str) -> list[int]:
    """Episodes that have rows in a data file."""
    import pyarrow.parquet as pq

    column = pq.read_table(root / file, columns=["episode_index"]).column("episode_index")
    return sorted(set(column.to_pylist()))


def _wrong_image(root: Path, file: str, key: str, shape: Sequence[int]) -> str:
    import pyarrow.parquet as pq
    from PIL import Image

    try:
        parquet = pq.ParquetFile(root / file)
        for group in sorted({0, parquet.num_row_groups // 2, parquet.num_row_groups - 1}):
            column = parquet.read_row_group(group, columns=[key]).column(key)
            for row in sorted({0, len(column) // 2, len(column) - 1}):
                data = column[row].as_py()["bytes"]
                with Image.open(io.BytesIO(data)) as image:
                    image.load()
                    if {image.height, image.width} - set(shape):
                        return f"an image is {image.height}x{image.width}, info.json says {list(shape)}"
    except (*UNREADABLE, TypeError, SyntaxError) as error:  # PIL raises SyntaxError for a broken PNG
        return one_line(error, 160)
    return ""
