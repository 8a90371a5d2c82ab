# SPDX-License-Identifier: Apache-2.0
"""A corridor with continuous actions, small enough for value iteration: the ground truth for learners.

A walker stands in one of `n` cells and moves by the sign of its action (less than a third either way: it
stays). The last cell ends the episode and pays 1. Its logs are walks of mixed quality, cut off after
`max_steps`; the average action of such data goes nowhere, which is what cloning learns.

Legend: `B` batch, `H` chunk, `n` cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .labels import Episodes, episodes_from_columns

MOVES = (-1, 0, 1)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Corridor:
    """The decision process.

    Args:
        cells (`int`, *optional*, defaults to `6`): n; the walker starts in any but the last.
        max_steps (`int`, *optional*, defaults to `16`): Steps until a walk is cut off.
        discount (`float`, *optional*, defaults to `0.9`): γ.
    """

    cells: int = 6
    max_steps: int = 16
    discount: float = 0.9

    def step(self, cell: int, action: float) -> tuple[int, float, bool]:
        """The next cell, the reward, and whether the walk has reached the goal."""
        move = 0 if abs(action) < 1 / 3 else int(np.sign(action))
        following = min(max(cell + move, 0), self.cells - 1)
        reached = following == self.cells - 1
        return following, float(reached), reached

    def observe(self, cell: NDArray[np.int64] | int) -> Floats:
        """(..., n) the cell as a one-hot vector."""
        seen: Floats = np.eye(self.cells)[cell]
        return seen

    def optimal_values(self) -> Floats:
        """(n,) value of each cell under the best policy, by value iteration; the goal's is 0."""
        values: Floats = np.zeros(self.cells)
        for _ in range(10 * self.cells):
            values = np.array(
                [0.0 if cell == self.cells - 1 else self._best(cell, values) for cell in range(self.cells)]
            )
        return values

    def _best(self, cell: int, values: Floats) -> float:
        outcomes = [self.step(cell, move) for move in MOVES]
        return max(reward + self.discount * float(values[following]) for following, reward, _ in outcomes)

    def optimal_chunk_values(self, horizon: int) -> dict[tuple[int, tuple[int, ...]], float]:
        """Value of each cell and chunk of moves when the best policy goes on after the chunk."""
        values = self.optimal_values()
        found = {}
        for cell, chunk in product(range(self.cells - 1), product(MOVES, repeat=horizon)):
            here, total, factor = cell, 0.0, 1.0
            for move in chunk:
                here, reward, done = self.step(here, move)
                total += factor * reward
                factor *= self.discount
                if done:
                    break
            else:
                total += factor * values[here]
            found[cell, chunk] = total
        return found

    def walk(self, act: Callable[[int], float], start: int) -> dict[str, NDArray[Any]]:
        """One walk: `cell`, `action`, `reward`, `done` and `truncated` of each step."""
        rows: list[tuple[int, float, float, bool, bool]] = []
        cell, done = start, False
        while not done and len(rows) < self.max_steps:
            action = float(np.clip(act(cell), -1, 1))
            following, reward, done = self.step(cell, action)
            rows.append((cell, action, reward, done, not done and len(rows) + 1 == self.max_steps))
            cell = following
        columns = zip(*rows, strict=True)
        names = ("cell", "action", "reward", "done", "truncated")
        return {name: np.array(column) for name, column in zip(names, columns, strict=True)}

    def returns(self, act: Callable[[int], float]) -> float:
        """Mean discounted return of a policy over all starts."""
        walks = [self.walk(act, start)["reward"] for start in range(self.cells - 1)]
        return float(np.mean([sum(self.discount**k * r for k, r in enumerate(walk)) for walk in walks]))


@dataclass(frozen=True)
class CorridorLogs:
    """Logged walks, as batches in the shape that LeRobot gives them.

    Args:
        corridor (`Corridor`): Where they were walked.
        walks (`list`): As `Corridor.walk` gives them.
    """

    corridor: Corridor
    walks: list[dict[str, NDArray[Any]]]

    @classmethod
    def record(cls, corridor: Corridor, walks: int, seed: int, *, drift: float = 0.0) -> CorridorLogs:
        """Walk at random: actions uniform in [-1, 1], shifted by `drift`, from random starts."""
        rng = np.random.default_rng(seed)

        def act(_: int) -> float:
            return float(rng.uniform(-1, 1) + drift)

        return cls(
            corridor, [corridor.walk(act, int(rng.integers(corridor.cells - 1))) for _ in range(walks)]
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each walk."""
        return np.array([len(walk["cell"]) for walk in self.walks])

    def episodes(self) -> Episodes:
        """The walks as a policy knows its dataset's episodes."""
        lengths = self.lengths
        joined = {name: np.concatenate([walk[name] for walk in self.walks]) for name in self.walks[0]}
        return episodes_from_columns(
            {
                "index": np.arange(lengths.sum()),
                "episode_index": np.repeat(np.arange(len(lengths)), lengths),
                "next.reward": joined["reward"],
                "next.done": joined["done"] | joined["truncated"],
                "next.truncated": joined["truncated"],
                "next.success": joined["done"],
            }
        )

    def batch(self, index: NDArray[np.int64], horizon: int) -> dict[str, Any]:
        """Samples by their number, as the stock data loader makes them.

        Args:
            index (`NDArray`): (B,) frame numbers.
            horizon (`int`): H; observations are those at 0 and H.

        Returns:
            `dict`: `observation.state` (B, 2, n), `action` (B, H, 1), `next.reward` (B, H), their `_is_pad`
            masks, `index` and `episode_index` (B,).
        """
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        episode = np.searchsorted(starts, index, side="right") - 1
        first, last = starts[episode][:, None], starts[episode + 1][:, None] - 1
        joined = {name: np.concatenate([walk[name] for walk in self.walks]) for name in self.walks[0]}

        def window(offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], torch.Tensor]:
            frames = index[:, None] + offsets
            return frames.clip(first, last), torch.from_numpy(frames > last)

        seen, seen_pad = window(np.array([0, horizon]))
        done, done_pad = window(np.arange(horizon))
        return {
            "observation.state": torch.from_numpy(self.corridor.observe(joined["cell"][seen])).float(),
            "observation.state_is_pad": seen_pad,
            "action": torch.from_numpy(joined["action"][done])[..., None].float(),
            "action_is_pad": done_pad,
            "next.reward": torch.from_numpy(joined["reward"][done]).float(),
            "next.reward_is_pad": done_pad,
            "index": torch.from_numpy(index),
            "episode_index": torch.from_numpy(episode),
        }
