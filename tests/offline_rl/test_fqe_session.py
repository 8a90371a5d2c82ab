# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext fqe` on the corridor: its values are those of walking, whatever the stride."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_policy_q_chunking import QChunkingConfig
from q_chunking_over import SMALL, build, hierarchical_diffusion
from rewarded import write_rewarded

from lerobot_ext.cli.command import CommandError
from lerobot_ext.offline_rl import fqe_session
from lerobot_ext.offline_rl.fqe_session import Logs, Ranking, Row, Settings, find_run, point_to_best, write
from lerobot_ext.offline_rl.labels import read_episodes
from lerobot_ext.offline_rl.toy import Corridor, CorridorLogs
from lerobot_ext.testing.contracts.synthetic import synthetic_features

CORRIDOR = Corridor(cells=5)


class Frames:
    """The corridor's logs as an opened dataset: a column store and single frames."""

    def __init__(self, logs: CorridorLogs) -> None:
        joined = {name: np.concatenate([walk[name] for walk in logs.walks]) for name in logs.walks[0]}
        self.states = torch.from_numpy(CORRIDOR.observe(joined["cell"])).float()
        self.actions = torch.from_numpy(joined["action"]).float()[:, None]
        numbers = np.repeat(np.arange(len(logs.walks)), logs.lengths)
        columns = {"index": np.arange(len(numbers)), "episode_index": numbers, "action": joined["action"]}
        self.hf_dataset = SimpleNamespace(data=pa.table(columns))

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, row: int):
        return {"observation.state": self.states[row], "action": self.actions[row]}


class Constant:
    """Always goes one way."""

    name = "constant"
    config = SimpleNamespace(image_features={})

    def __init__(self, move: float) -> None:
        self.move = move

    def reset(self) -> None:
        pass

    def predict_action_chunk(self, batch):
        return torch.full((len(batch["observation.state"]), 4, 1), self.move)


def value(policy, every=1, **config):
    logs = CorridorLogs.record(CORRIDOR, walks=250, seed=1)
    starts = [number for number, walk in enumerate(logs.walks)]
    loaded = SimpleNamespace(
        policy=policy,
        config=SimpleNamespace(n_action_steps=2, discount=CORRIDOR.discount, type="constant", **config),
        # Half of it, as a normaliser would: what the critic sees of logged and of said actions must agree.
        preprocessor=lambda batch: {**batch, "action": batch["action"] * 0.5 + 0.1},
    )
    settings = Settings(steps=400, members=2, every=every)
    return Logs(Frames(logs), logs.episodes(), starts).evaluate(loaded, settings, [])


@pytest.mark.parametrize("every", [1, 2])
def test_the_better_policy_is_worth_more(every):
    right, left = (value(Constant(move * 0.5 + 0.1), every).value for move in (0.8, -0.8))
    assert right == pytest.approx(CORRIDOR.returns(lambda cell: 1.0), abs=0.12)
    assert left < 0.25 < right


def test_what_cannot_be_valued_is_refused():
    with pytest.raises(ValueError, match="--every 3 does not divide"):
        value(Constant(1.0), every=3)
    with pytest.raises(ValueError, match="several frames"):
        value(Constant(1.0), n_obs_steps=2)


def test_a_policy_over_one_that_looks_back_is_shown_what_lies_before(tmp_path, monkeypatch):
    write_rewarded(tmp_path / "data", [6, 5], [True, False])
    dataset = LeRobotDataset("user/data", root=tmp_path / "data")
    shapes = synthetic_features(3, 3, (), 0)
    config = QChunkingConfig(extraction="best_of_n", **SMALL, **shapes, actor=hierarchical_diffusion())
    policy, seen = build(config), []

    def chunk(batch):
        seen.append(policy._window(batch)["observation.state"])
        return torch.zeros(len(seen[-1]), 4, 3)

    monkeypatch.setattr(policy, "predict_action_chunk", chunk)
    loaded = SimpleNamespace(policy=policy, config=config, preprocessor=dict)
    Logs(dataset, read_episodes(dataset.meta), [0, 1]).evaluate(loaded, Settings(steps=1, members=2), [])
    states = torch.stack([dataset[row]["observation.state"] for row in range(11)])
    frames = torch.tensor(policy._borrowed.acting)
    assert frames.min() < 0
    first, last = (torch.tensor([0] * 6 + [6] * 5), torch.tensor([5] * 6 + [10] * 5))
    wanted = (torch.arange(11)[:, None] + frames).clamp(first[:, None], last[:, None])
    torch.testing.assert_close(torch.cat(seen), states[wanted])


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(CommandError, match="no checkpoints/NUMBER"):
        find_run(tmp_path)
    (tmp_path / "checkpoints" / "000010").mkdir(parents=True)
    with pytest.raises(CommandError, match=r"train_config\.json"):
        find_run(tmp_path)


@pytest.fixture
def run(tmp_path):
    for step in ("000010", "000020", "000100"):
        folder = tmp_path / "checkpoints" / step / "pretrained_model"
        folder.mkdir(parents=True)
        (folder / "step").write_text(step)
    dataset = {"repo_id": "a/b", "root": "/data", "episodes": [0, 2], "eval_split": 0.1, "video_backend": "x"}
    (folder / "train_config.json").write_text(json.dumps({"dataset": dataset}))
    return find_run(tmp_path)


def test_a_run_is_its_checkpoints_in_order_and_its_dataset(run):
    assert [path.name for path in run.checkpoints] == ["000010", "000020", "000100"]
    assert set(run.dataset_words) == {
        "--dataset.repo_id=a/b",
        "--dataset.root=/data",
        "--dataset.eval_split=0.1",
        "--dataset.episodes=[0, 2]",
    }


@pytest.mark.parametrize("links", [True, False])
def test_best_stands_for_the_best_checkpoint_and_moves_with_it(run, links, monkeypatch):
    if not links:
        refuse = lambda *_, **__: (_ for _ in ()).throw(PermissionError("no links here"))  # noqa: E731
        monkeypatch.setattr(fqe_session.Path, "symlink_to", refuse)
    best = run.folder / "checkpoints" / "best"
    for step in ("000020", "000010"):
        rows = [Row(path.name, 1.0, 0.0, 0.0, path.name == step) for path in run.checkpoints]
        write(run, Ranking(rows, 3), point=True)
        assert (best / "pretrained_model" / "step").read_text() == step
        assert best.is_symlink() is links
    assert json.loads((run.folder / "fqe.json").read_text())["rows"][0]["best"] is True
    assert [path.name for path in find_run(run.folder).checkpoints] == ["000010", "000020", "000100"]


def test_a_folder_of_somebody_else_is_left_alone(run):
    best = run.folder / "checkpoints" / "best"
    best.mkdir()
    (best / "mine").write_text("")
    with pytest.raises(CommandError, match="somebody else"):
        point_to_best(run.checkpoints[0])
    assert (best / "mine").exists()
