# SPDX-License-Identifier: Apache-2.0
"""The stock training loop, run in this process, and what it tells."""

import contextlib
import json
import logging
import math
import runpy
from pathlib import Path

import pytest
from stock_loop import LOOP, POLICY, train, write_dataset

from lerobot_ext import lerobot_window
from lerobot_ext.installing import install_command
from lerobot_ext.training import loop, record, time_left
from lerobot_ext.training.metrics_file import read_metrics


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", episodes=4)


@pytest.fixture
def script():
    from lerobot.scripts import lerobot_train

    loop.uninstall()  # a test before may have loaded all plugins
    yield lerobot_train
    loop.uninstall()


def test_metrics_and_events_survive_a_resume_with_each_step_once(
    dataset, script, tmp_path, monkeypatch, caplog
):
    loop.observe(record.CsvRecorder(), script)
    loop.observe(record.EventRecorder(), script)
    loop.observe(time_left.TimeLeft(), script)
    out = tmp_path / "out"
    held_out = ["--dataset.eval_split=0.25", "--eval_steps=3"]
    with caplog.at_level(logging.INFO):
        words = [*dataset, *POLICY, *LOOP, *held_out, f"--output_dir={out}", "--save_freq=2", "--steps=5"]
        train(monkeypatch, *words)
    columns, rows = read_metrics(out / "metrics.csv")
    assert list(rows) == [1, 2, 3, 4, 5]
    assert {"time", "epoch", "samples", "loss", "grad_norm", "lr", "l1_loss", "eval_loss"} <= set(columns)
    assert [step for step, row in rows.items() if "eval_loss" in row] == [3]
    said = [entry.message for entry in caplog.records if entry.name == "root"]
    line = next(text for text in said if text.startswith("step:3 "))
    assert f"loss:{rows[3]['loss']:.3f} " in line
    assert " eta:" in line
    assert any(text == f"step 3: eval_loss={rows[3]['eval_loss']:.4f}" for text in said)

    config = out / "checkpoints/000002/pretrained_model/train_config.json"
    train(monkeypatch, f"--config_path={config}", "--resume=true", "--steps=4")
    _, resumed = read_metrics(out / "metrics.csv")
    assert list(resumed) == [1, 2, 3, 4]
    for step in (1, 2):
        assert resumed[step] == rows[step]
    for step in (3, 4):
        assert resumed[step]["loss"] == rows[step]["loss"]
        assert resumed[step]["time"] > rows[5]["time"]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert events.Scalars("train/loss")[3].value == pytest.approx(rows[4]["loss"])
    assert [point.step for point in events.Scalars("eval/loss")] == [3]


def test_success_in_the_environment_is_in_the_row_of_its_step(dataset, script, tmp_path, monkeypatch):
    def evaluate(**_):
        figures = {
            "avg_sum_reward": 1.5,
            "pc_success": 25.0,
            "n_episodes": 4,
            "video_paths": [],
            "eval_s": 1.0,
        }
        return {"per_task": [], "per_group": {"pusht": dict(figures)}, "overall": figures}

    monkeypatch.setattr(script, "eval_policy_all", evaluate)
    monkeypatch.setattr(script, "_make_eval_envs", lambda cfg: contextlib.nullcontext({}))
    loop.observe(record.CsvRecorder(), script)
    out = tmp_path / "out"
    words = [*dataset, *POLICY, *LOOP, f"--output_dir={out}", "--save_checkpoint=false", "--steps=4"]
    train(monkeypatch, *words, "--env.type=pusht", "--env_eval_freq=2")
    _, rows = read_metrics(out / "metrics.csv")
    assert list(rows) == [1, 2, 3, 4]
    env = {"env/pc_success": 25.0, "env/n_episodes": 4, "env/avg_sum_reward": 1.5}
    for step, row in rows.items():
        assert "loss" in row
        assert {name: value for name, value in row.items() if name.startswith("env/")} == (
            env if step % 2 == 0 else {}
        )


def test_uninstall_gives_lerobot_its_own_code_back(script):
    stock = {name: getattr(script, name) for name in loop._REPLACEMENTS}
    loop.observe(record.CsvRecorder(), script)
    assert all(getattr(script, name) is not value for name, value in stock.items())
    loop.uninstall()
    assert all(getattr(script, name) is value for name, value in stock.items())


def test_an_observer_that_fails_is_named_once_and_costs_nothing(
    dataset, script, tmp_path, monkeypatch, caplog
):
    class Broken(loop.LoopObserver):
        def logged(self, run, step, metrics):
            raise OSError("disk full")

    loop.observe(Broken(), script)
    loop.observe(record.CsvRecorder(), script)
    words = [*dataset, *POLICY, *LOOP, f"--output_dir={tmp_path / 'out'}", "--save_checkpoint=false"]
    train(monkeypatch, *words, "--steps=2")
    assert list(read_metrics(tmp_path / "out/metrics.csv")[1]) == [1, 2]
    complaints = [entry.getMessage() for entry in caplog.records if "Broken" in entry.getMessage()]
    assert complaints == [
        "lerobot_ext: Broken stopped working at logged (OSError: disk full); the training goes on without it."
    ]


def test_a_file_of_somebody_elses_is_kept_and_the_training_goes_on(script, tmp_path, caplog):
    (tmp_path / "metrics.csv").write_text("name,price\n")
    loop.observe(record.CsvRecorder(), script)
    loop._tell("started", loop.TrainingRun(tmp_path, 0, 10, True, None))
    loop._tell("logged", loop.TrainingRun(tmp_path, 0, 10, True, None), 1, {"loss": 1.0})
    assert (tmp_path / "metrics.csv").read_text() == "name,price\n"
    assert "is no metrics.csv" in caplog.text
    assert "move it away" in caplog.text


def test_another_lerobot_is_left_alone(script, monkeypatch, caplog):
    monkeypatch.setattr(lerobot_window, "TESTED_BELOW", (0, 6))
    stock = script.MetricsTracker
    assert not loop.install(script)
    assert script.MetricsTracker is stock
    assert "no metrics.csv" in caplog.text


def test_results_in_the_environment_get_columns_for_each_suite():
    figures = {"pc_success": 50.0, "n_episodes": 10, "avg_sum_reward": math.nan, "video_paths": []}
    one = {"overall": figures, "per_group": {"koch": figures}}
    assert record.of_episodes(one) == {"env/pc_success": 50.0, "env/n_episodes": 10}
    two = {"overall": figures, "per_group": {"a": figures, "b": figures}}
    assert json.loads(json.dumps(record.of_episodes(two)))["env/b/pc_success"] == 50.0


def test_without_tensorboard_one_line_says_what_to_install(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    events = record.EventRecorder()
    with caplog.at_level(logging.INFO):
        events.started(loop.TrainingRun(tmp_path, 0, 10, True, None))
        events.logged(loop.TrainingRun(tmp_path, 0, 10, True, None), 1, {"loss": 1.0})
    assert len(caplog.records) == 1
    assert f"`{install_command('lerobot_ext[tensorboard]')}`" in caplog.text


def test_only_rank_0_writes(tmp_path):
    run = loop.TrainingRun(tmp_path, 0, 10, is_main=False, cfg=None)
    for recorder in (record.CsvRecorder(), record.EventRecorder()):
        recorder.started(run)
        recorder.logged(run, 1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_measures_both_sides(tmp_path):
    folder = Path(__file__).parents[2] / "benchmarks"
    benchmark = runpy.run_path(str(folder / "trainer_overhead.py"))
    rows = benchmark["trackers"](1) + benchmark["optimizers"](1, tensors=2, size=10)
    assert [row["what"].split(",")[0] for row in rows] == ["step"] * 3 + ["log step"] * 3 + ["optimizer"] * 3
    assert all(row["stock"] > 0 and row["ours"] > 0 for row in rows)
    benchmark["draw"](rows, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert not loop._observers
