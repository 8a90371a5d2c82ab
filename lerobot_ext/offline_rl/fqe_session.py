# SPDX-License-Identifier: Apache-2.0
"""Ranks the checkpoints of a run: loads each, asks what it would do at every logged state, fits a critic.

Legend: `N` frames that are looked at, `H` actions executed of a chunk, `A` action width, `D` features.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_PREFIX, OBS_STATE
from numpy.typing import NDArray
from torch import Tensor

from lerobot_ext.cli.command import CommandError

from .bounds import ValueBounds, value_bounds
from .chunks import chunk_targets, hold_last
from .fqe import EvaluationData, EvaluationOptions, fitted_q_evaluation
from .labels import Episodes, read_episodes
from .policy import LearnsFromLogs

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from lerobot_ext.evaluation.loading import Loaded

BEST = "best"
_BATCH = 64


@dataclass(frozen=True)
class Run:
    """A training's output folder.

    Args:
        folder (`Path`): Of the run.
        checkpoints (`list[Path]`): `checkpoints/NUMBER`, by rising number.
        dataset_words (`list[str]`): `--dataset.…` options of the training.
    """

    folder: Path
    checkpoints: list[Path]
    dataset_words: list[str]


@dataclass(frozen=True)
class Settings:
    """What the user asked for; None means as the policy was trained."""

    steps: int = 2000
    members: int = 4
    seed: int = 0
    every: int = 1
    discount: float | None = None
    reward_source: str | None = None
    terminal_mode: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Row:
    """One checkpoint: see `fqe.Evaluation`."""

    checkpoint: str
    value: float
    spread: float
    error: float
    best: bool = False


@dataclass(frozen=True)
class Ranking:
    """All checkpoints of a run.

    Args:
        rows (`list[Row]`): By rising step.
        starts (`int`): First states that were valued.
        notes (`list[str]`): What to know before believing it.
    """

    rows: list[Row]
    starts: int
    notes: list[str] = field(default_factory=list)


def find_run(folder: Path) -> Run:
    """A run by its folder.

    Raises:
        CommandError: There are no checkpoints in it, or no training configuration in them.
    """
    found = sorted(
        (path for path in (folder / "checkpoints").glob("*") if path.name.isdigit() and path.is_dir()),
        key=lambda path: int(path.name),
    )
    if not found:
        raise CommandError(
            f"{folder} holds no checkpoints/NUMBER", "name the --output_dir of a lerobot-train run"
        )
    config = found[-1] / "pretrained_model" / "train_config.json"
    try:
        dataset = json.loads(config.read_text(encoding="utf-8"))["dataset"]
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(
            f"{config} cannot be read ({type(error).__name__})",
            "say --dataset.repo_id=… and keep the run's folder as lerobot-train wrote it",
        ) from error
    known = {"repo_id", "root", "revision", "eval_split"}
    words = [f"--dataset.{key}={value}" for key, value in dataset.items() if key in known and value]
    if dataset.get("episodes"):
        words.append(f"--dataset.episodes={json.dumps(dataset['episodes'])}")
    return Run(folder, found, words)


def rank(run: Run, words: Sequence[str], settings: Settings, step: Callable[[], object]) -> Ranking:
    """Value every checkpoint of a run.

    Args:
        run (`Run`): Which.
        words (`Sequence[str]`): `--dataset.…` options that win over the training's.
        settings (`Settings`): How.
        step (`Callable`): Called after each checkpoint.

    Raises:
        CommandError: The dataset has no rewards, or a policy cannot be valued.
    """
    from lerobot_ext.evaluation.episodes import held_out
    from lerobot_ext.evaluation.loading import load_policy, open_dataset, read_dataset_options, read_metadata

    given = {word.partition("=")[0] for word in words}
    options = read_dataset_options(
        [word for word in run.dataset_words if word.partition("=")[0] not in given] + list(words)
    )
    meta = read_metadata(options)
    everything = list(range(meta.total_episodes)) if options.episodes is None else sorted(options.episodes)
    spared = held_out(everything, meta.episodes["tasks"], options.eval_split or 0.0)
    dataset = open_dataset(options, options.episodes)
    episodes = read_episodes(dataset.meta)
    if episodes is None:
        raise CommandError(
            f"the frames of {options.repo_id} cannot be read", "give --dataset.root of a dataset on this disk"
        )
    logs = Logs(dataset, episodes, spared or everything)
    rows, notes = [], _notes(spared)
    overrides = [f"--device={settings.device}"] if settings.device else []
    for checkpoint in run.checkpoints:
        loaded = load_policy(str(checkpoint / "pretrained_model"), dataset.meta.features, overrides)
        try:
            found = logs.evaluate(loaded, settings, notes)
        except ValueError as error:
            raise CommandError(f"{checkpoint.name}: {error}", "see docs/offline_rl.md") from error
        rows.append(Row(checkpoint.name, found.value, found.spread, found.error))
        step()
    best = int(np.argmax([row.value for row in rows]))
    rows = [Row(r.checkpoint, r.value, r.spread, r.error, n == best) for n, r in enumerate(rows)]
    return Ranking(rows, len(logs.start_rows), notes)


def _notes(spared: Sequence[int]) -> list[str]:
    if spared:
        return []
    return [
        "No episodes were held out: values are of states that the policies were trained on. Train with "
        "--dataset.eval_split=0.1 for episodes that they have never seen."
    ]


class Logs:
    """A dataset as fitted Q evaluation reads it.

    Args:
        dataset (`LeRobotDataset`): Single frames.
        episodes (`Episodes`): Its labels.
        valued (`Sequence[int]`): Episodes whose first states are valued.
    """

    def __init__(self, dataset: LeRobotDataset, episodes: Episodes, valued: Sequence[int]) -> None:
        self.dataset, self.episodes = dataset, episodes
        columns = dataset.hf_dataset.data
        self.index = np.asarray(columns.column("index").to_pylist())
        self.episode = np.asarray(columns.column("episode_index").to_pylist())
        self.offset = self.index - episodes.start[self.episode]
        self.start_rows = np.flatnonzero((self.offset == 0) & np.isin(self.episode, valued))

    def evaluate(self, loaded: Loaded, settings: Settings, notes: list[str]) -> Any:
        """Value one checkpoint.

        Raises:
            ValueError: The labels it needs are missing, or `every` does not suit it.
        """
        rules = _rules(loaded.config, settings)
        horizon = int(getattr(loaded.config, "n_action_steps", 1))
        if horizon % settings.every:
            raise ValueError(f"--every {settings.every} does not divide n_action_steps ({horizon}).")
        rows = np.flatnonzero(self.offset % settings.every == 0)
        features, said, actions = self._ask(loaded, rows, horizon, notes)
        terminal = self.episodes.terminal(rules["terminal_mode"])
        rewards = self.episodes.rewards_by(rules["reward_source"])
        present = [number for number, found in enumerate(rewards) if len(found)]
        bounds = value_bounds([rewards[n] for n in present], terminal[present], rules["discount"])
        data = self._data(rows, features, said, actions, terminal, rewards, rules["discount"], horizon)
        options = EvaluationOptions(steps=settings.steps, members=settings.members, seed=settings.seed)
        return fitted_q_evaluation(data, ValueBounds(*bounds), options)

    def _ask(
        self, loaded: Loaded, rows: NDArray[np.int64], horizon: int, notes: list[str]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, D), the policy's chunks (N, H * A) and the logged actions (N, A), normalised."""
        features, said, logged = [], [], []
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(_frames(self.dataset, loaded), rows.tolist()), batch_size=_BATCH
        )
        policy = loaded.policy
        with torch.inference_mode():
            for raw in loader:
                batch = dict(loaded.preprocessor(raw))
                logged.append(batch.pop(ACTION).float().cpu())
                policy.reset()
                chunk = policy.predict_action_chunk(dict(batch))
                said.append(chunk[:, :horizon].flatten(1).float().cpu())
                features.append(_features(policy, batch, notes).float().cpu())
        # Out of inference mode, so that the critic may be trained on them.
        return tuple(torch.cat(parts).clone() for parts in (features, said, logged))  # type: ignore[return-value]

    def _data(
        self,
        rows: NDArray[np.int64],
        features: Tensor,
        said: Tensor,
        actions: Tensor,
        terminal: NDArray[np.bool_],
        rewards: list[NDArray[np.float64]],
        discount: float,
        horizon: int,
    ) -> EvaluationData:
        place = np.full(len(self.index), -1)
        place[rows] = np.arange(len(rows))
        ends = (self.episodes.end - self.episodes.start)[self.episode[rows]]  # (N,) lengths of their episodes
        steps = self.offset[rows][:, None] + np.arange(horizon)  # (N, H)
        valid = torch.from_numpy(steps < ends[:, None])
        inside = np.minimum(steps, ends[:, None] - 1)
        earned = np.stack([rewards[e][t] for e, t in zip(self.episode[rows], inside, strict=True)])
        every_action = self._every_action(actions, rows)
        chunk = every_action[torch.from_numpy(rows[:, None] + inside - self.offset[rows][:, None])]
        following = rows + horizon
        at_end = self.offset[rows] + horizon >= ends
        following = np.where(at_end, rows, np.minimum(following, len(place) - 1))
        targets = chunk_targets(
            torch.from_numpy(earned).float(),
            valid,
            torch.from_numpy(at_end),
            torch.from_numpy(terminal[self.episode[rows]]),
            discount,
        )
        after, starts = torch.from_numpy(place[following]), torch.from_numpy(place[self.start_rows])
        return EvaluationData(
            features=features,
            chunks=hold_last(chunk, valid).flatten(1),
            targets=targets,
            next_features=features[after],
            next_chunks=said[after],
            start_features=features[starts],
            start_chunks=said[starts],
        )

    def _every_action(self, actions: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """(frames, A) normalised actions of all frames, of which only `rows` went through the processor.

        The normaliser is affine for each number, so two of its points give it for all.
        """
        if len(rows) == len(self.index):
            return actions
        column = self.dataset.hf_dataset.data.column(ACTION).to_pylist()
        raw = torch.tensor(np.asarray(column, dtype=np.float64)).reshape(len(self.index), -1)
        seen = raw[torch.from_numpy(rows)]
        low, high = seen.argmin(0), seen.argmax(0)
        width = torch.arange(raw.shape[1])
        span = seen[high, width] - seen[low, width]
        here, there = actions[low, width].double(), actions[high, width].double()
        slope = torch.where(span > 0, (there - here) / span.clamp_min(1e-12), 0.0)
        return (here + (raw - seen[low, width]) * slope).float()


def _frames(dataset: LeRobotDataset, loaded: Loaded) -> LeRobotDataset:
    """Single frames; for a policy of ours over one that looks back, the frames around each as in training.

    Raises:
        ValueError: A policy of LeRobot's looks back, which it does by remembering what it was shown.
    """
    from lerobot.datasets.factory import resolve_delta_timestamps
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    config = loaded.config
    if getattr(config, "n_obs_steps", 1) > 1:
        raise ValueError(f"{config.type} looks at several frames; fqe asks for actions frame by frame.")
    if not isinstance(loaded.policy, LearnsFromLogs) or min(config.observation_delta_indices) >= 0:
        return dataset
    wanted = resolve_delta_timestamps(config, dataset.meta) or {}
    return LeRobotDataset(
        dataset.repo_id,
        root=dataset.root,
        episodes=dataset.episodes,
        delta_timestamps={key: at for key, at in wanted.items() if key.startswith(OBS_PREFIX)},
    )


def _rules(config: Any, settings: Settings) -> dict[str, Any]:
    """Discount, reward source and terminal mode: asked for, else the policy's, else the usual ones."""
    usual = {"discount": 0.99, "reward_source": "next.reward", "terminal_mode": "auto"}
    asked = {name: getattr(settings, name) for name in usual}
    return {
        name: getattr(config, name, value) if asked[name] is None else asked[name]
        for name, value in usual.items()
    }


def _features(policy: Any, batch: dict[str, Any], notes: list[str]) -> Tensor:
    """What the critic sees of a state: the policy's own features, else its vectors.

    Raises:
        ValueError: There is neither.
    """
    own = getattr(policy, "observation_features", None)
    if own is not None:
        made: Tensor = own(batch)
        return made
    vectors = [batch[key] for key in (OBS_STATE, OBS_ENV_STATE) if isinstance(batch.get(key), Tensor)]
    if not vectors:
        raise ValueError(
            f"{policy.name} sees pictures alone and has no `observation_features`; fqe cannot tell "
            "states apart."
        )
    note = (
        f"{policy.name} has no `observation_features`: the critic sees joints and environment, no pictures."
    )
    if policy.config.image_features and note not in notes:
        notes.append(note)
    return torch.cat(vectors, dim=-1)


def write(run: Run, ranking: Ranking, *, point: bool) -> None:
    """Write `fqe.json` into the run, and let `checkpoints/best` be the best one."""
    text = json.dumps(asdict(ranking), indent=2) + "\n"
    (run.folder / "fqe.json").write_text(text, encoding="utf-8")
    if point:
        best = next(row.checkpoint for row in ranking.rows if row.best)
        point_to_best(run.folder / "checkpoints" / best)


def point_to_best(checkpoint: Path) -> None:
    """Let `best` beside a checkpoint stand for it: a link, or linked or copied files where there is none.

    Raises:
        CommandError: `best` is a folder that is not ours.
    """
    from lerobot_ext.training.last_checkpoint import POINTER, _fill

    place = checkpoint.parent / BEST
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        if not (place / POINTER).is_file():
            raise CommandError(f"{place} is a folder of somebody else's", "move it away")
        shutil.rmtree(place)
    try:
        place.symlink_to(checkpoint.name, target_is_directory=True)
    except OSError:  # no links on this disk, or not for this user
        os.makedirs(place)
        _fill(place, checkpoint)
