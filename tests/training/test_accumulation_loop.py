# SPDX-License-Identifier: Apache-2.0
"""Accumulation under the stock training loop: presets, schedule, resume, `policy.update()`."""

import json
import logging

import pytest
from safetensors.torch import load_file
from stock_loop import LOOP, POLICY, train, write_dataset

from lerobot_ext.training import accumulation_hooks

# One action a chunk: no padding, so that the loss is a plain mean over the batch.
WORDS = [*POLICY, *LOOP, "--policy.chunk_size=1", "--policy.n_action_steps=1", "--save_freq=0"]
ACCUMULATE = ["--optimizer.type=accumulated_adamw", "--optimizer.accumulation=2"]
SCHEDULE = [
    "--scheduler.type=cosine_decay_with_warmup",
    "--scheduler.num_warmup_steps=2",
    "--scheduler.num_decay_steps=3",
    "--scheduler.peak_lr=0.001",
    "--scheduler.decay_lr=0.0001",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(autouse=True)
def hooks():
    from lerobot.scripts import lerobot_train

    assert accumulation_hooks.install(lerobot_train)
    yield
    accumulation_hooks.uninstall()


def weights(out, step):
    return load_file(out / f"checkpoints/{step:06d}/pretrained_model/model.safetensors")


def state(out, step):
    return out / f"checkpoints/{step:06d}/training_state"


def difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def saved_config(out, step):
    path = out / f"checkpoints/{step:06d}/pretrained_model/train_config.json"
    return path, json.loads(path.read_text())


def test_the_presets_optimizer_accumulates_and_equals_a_larger_batch(dataset, tmp_path, monkeypatch):
    many, one = tmp_path / "many", tmp_path / "one"
    train(monkeypatch, *dataset, *WORDS, *ACCUMULATE, f"--output_dir={many}", "--steps=6")
    train(monkeypatch, *dataset, *WORDS, f"--output_dir={one}", "--steps=3", "--batch_size=4")
    assert difference(weights(many, 6), weights(one, 3)) < 1e-6
    _, config = saved_config(many, 6)
    assert config["optimizer"]["type"] == "accumulated_adamw"
    assert (config["optimizer"]["clip_norm"], config["optimizer"]["grad_clip_norm"]) == (10.0, 0.0)
    assert config["optimizer"]["lr"] == 1e-5  # ACT's own


def test_a_schedule_counts_the_optimizers_own_steps(dataset, tmp_path, monkeypatch):
    many, one = tmp_path / "many", tmp_path / "one"
    own = ["--use_policy_training_preset=false", *SCHEDULE]
    fields = ["--optimizer.lr=0.001", "--optimizer.weight_decay=0.1"]
    clip = "--optimizer.clip_norm=0.01"
    words = [*dataset, *WORDS, *own]
    train(monkeypatch, *words, *ACCUMULATE, *fields, clip, f"--output_dir={many}", "--steps=6")
    stock = ["--optimizer.type=adamw", *fields, "--optimizer.grad_clip_norm=0.01"]
    train(monkeypatch, *words, *stock, f"--output_dir={one}", "--steps=3", "--batch_size=4")
    assert difference(weights(many, 6), weights(one, 3)) < 1e-6
    accumulated, plain = (
        json.loads((state(*where) / "scheduler_state.json").read_text()) for where in ((many, 6), (one, 3))
    )
    assert accumulated["last_epoch"] == plain["last_epoch"] == 3
    assert accumulated["_last_lr"] == pytest.approx(plain["_last_lr"])


def test_a_run_resumes_in_the_middle_of_an_accumulation(dataset, tmp_path, monkeypatch):
    out = tmp_path / "out"
    own = ["--use_policy_training_preset=false", *SCHEDULE, *ACCUMULATE]
    train(monkeypatch, *dataset, *WORDS, *own, f"--output_dir={out}", "--steps=6", "--save_freq=3")
    whole = weights(out, 6)
    groups = json.loads((state(out, 3) / "optimizer_param_groups.json").read_text())
    assert groups[0]["n_accumulated"] == 1
    path, _ = saved_config(out, 3)
    train(monkeypatch, f"--config_path={path}", "--resume=true")
    assert difference(whole, weights(out, 6)) < 1e-7


def test_a_policys_update_runs_after_own_steps_only(dataset, tmp_path, monkeypatch):
    from lerobot.policies.act.modeling_act import ACTPolicy

    calls = []
    monkeypatch.setattr(ACTPolicy, "update", lambda self: calls.append(1), raising=False)
    words = [*dataset, *WORDS, "--steps=5", "--save_checkpoint=false"]
    train(monkeypatch, *words, *ACCUMULATE, f"--output_dir={tmp_path / 'many'}")
    assert len(calls) == 2
    train(monkeypatch, *words, f"--output_dir={tmp_path / 'one'}")
    assert len(calls) == 2 + 5


def test_the_log_says_what_the_steps_are(dataset, tmp_path, monkeypatch, caplog):
    words = [*dataset, *WORDS, *ACCUMULATE, "--steps=5", "--save_checkpoint=false"]
    with caplog.at_level(logging.INFO):
        train(monkeypatch, *words, f"--output_dir={tmp_path / 'out'}")
    assert "accumulated_adamw steps on the mean gradient of 2 batches: 2 own steps in 5" in caplog.text
    assert "`steps` (5) is no multiple of `optimizer.accumulation` (2): the last 1 batches" in caplog.text
    assert "Take 6 steps" in caplog.text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--policy.type=diffusion"], "`--optimizer.type=accumulated_adam`"),
        (["--optimizer.lr=0.1"], r"the policy's preset decides `lr`: set `--policy\.optimizer_…`"),
        (["--optimizer.grad_clip_norm=1"], r"`grad_clip_norm` \(1.0\) must stay 0"),
        (["--optimizer.accumulation=0"], r"`accumulation` \(0\) must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(dataset, tmp_path, monkeypatch, words, says):
    kept = [word for word in WORDS if not word.startswith("--policy.")] if "diffusion" in words[0] else WORDS
    extra = ["--policy.push_to_hub=false", "--policy.device=cpu"] if kept is not WORDS else []
    out = f"--output_dir={tmp_path / 'out'}"
    with pytest.raises(ValueError, match=says):
        train(monkeypatch, *dataset, *kept, *extra, *ACCUMULATE, *words, out, "--steps=2")


def test_fsdp_is_refused(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="does not work under FSDP"):
        train(monkeypatch, *dataset, *WORDS, *ACCUMULATE, f"--output_dir={tmp_path / 'out'}", "--steps=2")


def test_without_the_hooks_nothing_of_the_loop_is_ours():
    from lerobot.configs.train import TrainPipelineConfig
    from lerobot.scripts import lerobot_train

    def places():
        return [
            lerobot_train.has_method,
            lerobot_train.make_optimizer_and_scheduler,
            TrainPipelineConfig.validate,
        ]

    ours = places()
    accumulation_hooks.uninstall()
    assert [place.__wrapped__ for place in ours] == places()
