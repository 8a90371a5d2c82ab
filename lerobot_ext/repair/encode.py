# SPDX-License-Identifier: Apache-2.0
"""Videos that were never encoded although the episode is saved: its frames are images on the disk.

With `video_encoding_batch_size` above 1 LeRobot encodes the videos of several episodes together, later. Until
then, and for good when that fails, an episode's row of `meta/episodes` does not say where its video is.
"""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from lerobot.configs import rgb_encoder_defaults
from lerobot.datasets.utils import DEFAULT_IMAGE_PATH, update_chunk_file_indices
from lerobot.datasets.video_utils import encode_video_frames, get_video_duration_in_s, get_video_info
from PIL import Image

from lerobot_ext.data.durable import replacing
from lerobot_ext.repair.contents import Episode, Info, VideoSpan


def image_folder(root: Path, info: Info, key: str, episode: Episode) -> Path | None:
    """Where the frames of a camera that were not encoded yet are, if all are there and none is torn.

    Depth images are left alone: how they are to be quantised stands only in the recording's command line.
    """
    if _is_depth(info, key):
        return None
    paths = [
        root / DEFAULT_IMAGE_PATH.format(image_key=key, episode_index=episode.index, frame_index=n)
        for n in range(episode.length)
    ]
    return paths[0].parent if all(_is_whole_image(path) for path in paths) else None


def _is_depth(info: Info, key: str) -> bool:
    known = info.raw["features"][key].get("info") or {}
    return bool(known.get("is_depth_map") or known.get("video.is_depth_map"))


def _is_whole_image(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.verify()  # the checksums of a PNG
    except (OSError, SyntaxError):
        return False
    return True


def not_encoded(info: Info, episode: Episode) -> list[str]:
    """Cameras of an episode whose video its row does not name."""
    return [key for key in info.video_keys if key not in episode.videos]


def encode_missing(root: Path, info: Info, kept: list[Episode]) -> list[Episode]:
    """Encode what `not_encoded` names, one file an episode, with LeRobot's default settings.

    Also notes in `info` what the videos are like, if it does not say so yet.

    Returns:
        The episodes, with rows that name their videos.
    """
    done: list[Episode] = []
    for episode in kept:
        for key in not_encoded(info, episode):
            place = _next_place(info, key, done)
            path = info.video_path(key, *place)
            images = root / DEFAULT_IMAGE_PATH.format(
                image_key=key, episode_index=episode.index, frame_index=0
            )
            with replacing(root / path) as new:
                encode_video_frames(images.parent, new, info.raw["fps"], overwrite=True)
            duration = get_video_duration_in_s(root / path)
            _note_video(info, key, root / path)
            episode = _with_video(episode, key, place, VideoSpan(path, 0.0, duration))
        done.append(episode)
    return done


def _next_place(info: Info, key: str, done: list[Episode]) -> tuple[int, int]:
    """Chunk and file behind those of the episodes before."""
    if not done:
        return 0, 0
    row = done[-1].row
    chunk, file = (row.column(f"videos/{key}/{name}")[0].as_py() for name in ("chunk_index", "file_index"))
    following: tuple[int, int] = update_chunk_file_indices(chunk, file, info.raw["chunks_size"])
    return following


def _with_video(episode: Episode, key: str, place: tuple[int, int], span: VideoSpan) -> Episode:
    values = {
        "chunk_index": place[0],
        "file_index": place[1],
        "from_timestamp": span.from_s,
        "to_timestamp": span.to_s,
    }
    row = episode.row
    for name, value in values.items():
        column = f"videos/{key}/{name}"
        if column in row.column_names:
            row = row.drop_columns([column])
        row = row.append_column(column, pa.array([value]))
    return replace(episode, row=row, videos={**episode.videos, key: span})


def _note_video(info: Info, key: str, path: Path) -> None:
    feature = info.raw["features"][key]
    if not feature.get("info"):
        feature["info"] = get_video_info(path, video_encoder=rgb_encoder_defaults())
