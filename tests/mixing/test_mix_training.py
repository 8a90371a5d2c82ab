# SPDX-License-Identifier: Apache-2.0
"""The stock training loop, run in this process, on a mix."""

import json
import logging
import shutil

import pytest
import torch
from lerobot.datasets import EpisodeAwareSampler
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from mixes import entry, write_part, write_spec
from safetensors.torch import load_file
from stock_loop import LOOP, POLICY, config, train

from lerobot_ext.hub.describe import training_facts
from lerobot_ext.mixing import provenance, train_hooks
from lerobot_ext.mixing.dataset import DATASET_INDEX, MixedDataset
from lerobot_ext.mixing.sampler import MixSampler
from lerobot_ext.mixing.spec import SpecError, load_spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    write_part(folder / "a", (8, 9, 7), ("reach",))
    write_part(folder / "b", (6, 5, 7, 6), ("lift", "reach"), offset=3)
    return folder


@pytest.fixture
def script():
    from lerobot.scripts import lerobot_train

    train_hooks.uninstall()  # a test before may have loaded all plugins
    assert train_hooks.install(lerobot_train)
    yield lerobot_train
    train_hooks.uninstall()


@pytest.fixture
def batches(script, monkeypatch):
    """What each step was given: rows of the mix, datasets, tasks."""
    seen = []
    stock = script.update_policy

    def watched(metrics, policy, batch, *words, **named):
        seen.append({key: batch[key].tolist() for key in ("index", DATASET_INDEX, "task_index")})
        return stock(metrics, policy, batch, *words, **named)

    monkeypatch.setattr(script, "update_policy", watched)
    return seen


def spec_of(folder, path="mix.yaml", **keys):
    keys = {"weights": "explicit", "epoch_size": 20} | keys
    given = {"weight": 1} if keys["weights"] == "explicit" else {}
    more = {"weight": 3} if given else {}
    return write_spec(folder / path, entry(folder / "a", **given), entry(folder / "b", **more), **keys)


def options(spec, *words):
    return config([f"--dataset.repo_id={spec}", *POLICY, *LOOP, *words])


def test_a_run_that_stops_and_goes_on_sees_what_an_unbroken_one_sees(
    folder, batches, tmp_path, monkeypatch, caplog
):
    spec = spec_of(folder, "resumed.yaml")
    words = [f"--dataset.repo_id={spec}", *POLICY, *LOOP, "--batch_size=3", "--save_freq=9", "--steps=16"]
    with caplog.at_level(logging.INFO):
        train(monkeypatch, *words, f"--output_dir={tmp_path / 'whole'}")
    assert "mix resumed: 25.0 % of the draws from user/a (3 episodes, 24 frames)" in caplog.text
    whole = list(batches)
    rows = [row for batch in whole for row in batch["index"]]
    datasets = [index for batch in whole for index in batch[DATASET_INDEX]]
    # 7 steps to an epoch of 20 draws: 5 of `a`, 15 of `b`.
    assert [datasets[:20].count(0), datasets[20:40].count(0)] == [5, 5]
    assert all((row >= 24) == (index == 1) for row, index in zip(rows, datasets, strict=True))
    assert {task for batch in whole for task in batch["task_index"]} == {0, 1}

    batches.clear()
    caplog.clear()
    spec_of(folder, "resumed.yaml", weights="by_frames")  # edited meanwhile: the copy counts
    copy = tmp_path / "whole/checkpoints/000009/pretrained_model"
    assert load_spec(copy / provenance.FILE_NAME).weights == "explicit"
    train(monkeypatch, f"--config_path={copy / 'train_config.json'}", "--resume=true")
    assert batches == whole[9:]
    assert "is no longer what this run started with" in caplog.text


def test_lerobots_own_datasets_are_untouched(folder, script, tmp_path):
    words = ["--dataset.repo_id=user/a", f"--dataset.root={folder / 'a'}", *POLICY]
    data, held_out = script.make_train_eval_datasets(config(words))
    assert type(data) is LeRobotDataset
    assert held_out is None
    meta = data.meta.episodes
    assert type(script.EpisodeAwareSampler(meta["dataset_from_index"], meta["dataset_to_index"])) is (
        EpisodeAwareSampler
    )
    train_hooks.uninstall()
    assert script.EpisodeAwareSampler is EpisodeAwareSampler


def test_episodes_are_held_out_of_each_dataset_and_task(folder, script):
    spec = spec_of(folder, "split.yaml")
    data, held_out = script.make_train_eval_datasets(options(spec, "--dataset.eval_split=0.3"))
    # Of `a` the last of three; of `b` the last of two `lift` and the last of two `reach`.
    assert [part.episodes for part in data.parts] == [[0, 1], [0, 1]]
    assert [part.episodes for part in held_out.parts] == [[2], [2, 3]]
    assert data.meta.total_frames == 8 + 9 + 6 + 5
    assert len(held_out) == 7 + 7 + 6
    assert held_out[7]["task"] == "lift"
    assert int(held_out[7]["task_index"]) == int(data[17]["task_index"])


def test_a_held_out_loss_is_measured(folder, batches, tmp_path, monkeypatch, caplog):
    spec = spec_of(folder, "eval.yaml")
    split = ["--dataset.eval_split=0.3", "--eval_steps=2", "--max_eval_samples=6"]
    words = [f"--dataset.repo_id={spec}", *POLICY, *LOOP, *split, "--steps=2", "--save_checkpoint=false"]
    with caplog.at_level(logging.INFO):
        train(monkeypatch, *words, f"--output_dir={tmp_path / 'out'}")
    assert "step 2: eval_loss=" in caplog.text


def test_holding_out_all_of_a_dataset_is_refused(folder, script):
    with pytest.raises(
        ValueError, match=r"dataset user/a of the mix .* keeps no episode of 3.*hold out fewer"
    ):
        script.make_train_eval_datasets(options(spec_of(folder), "--dataset.eval_split=0.9"))


def test_episodes_count_through_the_mix(folder, script):
    data, _ = script.make_train_eval_datasets(options(spec_of(folder), "--dataset.episodes=[1,3,6]"))
    assert [part.episodes for part in data.parts] == [[1], [0, 3]]
    with pytest.raises(ValueError, match="has episodes 0 to 6"):
        script.make_train_eval_datasets(options(spec_of(folder), "--dataset.episodes=[7]"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset.streaming=true"], "--dataset.streaming=True does not go with"),
        (["--dataset.revision=main"], "say so for each dataset"),
        (["--sample_weighting.type=rabc"], "use loss_weight"),
    ],
)
def test_options_that_mean_nothing_for_a_mix_are_refused(folder, script, words, said):
    with pytest.raises(ValueError, match=said):
        script.make_train_eval_datasets(options(spec_of(folder), *words))


def test_a_spec_as_root_is_refused_with_the_right_option(folder, script):
    spec = spec_of(folder)
    with pytest.raises(ValueError, match=r"give the file as --dataset.repo_id alone"):
        script.make_train_eval_datasets(options("user/mix", f"--dataset.root={spec}"))


def test_a_wrong_spec_ends_the_training_before_it_begins(folder, script):
    spec = write_spec(folder / "wrong.yaml", entry(folder / "a", wieght=2), entry(folder / "b"))
    with pytest.raises(SpecError, match="did you mean `weight`"):
        script.make_train_eval_datasets(options(spec))


def test_the_factory_itself_makes_mixes(folder, script):
    from lerobot.datasets.factory import make_dataset

    data = make_dataset(options(spec_of(folder)))
    assert isinstance(data, MixedDataset)
    assert data[0]["action"].shape == (4, 3)  # the policy's chunk


def test_frames_that_a_policy_leaves_out_are_not_drawn(folder, script):
    data, _ = script.make_train_eval_datasets(options(spec_of(folder, "drop.yaml", weights="by_frames")))
    meta = data.meta.episodes
    sampler = script.EpisodeAwareSampler(
        meta["dataset_from_index"],
        meta["dataset_to_index"],
        episode_indices_to_use=data.episodes,
        drop_n_last_frames=4,
        shuffle=True,
        seed=0,
        absolute_to_relative_idx=data.absolute_to_relative_idx,
    )
    assert isinstance(sampler, MixSampler)
    assert sampler.frames.tolist() == [24 - 3 * 4, 24 - 4 * 4]
    assert len(sampler) == 20


def test_imagenet_statistics_take_the_place_of_a_cameras(tmp_path, script):
    camera = "observation.images.top"
    for name in ("x", "y"):
        write_part(tmp_path / name, (5,), cameras={camera: "image"})
    spec = write_spec(tmp_path / "mix.yaml", entry(tmp_path / "x"), entry(tmp_path / "y"))
    data, _ = script.make_train_eval_datasets(options(spec))
    assert torch.allclose(data.meta.stats[camera]["mean"].ravel(), torch.tensor([0.485, 0.456, 0.406]))
    own, _ = script.make_train_eval_datasets(options(spec, "--dataset.use_imagenet_stats=false"))
    assert own.meta.stats[camera]["mean"].ravel() == pytest.approx([2 / 255] * 3, abs=1e-3)


def test_the_checkpoint_says_what_it_was_trained_on(folder, batches, tmp_path, monkeypatch):
    spec = spec_of(folder, "noted.yaml", name="kitchen")
    words = [f"--dataset.repo_id={spec}", *POLICY, *LOOP, "--steps=1", "--seed=5"]
    train(monkeypatch, *words, f"--output_dir={tmp_path / 'out'}")
    saved = tmp_path / "out/checkpoints/000001/pretrained_model"
    assert load_file(saved / "model.safetensors")
    copy = json.loads((saved / provenance.FILE_NAME).read_text())
    assert copy["seed"] == 5
    assert copy["datasets"][1]["root"] == str(folder / "b")
    assert [part["share"] for part in copy["resolved"]["trained_on"]] == [0.25, 0.75]
    assert [part["frames"] for part in copy["resolved"]["found"]] == [24, 24]
    # The copy is a spec that draws the same.
    again = options(saved / provenance.FILE_NAME)
    assert MixedDataset is type(train_hooks.make_mixed_datasets(again)[0])


def test_a_resumed_run_takes_the_file_only_if_it_is_named(folder, script, tmp_path, monkeypatch):
    spec = spec_of(folder, "named.yaml")
    (tmp_path / "pretrained_model").mkdir()
    data, _ = script.make_train_eval_datasets(options(spec))
    provenance.save(data.meta, tmp_path / "pretrained_model", 1)
    spec_of(folder, "named.yaml", weights="by_dataset")
    cfg = options(spec)
    cfg.resume, cfg.checkpoint_path = True, tmp_path
    for argv, weights in (([], "explicit"), ([f"--dataset.repo_id={spec}"], "by_dataset")):
        monkeypatch.setattr("sys.argv", ["lerobot-train", *argv])
        assert script.make_train_eval_datasets(cfg)[0].meta.spec.weights == weights


def test_frames_that_came_since_the_checkpoint_are_told(folder, script, tmp_path, caplog, monkeypatch):
    root = tmp_path / "c"
    write_part(root, (5,))
    spec = write_spec(tmp_path / "grow.yaml", entry(root))
    (tmp_path / "pretrained_model").mkdir()
    data, _ = script.make_train_eval_datasets(options(spec))
    provenance.save(data.meta, tmp_path / "pretrained_model", 1)
    shutil.rmtree(root)
    write_part(root, (5, 6))
    cfg = options(spec)
    cfg.resume, cfg.checkpoint_path = True, tmp_path
    monkeypatch.setattr("sys.argv", ["lerobot-train"])
    script.make_train_eval_datasets(cfg)
    assert "are not as they were when the checkpoint was written" in caplog.text


def test_a_model_card_names_the_datasets(folder, script):
    from lerobot_ext.hub.card import make_card
    from lerobot_ext.hub.requirements import Requirements

    cfg = options(spec_of(folder, name="kitchen"))
    cfg.validate()
    data, _ = script.make_train_eval_datasets(cfg)
    facts = training_facts(cfg, data.meta, 10)
    assert facts["dataset"]["repo_id"] == "kitchen"
    assert facts["dataset"]["robot_type"] == "koch_follower"
    needs = Requirements("act", (), (), "3.12", "0.6.1", facts, {})
    card = make_card({"type": "act"}, needs, "me/policy")
    assert "datasets:\n- user/a\n- user/b\n" in card
    assert "trained on `kitchen`, a mix of 2 datasets" in card
    assert "| `user/b` | 75.0 % | 4 | 24 | koch_follower | lift; reach |" in card
