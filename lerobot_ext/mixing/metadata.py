# SPDX-License-Identifier: Apache-2.0
"""The metadata of a mix: LeRobot's own class, filled from the parts instead of from files."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from lerobot.datasets.dataset_metadata import CODEBASE_VERSION, LeRobotDatasetMetadata
from lerobot.datasets.utils import DatasetInfo

from lerobot_ext.mixing.survey import Mix, Part


class MixedMetadata(LeRobotDatasetMetadata):  # type: ignore[misc]
    """What a trainer, a policy, processors and model cards ask of a dataset's metadata, for a mix.

    Episodes and frames are numbered through, part after part, the chosen episodes only. `mixture` lists the
    parts, `spec` is what the file says, `found` what the datasets had before a training chose episodes.

    Args:
        mix (`Mix`): Without problems.
        stats (`dict`): Of what is drawn.
    """

    def __init__(self, mix: Mix, stats: dict[str, Any]) -> None:
        lengths = np.concatenate([part.lengths for part in mix.parts])
        ends = np.cumsum(lengths)
        self.repo_id = mix.spec.name
        self.repo_type = "dataset"
        self.revision = None
        self.root = mix.path.resolve().parent
        self.info = DatasetInfo(
            codebase_version=CODEBASE_VERSION,
            fps=mix.parts[0].meta.fps,
            features={name: dict(feature) for name, feature in mix.features.items()},
            total_episodes=len(lengths),
            total_frames=int(ends[-1]),
            total_tasks=len(mix.tasks),
            robot_type=mix.robot_type,
            splits={"train": f"0:{len(lengths)}"},
        )
        self.tasks = pd.DataFrame(
            {"task_index": range(len(mix.tasks))}, index=pd.Index(mix.tasks, name="task")
        )
        self.episodes = _episodes(mix.parts, ends)
        self.stats = stats
        self.spec = mix.spec
        self.found = mix.found
        self.mixture = describe(mix)
        self._parts = mix.parts
        # What stock's writing half expects to find; a mix is never written.
        self._requested_root = None
        self._pq_writer = None
        self.latest_episode = None
        self._metadata_buffer: list[dict[str, Any]] = []
        self._metadata_buffer_size = 0
        self._finalized = True

    @property
    def parts(self) -> list[Part]:
        """The datasets, in the order in which episodes and frames are numbered."""
        return list(self._parts)

    def _load_metadata(self) -> None:
        """There are no files to load from."""

    def get_data_file_path(self, ep_index: int) -> Path:
        """Where the columns of an episode are; absolute, since each part has a folder of its own.

        Raises:
            IndexError: There is no such episode.
        """
        part, episode = self._place(ep_index)
        return Path(part.meta.root, part.meta.get_data_file_path(episode))

    def get_video_file_path(self, ep_index: int, vid_key: str) -> Path:
        """Where a video of an episode is; absolute.

        Raises:
            IndexError: There is no such episode.
        """
        part, episode = self._place(ep_index)
        return Path(part.meta.root, part.meta.get_video_file_path(episode, part.names[vid_key]))

    def _place(self, ep_index: int) -> tuple[Part, int]:
        rest = ep_index
        for part in self._parts:
            if 0 <= rest < len(part.episodes):
                return part, int(part.episodes[rest])
            rest -= len(part.episodes)
        raise IndexError(f"episode {ep_index} is out of range: the mix has {self.total_episodes}")


def describe(mix: Mix) -> list[dict[str, Any]]:
    """Plain facts of each part: for model cards, logs and the copy beside a checkpoint."""
    return [
        {
            "repo_id": part.spec.repo_id,
            "revision": str(part.meta.revision) if part.meta.revision else None,
            "episodes": len(part.episodes),
            "frames": part.frames,
            "share": round(float(share), 6),
            "robot_type": part.meta.robot_type,
            "tasks": [mix.tasks[number] for number in dict.fromkeys(part.task_ids)],
        }
        for part, share in zip(mix.parts, mix.shares(), strict=True)
    ]


def _episodes(parts: list[Part], ends: Any) -> datasets.Dataset:
    """The table of episodes, with the columns of LeRobot's that hold without files."""
    rows: dict[str, list[Any]] = {"tasks": [], "dataset_index": []}
    for index, part in enumerate(parts):
        rows["tasks"] += [
            _texts(part, texts) for texts in part.meta.episodes[part.episodes.tolist()]["tasks"]
        ]
        rows["dataset_index"] += [index] * len(part.episodes)
    starts = np.concatenate([[0], ends[:-1]])
    return datasets.Dataset.from_dict(
        {
            "episode_index": list(range(len(ends))),
            "tasks": rows["tasks"],
            "length": np.diff(ends, prepend=0).tolist(),
            "dataset_from_index": starts.tolist(),
            "dataset_to_index": ends.tolist(),
            "dataset_index": rows["dataset_index"],
        }
    )


def _texts(part: Part, texts: list[str]) -> list[str]:
    """An episode's tasks as the mix calls them."""
    if part.spec.task is not None:
        return [part.spec.task]
    return [f"{part.spec.task_prefix or ''}{text}" for text in texts]
