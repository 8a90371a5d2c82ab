# SPDX-License-Identifier: Apache-2.0
"""Two `lerobot-train` processes (gloo) with our comforts installed, and a run that they have to equal."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from stock_loop import LOOP, POLICY, train, write_dataset
from two_ranks import run_two_ranks

from lerobot_ext.training.metrics_file import read_metrics

pytestmark = pytest.mark.slow

# One action a chunk: no padding, so that the loss is a plain mean over the batch.
WORDS = [*POLICY, *LOOP, "--policy.chunk_size=1", "--policy.n_action_steps=1", "--log_freq=2"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The folder of both runs, and what the two ranks said."""
    folder = tmp_path_factory.mktemp("trainer")
    dataset = write_dataset(folder / "data")
    accumulate = ["--optimizer.type=accumulated_adamw", "--optimizer.accumulation=2"]
    one = ["--steps=2", "--batch_size=8", "--log_freq=1"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        train(monkeypatch, *dataset, *WORDS, *one, f"--output_dir={folder / 'one'}")
    many = [*dataset, *WORDS, *accumulate, "--steps=4", "--save_freq=3", f"--output_dir={folder / 'many'}"]
    return folder, run_two_ranks(folder, *many, real=True)


def weights(run_dir: Path, step: int) -> dict:
    return load_file(run_dir / f"checkpoints/{step:06d}/pretrained_model/model.safetensors")


def difference(one: dict, other: dict) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def test_two_ranks_that_accumulate_equal_one_large_batch(pair):
    folder, said = pair
    assert "accumulated_adamw steps on the mean gradient of 2 batches" in said
    assert difference(weights(folder / "many", 4), weights(folder / "one", 2)) < 1e-6


def test_rank_0_alone_writes_metrics_events_and_the_time_left(pair):
    folder, said = pair
    _, rows = read_metrics(folder / "many/metrics.csv")
    assert list(rows) == [2, 4]
    assert rows[4]["samples"] == 2 * 2 * 4
    assert len(list((folder / "many/tensorboard").iterdir())) == 1
    lines = [line for line in said.splitlines() if " loss:" in line]
    assert len(lines) == 2
    assert all(" eta:" in line for line in lines)


def test_two_ranks_resume_in_the_middle_of_an_accumulation(pair):
    folder, _ = pair
    whole = weights(folder / "many", 4)
    path = folder / "many/checkpoints/000003/pretrained_model/train_config.json"
    run_two_ranks(folder, f"--config_path={path}", "--resume=true")
    assert difference(whole, weights(folder / "many", 4)) < 1e-6
    assert list(read_metrics(folder / "many/metrics.csv")[1]) == [2, 4]
