# SPDX-License-Identifier: Apache-2.0
"""What predicts actions without learning anything: the figures that a policy has to beat.

All of them see what the policy sees at the same frame, and say the same action for a whole chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from lerobot_ext.evaluation.errors import EpisodeErrors, Floats

if TYPE_CHECKING:
    from lerobot_ext.evaluation.episodes import Episode, Recordings

HOLD: Final = "hold the present state"
PREVIOUS: Final = "repeat the previous action"
MEAN: Final = "mean action of the dataset"


def baselines(recordings: Recordings) -> dict[str, Callable[[Episode], Floats]]:
    """The baselines that a dataset allows, by name: each gives (T, A), its action at every frame.

    Holding the state needs a state that is the action's by names, or by width where there are no names.
    """
    found: dict[str, Callable[[Episode], Floats]] = {}
    if recordings.state_is_action:
        found[HOLD] = _hold
    found[PREVIOUS] = _previous
    mean = recordings.mean_action
    if mean is not None:
        found[MEAN] = lambda episode: np.broadcast_to(mean, episode.actions.shape)
    return found


def _hold(episode: Episode) -> Floats:
    assert episode.states is not None
    return episode.states


def _previous(episode: Episode) -> Floats:
    """NaN at the first frame, which has no previous action."""
    return np.concatenate([np.full_like(episode.actions[:1], np.nan), episode.actions[:-1]])


def errors_of_actions(
    episodes: Sequence[Episode], actions: Mapping[int, Floats] | Callable[[Episode], Floats]
) -> list[EpisodeErrors]:
    """Errors of one action a frame.

    Args:
        episodes (`Sequence[Episode]`): What was recorded.
        actions (`Mapping` or `Callable`): (T, A) by the episode's index, or of the episode.
    """
    get = actions if callable(actions) else lambda episode: actions[episode.index]
    return [
        EpisodeErrors((get(episode) - episode.actions)[:, None], tuple(episode.tasks)) for episode in episodes
    ]


def errors_of_chunks(
    episodes: Sequence[Episode], chunks: Mapping[int, Floats], every: int
) -> list[EpisodeErrors]:
    """Errors of chunks that begin at each `every`-th frame.

    Args:
        episodes (`Sequence[Episode]`): What was recorded.
        chunks (`Mapping[int, Floats]`): (K, H, A) by the episode's index; the first action of a chunk is for
            the frame at which it was predicted.
        every (`int`): Frames between two chunks.
    """
    return [
        EpisodeErrors(
            chunks[episode.index] - _recorded(episode, every, chunks[episode.index].shape[1]),
            tuple(episode.tasks[::every]),
        )
        for episode in episodes
    ]


def errors_of_constant_chunks(
    episodes: Sequence[Episode], baseline: Callable[[Episode], Floats], every: int, horizon: int
) -> list[EpisodeErrors]:
    """Errors of a baseline that says one action for a whole chunk."""
    return [
        EpisodeErrors(
            baseline(episode)[::every, None] - _recorded(episode, every, horizon),
            tuple(episode.tasks[::every]),
        )
        for episode in episodes
    ]


def _recorded(episode: Episode, every: int, horizon: int) -> Floats:
    """(K, H, A): the actions from each `every`-th frame on, NaN behind the end."""
    padded = np.concatenate([episode.actions, np.full((horizon, episode.actions.shape[1]), np.nan)])
    starts = np.arange(0, len(episode.actions), every)
    return padded[starts[:, None] + np.arange(horizon)]  # type: ignore[no-any-return]
