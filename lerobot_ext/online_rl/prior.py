# SPDX-License-Identifier: Apache-2.0
"""The prior data's half of each batch, in the order of LeRobot's own sampler, from any update on.

The sampler is the trainer's: what acts on it acts here too, such as a memory pool that holds some episodes
at a time (`LEROBOT_EXT_POOL`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lerobot.datasets.sampler import EpisodeAwareSampler
from lerobot.utils.collate import lerobot_collate_fn

from .mixing import prior_before, prior_count


class PriorBatches(torch.utils.data.Sampler[list[int]]):
    """The frames of each update, from one update on without end.

    Args:
        sampler (`EpisodeAwareSampler`): Shuffling.
        first_update (`int`): Updates that are done.
        batch_size (`int`), share (`float`): Of the run.
    """

    def __init__(
        self, sampler: EpisodeAwareSampler, first_update: int, batch_size: int, share: float
    ) -> None:
        self.sampler, self.first_update, self.batch_size, self.share = (
            sampler,
            first_update,
            batch_size,
            share,
        )

    def __iter__(self) -> Iterator[list[int]]:
        done = prior_before(self.first_update, self.batch_size, self.share)
        epoch, start = divmod(done, len(self.sampler))
        self.sampler.load_state_dict({"epoch": epoch, "start_index": start})
        frames = self._frames()
        update = self.first_update
        while True:
            count = prior_count(update, self.batch_size, self.share)
            if count:
                yield [next(frames) for _ in range(count)]
            update += 1

    def _frames(self) -> Iterator[int]:
        while True:
            yield from self.sampler


def prior_batches(
    dataset: Any,
    config: Any,
    first_update: int,
    *,
    batch_size: int,
    share: float,
    seed: int,
    num_workers: int,
    pin_memory: bool = False,
) -> Iterator[dict[str, Any]]:
    """Batches of the prior data, one for each update that has any.

    Args:
        dataset (`LeRobotDataset`): With the policy's windows.
        config: The policy's configuration.
        first_update (`int`): Updates that are done.
        batch_size (`int`): Of the whole update, of which `share` comes from here.
        share (`float`): In (0, 1].
        seed (`int`): Of the order.
        num_workers (`int`): Processes that read.
        pin_memory (`bool`, *optional*): For a GPU.
    """
    sampler = EpisodeAwareSampler(
        dataset.meta.episodes["dataset_from_index"],
        dataset.meta.episodes["dataset_to_index"],
        episode_indices_to_use=dataset.episodes,
        drop_n_last_frames=getattr(config, "drop_n_last_frames", 0),
        shuffle=True,
        seed=seed,
        absolute_to_relative_idx=dataset.absolute_to_relative_idx,
    )
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=PriorBatches(sampler, first_update, batch_size, share),
        num_workers=num_workers,
        pin_memory=pin_memory,
        multiprocessing_context="spawn" if num_workers else None,
        collate_fn=lerobot_collate_fn if dataset.meta.has_language_columns else None,
    )
    for batch in loader:
        for key in dataset.meta.camera_keys:
            if key in batch and batch[key].dtype == torch.uint8:
                batch[key] = batch[key].to(dtype=torch.float32) / 255.0
        yield batch
