# SPDX-License-Identifier: Apache-2.0
"""What a step is estimated to take is what it takes: against autograd's hooks and the allocator's events."""

import resource

import pytest
import torch
from small_hierarchical import SMALL
from tiny_pi0 import PI0_MARKS, needs_pi0, shrink_pi0

from lerobot_ext.cli.command import CommandError
from lerobot_ext.memory.fake import without_memory
from lerobot_ext.memory.measure import measure
from lerobot_ext.memory.savings import largest_batch, savings
from lerobot_ext.memory.step import ACTIVATIONS, GRADIENTS, PARAMETERS, PHASES, STATE, estimate, uses_autocast
from lerobot_ext.memory.subject import Robot, open_subject

ROBOT = Robot(state=5, action=4, cameras=1, height=48, width=64)


def _words(kind, **fields):
    return [f"--policy.type={kind}", *(f"--policy.{name}={value}" for name, value in fields.items())]


ACT = _words("act", dim_model=32, n_heads=2, dim_feedforward=64, n_encoder_layers=1, chunk_size=8)
ACT += _words("act", n_action_steps=8, latent_dim=4)[1:]
DIFFUSION = _words("diffusion", down_dims="[32,64]", horizon=8, n_action_steps=4, n_groups=4)
HIERARCHICAL = _words(
    "hierarchical_diffusion",
    **{name: str(value).replace("(", "[").replace(")", "]") for name, value in SMALL.items()},
)
PI0 = _words("pi0", chunk_size=4, n_action_steps=4, max_state_dim=8, max_action_dim=8, tokenizer_max_length=6)
PI0 += ["--policy.image_resolution=[28,28]"]
POLICIES = {"act": ACT, "diffusion": DIFFUSION, "hierarchical_diffusion": HIERARCHICAL, "pi0": PI0}


@pytest.fixture(params=["act", "diffusion", "hierarchical_diffusion", pytest.param("pi0", marks=PI0_MARKS)])
def subject(request, monkeypatch):
    if request.param == "pi0":
        shrink_pi0(monkeypatch)
    return open_subject(POLICIES[request.param], ROBOT)


@pytest.fixture
def act():
    return open_subject(ACT, ROBOT)


def _close(estimated, measured, share):
    assert abs(estimated - measured) <= share * measured, (estimated, measured)


def test_a_step_takes_what_was_estimated(subject):
    optimizer = subject.config.get_optimizer_preset()
    found = estimate(subject, 4, optimizer, foreach=None)
    real = measure(subject, 4, optimizer, "cpu")
    for kind in (PARAMETERS, GRADIENTS, STATE):
        assert found.parts[kind] == real.usage.parts[kind]
    _close(found.total(ACTIVATIONS), real.saved, 0.05)
    for phase in PHASES:
        _close(found.peaks[phase], real.peaks[phase], 0.10)
    _close(found.peak, real.peak, 0.06)


def test_nothing_is_allocated_and_every_byte_is_of_a_known_submodule(act):
    found = estimate(act, 4, act.config.get_optimizer_preset())
    names = {name for name, _ in act.build().named_modules()}
    assert all(set(owners) <= names for owners in found.parts.values())
    n = sum(parameter.numel() for parameter in act.build().parameters())
    assert found.total(PARAMETERS) == found.total(GRADIENTS) == 4 * n
    assert found.total(STATE) == pytest.approx(8 * n, rel=1e-3)  # Adam's two, and a step a parameter
    assert found.parameters_below("") == n
    assert sum(found.below(PARAMETERS, name) for name in ("model", "nothing")) == 4 * n


def test_ema_and_target_networks_are_told_from_what_is_frozen(subject):
    found = estimate(subject, 2, subject.config.get_optimizer_preset())
    average = sum(size for name, size in found.parts["ema"].items())
    if subject.config.type == "hierarchical_diffusion":
        assert average > 0
        assert all(name.startswith("average") for name in found.parts["ema"])
    else:
        assert average == 0


def test_the_largest_batch_fits_and_a_larger_one_does_not(act):
    optimizer = act.config.get_optimizer_preset()
    first = estimate(act, 2, optimizer)
    limit = estimate(act, 13, optimizer).peak
    size, usage = largest_batch(act, first, optimizer, limit, amp=False, foreach=True)
    assert size == 13
    assert usage.peak <= limit
    assert estimate(act, 14, optimizer).peak > limit


def test_no_batch_fits_where_the_weights_alone_do_not(act):
    optimizer = act.config.get_optimizer_preset()
    first = estimate(act, 2, optimizer)
    assert largest_batch(act, first, optimizer, 1000, amp=False, foreach=True) == (0, None)


def test_another_optimizer_takes_what_its_state_takes(act):
    from lerobot.optim.optimizers import SGDConfig

    found = estimate(act, 2, SGDConfig(momentum=0.9))
    assert found.total(STATE) == found.total(PARAMETERS)
    assert estimate(act, 2, SGDConfig(momentum=0.0)).total(STATE) == 0


@needs_pi0
def test_what_saves_memory_is_what_the_policy_offers(monkeypatch):
    shrink_pi0(monkeypatch)
    subject = open_subject(PI0, ROBOT)
    optimizer = subject.config.get_optimizer_preset()
    whole = estimate(subject, 8, optimizer)
    found = {one.how.split("=")[0]: one for one in savings(subject, 8, optimizer, foreach=True)}
    assert set(found) == {
        "--policy.dtype",
        "--policy.gradient_checkpointing",
        "--batch_size",
        "--policy.freeze_vision_encoder",
        "--policy.train_expert_only",
        "--peft.method_type",
    }
    for saving in found.values():
        assert saving.usage is not None, saving.why
        assert saving.usage.peak < whole.peak, saving.what
    checkpointing = found["--policy.gradient_checkpointing"].usage
    assert checkpointing.total(ACTIVATIONS) < 0.5 * whole.total(ACTIVATIONS)
    lora = found["--peft.method_type"].usage
    assert 0 < lora.n_trained < 0.2 * lora.parameters_below("")
    assert lora.total(GRADIENTS) == 4 * lora.n_trained
    again = subject.changed({"dtype": "bfloat16"})
    whole = estimate(again, 8, optimizer, amp=True)
    for saving in savings(again, 8, optimizer, amp=True, foreach=True):
        assert saving.usage.peak < whole.peak, saving.what
        assert "dtype" not in saving.how


@needs_pi0
def test_autocast_is_on_where_lerobot_train_turns_it_on(act):
    from dataclasses import replace

    from lerobot.policies.pi0.configuration_pi0 import PI0Config

    assert not uses_autocast(act.config)
    assert uses_autocast(replace(act.config, use_amp=True))
    assert uses_autocast(PI0Config(device="cpu", dtype="bfloat16"))
    assert not uses_autocast(PI0Config(device="cpu", use_amp=True))  # its dtype counts


def test_mixed_precision_is_estimated_as_it_is_measured(act):
    optimizer = act.config.get_optimizer_preset()
    found = estimate(act, 4, optimizer, amp=True, foreach=None)
    _close(found.peak, measure(act, 4, optimizer, "cpu", amp=True).peak, 0.08)


@pytest.mark.slow
@needs_pi0
def test_pi0_of_full_size_is_estimated_without_its_memory():
    subject = open_subject(["--policy.type=pi0"], Robot())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = estimate(subject, 1, subject.config.get_optimizer_preset())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert found.parameters_below("") > 3.5e9
    assert found.total(PARAMETERS) > 14e9
    assert grown < 2e6, f"{grown} kB more"
    assert any("48 tokens" in note for note in subject.notes)


@needs_pi0
def test_another_policy_as_the_actor_is_estimated_with_its_prompt_and_offers_what_saves(monkeypatch):
    shrink_pi0(monkeypatch)
    words = ["--policy.type=q_chunking", "--policy.extraction=awr", "--policy.chunk_size=2"]
    words += ["--policy.n_action_steps=2", *(word.replace("policy.", "policy.actor.") for word in PI0)]
    monkeypatch.setattr("sys.argv", ["lerobot-ext", "memory", *words])  # an actor's options are found there
    subject = open_subject(words, ROBOT)
    assert any("6 tokens" in note for note in subject.notes)
    optimizer = subject.config.get_optimizer_preset()
    whole = estimate(subject, 4, optimizer)
    found = {one.how.split("=")[0]: one for one in savings(subject, 4, optimizer, foreach=True)}
    checkpointing, lora = "--policy.actor.gradient_checkpointing", "--policy.actor_lora_rank"
    assert found[checkpointing].usage.total(ACTIVATIONS) < whole.total(ACTIVATIONS)
    assert found[lora].usage.below(GRADIENTS, "actor") < 0.5 * whole.below(GRADIENTS, "actor")
    assert "leaves `extraction` 'awr' nothing to train" in found["--policy.freeze_actor"].why


def test_code_that_asks_for_values_is_answered_and_copies_are_made():
    import copy

    with without_memory():
        layer = torch.nn.BatchNorm1d(4)
        twin = copy.deepcopy(layer)
        assert twin.running_mean is not layer.running_mean
        loss = layer(torch.randn(8, 4)).sum()
        assert (loss.item(), bool(loss > 0), float(loss)) == (1.0, True, 1.0)
        assert layer.double().weight.dtype == torch.float64
    assert torch.nn.Linear(2, 2).double().weight.dtype == torch.float64


def test_values_that_decide_shapes_are_refused_with_a_remedy(act, monkeypatch):
    from lerobot.policies.act.modeling_act import ACTPolicy

    def forward(self, batch):
        return batch["action"][batch["action_is_pad"]].sum(), {}

    monkeypatch.setattr(ACTPolicy, "forward", forward)
    with pytest.raises(CommandError, match="depends on values") as raised:
        estimate(act, 2, act.config.get_optimizer_preset())
    assert "--measure=only" in raised.value.remedy
