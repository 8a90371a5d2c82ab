# SPDX-License-Identifier: Apache-2.0
"""Lets a resumed training go on with the data of its own epoch.

LeRobot's sampler resumes to the sample: it regenerates the epoch's permutation and goes on at the offset. But
accelerate calls `set_epoch` with the number of times *this process* has begun to iterate, 0 after a resume
(`accelerate/data_loader.py`, `DataLoaderShard.__iter__`), and that takes the sampler back to the first
epoch's order: whatever a run resumes after its first epoch, it goes on with the wrong permutation. Here the
epochs of this process count from the one that was resumed.
"""

from typing import Any

from lerobot.datasets.sampler import EpisodeAwareSampler

from lerobot_ext.patches import Patch

_patch = Patch(
    "frame sampler", lost="a run that is resumed after its first epoch repeats the first one's order"
)


def install() -> bool:
    """Put it in place, for all samplers of this process; whether it is in effect."""
    return _patch.install(
        {
            (EpisodeAwareSampler, "set_epoch"): _set_epoch,
            (EpisodeAwareSampler, "load_state_dict"): _load_state_dict,
        }
    )


def uninstall() -> None:
    """Give LeRobot its own code back."""
    _patch.uninstall()


def _set_epoch(self: EpisodeAwareSampler, epoch: int) -> None:
    """Stock's, counted from the epoch that was resumed."""
    _patch.stock("set_epoch")(self, getattr(self, "_resumed_epoch", 0) + epoch)


def _load_state_dict(self: EpisodeAwareSampler, state: dict[str, Any]) -> None:
    """Stock's; notes the epoch."""
    _patch.stock("load_state_dict")(self, state)
    self._resumed_epoch = state["epoch"]
