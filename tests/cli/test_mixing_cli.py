# SPDX-License-Identifier: Apache-2.0
"""`lerobot-train` as users start it, on a mix: workers, cameras, two ranks, resume."""

import json

import pytest
from mixes import entry, write_part, write_spec
from safetensors.torch import load_file
from stock_cli import run
from stock_loop import LOOP, POLICY
from two_ranks import run_two_ranks

pytestmark = pytest.mark.slow

TOP = "observation.images.top"
SMALL_EYES = ["--policy.vision_backbone=resnet18", "--policy.pretrained_backbone_weights=null"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    write_part(folder / "a", (6, 9), ("reach",), cameras={TOP: "image"})
    write_part(folder / "b", (5, 8), ("lift",), offset=3, cameras={"observation.images.front": "video"})
    renamed = {"rename": {"*.front": "*.top"}}
    return write_spec(
        folder / "mix.yaml",
        entry(folder / "a", weight=1),
        entry(folder / "b", weight=2, **renamed),
        epoch_size=8,
    )


def weights(run_dir, step):
    return load_file(run_dir / f"checkpoints/{step:06d}/pretrained_model/model.safetensors")


def test_two_workers_train_on_a_mix_of_pictures_and_videos_and_resume(spec, tmp_path):
    words = [f"--dataset.repo_id={spec}", *POLICY, *SMALL_EYES, *LOOP, "--num_workers=2", "--batch_size=2"]
    more = ["--steps=6", "--save_freq=5", f"--output_dir={tmp_path / 'run'}"]
    done = run(tmp_path, "lerobot-train", *words, *more, timeout=400)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert "mix mix: 66.7 % of the draws from user/b (2 episodes, 13 frames)" in said
    whole = weights(tmp_path / "run", 6)
    saved = tmp_path / "run/checkpoints/000005/pretrained_model"
    facts = json.loads((saved / "lerobot_ext.json").read_text())["training"]["dataset"]
    assert [part["repo_id"] for part in facts["mixture"]] == ["user/a", "user/b"]
    assert (saved / "dataset_mix.json").is_file()

    # Elsewhere, and without the file that it was started with.
    spec.rename(spec.with_suffix(".away"))
    try:
        words = [f"--config_path={saved / 'train_config.json'}", "--resume=true"]
        done = run(tmp_path, "lerobot-train", *words, timeout=400)
    finally:
        spec.with_suffix(".away").rename(spec)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert "Resuming data order at epoch 1, sample 2" in said
    again = weights(tmp_path / "run", 6)
    assert max(float((whole[name] - again[name]).abs().max()) for name in whole) < 1e-6


def test_two_ranks_train_on_what_one_would(spec, tmp_path):
    state_only = {"drop": ["observation.images.*"]}
    folder = spec.parent
    flat = write_spec(
        folder / "flat.yaml",
        entry(folder / "a", weight=1, **state_only),
        entry(folder / "b", weight=2, **state_only),
        epoch_size=8,
    )
    # One action a chunk: no padding, so that the loss is a plain mean over the batch.
    one_action = ["--policy.chunk_size=1", "--policy.n_action_steps=1"]
    words = [f"--dataset.repo_id={flat}", *POLICY, *one_action, *LOOP, "--steps=5"]
    said = run_two_ranks(tmp_path, *words, "--batch_size=2", f"--output_dir={tmp_path / 'two'}")
    assert said.count("of the draws from user/b") == 1  # rank 0 alone speaks
    done = run(tmp_path, "lerobot-train", *words, "--batch_size=4", f"--output_dir={tmp_path / 'one'}")
    assert done.returncode == 0, done.stderr[-4000:]
    one, two = weights(tmp_path / "one", 5), weights(tmp_path / "two", 5)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6
