# SPDX-License-Identifier: Apache-2.0
"""What a training run says while it runs: losses at each log step, and evaluations in the environment.

`lerobot-train` prints its figures and keeps none of them. The observer of its loop (`training/loop.py`)
tells the exact numbers; nothing is parsed.
"""

import math
from dataclasses import dataclass, field
from typing import Any

MAX_POINTS = 1000


@dataclass(frozen=True)
class Evaluation:
    """Episodes of one task, run with the policy.

    Args:
        task (`str`): The environment's name of it.
        successes (`int`), episodes (`int`): How many succeeded, of how many.
        step (`int`, *optional*): Training step of the policy; `None` when not known.
        mean_reward (`float`, *optional*): Mean of the summed rewards; `None` when it is no number.
    """

    task: str
    successes: int
    episodes: int
    step: int | None = None
    mean_reward: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is left out."""
        values = {
            "task": self.task,
            "step": self.step,
            "successes": self.successes,
            "episodes": self.episodes,
            "mean_reward": self.mean_reward,
        }
        return {key: value for key, value in values.items() if value is not None}

    @staticmethod
    def from_json(raw: dict[str, Any]) -> "Evaluation":
        """What `to_json` gave.

        Raises:
            ValueError: The counts are impossible.
            KeyError, TypeError: A field is missing or of another kind.
        """
        successes, episodes = int(raw["successes"]), int(raw["episodes"])
        if not 0 <= successes <= episodes or episodes == 0:
            raise ValueError(f"{successes} successes of {episodes} episodes are impossible")
        step, reward = raw.get("step"), raw.get("mean_reward")
        return Evaluation(
            task=str(raw["task"]),
            successes=successes,
            episodes=episodes,
            step=None if step is None else int(step),
            mean_reward=None if reward is None else float(reward),
        )


@dataclass
class TrainingHistory:
    """The course of one training.

    Args:
        loss (`list[tuple[int, float]]`): Step and mean loss since the log step before; only finite ones.
        evaluations (`list[Evaluation]`): In the order in which they ran.
    """

    loss: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    def add_loss(self, step: int, loss: float) -> None:
        """Note a loss; of a step that was there already (a resumed run) the newer one counts."""
        while self.loss and self.loss[-1][0] >= step:
            self.loss.pop()
        if math.isfinite(loss):
            self.loss.append((step, loss))

    def add_evaluations(self, evaluations: list[Evaluation]) -> None:
        """Note evaluations; those of the same or a later step are replaced, as a resumed run repeats them."""
        steps = [entry.step for entry in evaluations if entry.step is not None]
        if steps:
            first = min(steps)
            self.evaluations = [entry for entry in self.evaluations if (entry.step or 0) < first]
        self.evaluations.extend(evaluations)

    def until(self, step: int) -> "TrainingHistory":
        """What was known at a step."""
        return TrainingHistory(
            [point for point in self.loss if point[0] <= step],
            [entry for entry in self.evaluations if entry.step is None or entry.step <= step],
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, with at most `MAX_POINTS` losses: evenly chosen, the last one among them."""
        stride = math.ceil(len(self.loss) / MAX_POINTS) or 1
        kept = self.loss[::-1][::stride][::-1]
        return {
            "loss": [[step, float(f"{loss:.6g}")] for step, loss in kept],
            "evaluations": [entry.to_json() for entry in self.evaluations],
        }

    @staticmethod
    def from_json(raw: dict[str, Any]) -> "TrainingHistory":
        """What `to_json` gave; what is not of its form is refused.

        Raises:
            ValueError: A point or an evaluation is not of its form.
        """
        try:
            history = TrainingHistory()
            for step, loss in raw.get("loss", []):
                history.add_loss(int(step), float(loss))
            history.evaluations = [Evaluation.from_json(entry) for entry in raw.get("evaluations", [])]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"`history` is not of its form ({type(error).__name__}: {error})") from None
        return history


def evaluations_of(info: dict[str, Any], step: int | None = None) -> list[Evaluation]:
    """The evaluations in LeRobot's result of `eval_policy_all`, which is also what `eval_info.json` holds.

    Raises:
        ValueError: It is not of that form, or holds no episode.
    """
    found: dict[str, list[tuple[bool, float]]] = {}
    try:
        for task in info["per_task"]:
            name = str(task["task_group"])
            metrics = task["metrics"]
            pairs = zip(metrics["successes"], metrics["sum_rewards"], strict=True)
            found.setdefault(name, []).extend((bool(success), float(reward)) for success, reward in pairs)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"not a result of lerobot-eval: {type(error).__name__}: {error}; it needs `per_task` with "
            "`task_group` and `metrics.successes`, `metrics.sum_rewards`"
        ) from None
    if not any(found.values()):
        raise ValueError("it holds no episode; run lerobot-eval with --eval.n_episodes above 0")
    return [_evaluation(name, episodes, step) for name, episodes in found.items() if episodes]


def _evaluation(name: str, episodes: list[tuple[bool, float]], step: int | None) -> Evaluation:
    mean = sum(reward for _, reward in episodes) / len(episodes)
    return Evaluation(
        task=name,
        successes=sum(success for success, _ in episodes),
        episodes=len(episodes),
        step=step,
        mean_reward=float(f"{mean:.6g}") if math.isfinite(mean) else None,
    )
