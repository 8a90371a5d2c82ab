# SPDX-License-Identifier: Apache-2.0
"""What act_plus looks at: tasks, depth, advantages, backbones; and how it samples with a flow."""

import subprocess
import sys
import types

import pytest
import torch
from lerobot_policy_act_plus import ActPlusConfig, modeling_act_plus
from lerobot_policy_act_plus.backbone import build_backbone
from lerobot_policy_act_plus.flow import integrate
from small_act import SMALL, act_config, act_plus, observation, training_batch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class Tasks:
    """What the policy reads of a dataset's metadata."""

    tasks = types.SimpleNamespace(index=["left", "right"])


def overfit(policy, batch, steps=150, lr=3e-3):
    optimizer = torch.optim.AdamW(policy.parameters(), lr=lr)
    policy.train()
    for _ in range(steps):
        loss, _ = policy.forward(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy.eval()


@pytest.mark.parametrize("conditioning", ["index", "text"])
def test_the_instruction_decides_where_nothing_else_does(conditioning):
    torch.manual_seed(0)
    from lerobot_policy_act_plus import ActPlusPolicy

    config = act_config(task_conditioning=conditioning, use_vae=False, dropout=0.0)
    policy = ActPlusPolicy(config, dataset_meta=Tasks())
    batch = training_batch(config)
    for key in config.input_features:
        batch[key] = torch.zeros_like(batch[key])
    batch["action_is_pad"][:] = False
    signs = torch.tensor([1.0 if text == "right" else -1.0 for text in batch["task"]])
    batch["action"] = signs[:, None, None].expand_as(batch["action"])
    overfit(policy, batch, steps=80)
    seen = {key: batch[key][:1] for key in config.input_features}
    assert policy.predict_action_chunk({**seen, "task": ["right"]}).mean() > 0.8
    assert policy.predict_action_chunk({**seen, "task": "left"}).mean() < -0.8


def test_an_unknown_task_is_refused_with_the_known_ones():
    from lerobot_policy_act_plus import ActPlusPolicy

    config = act_config(task_conditioning="index")
    policy = ActPlusPolicy(config, dataset_meta=Tasks())
    assert config.task_names == ["left", "right"]
    with pytest.raises(ValueError, match=r"knows no task 'up'.*'left', 'right'"):
        policy.predict_action_chunk({**observation(config), "task": ["up"]})


def test_task_names_travel_with_the_checkpoint(tmp_path):
    from lerobot_policy_act_plus import ActPlusPolicy

    config = act_config(task_conditioning="index")
    policy = ActPlusPolicy(config, dataset_meta=Tasks()).eval()
    policy.save_pretrained(tmp_path)
    again = ActPlusPolicy.from_pretrained(tmp_path)
    seen = observation(config, 2)
    assert torch.equal(policy.predict_action_chunk(seen), again.predict_action_chunk(seen))


def test_a_sentence_encoder_embeds_each_text_once_and_is_no_part_of_the_checkpoint(monkeypatch, tmp_path):
    calls = []

    class Model(torch.nn.Module):
        config = types.SimpleNamespace(hidden_size=3)

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, input_ids, attention_mask):
            calls.append(input_ids)
            hidden = input_ids[..., None].float() * torch.ones(3)
            return types.SimpleNamespace(last_hidden_state=hidden)

    def tokenizer(text, **_):
        ids = torch.tensor([[float(ord(c)) for c in text]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    fake = types.ModuleType("transformers")
    fake.AutoModel = types.SimpleNamespace(from_pretrained=lambda folder, **_: Model())
    fake.AutoTokenizer = types.SimpleNamespace(from_pretrained=lambda folder, **_: tokenizer)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    policy = act_plus(task_conditioning="text", text_encoder=str(tmp_path))
    batch = training_batch(policy.config)
    policy.train().forward(batch)
    policy.forward(batch)
    assert len(calls) == 2  # "left" and "right"
    assert not [name for name in policy.state_dict() if "weight" in name and "encoder.weight" in name]
    assert sum("task_embedding" in name for name, _ in policy.named_parameters()) == 2


def test_a_missing_sentence_encoder_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install transformers"):
        act_plus(task_conditioning="text", text_encoder="folder")


@pytest.mark.parametrize("fusion", ["early", "cross"])
def test_what_was_not_measured_does_not_matter(fusion):
    """A blind pixel is told by its normalised value and replaced by 0, beside a mask that says so."""
    shape = {"cameras": 1, "depths": 1}
    stats = {
        "observation.images.cam0_depth": {
            "mean": torch.full((1, 1, 1), 2.0),
            "std": torch.full((1, 1, 1), 0.5),
        }
    }
    policy = act_plus(shape=shape, stats=stats, depth_fusion=fusion)
    assert policy.model.depth_nothing.tolist() == [pytest.approx((0.0105 - 2.0) / 0.5)]  # LeRobot says 1 cm
    weights = (
        policy.model.backbone.conv1.weight
        if fusion == "early"
        else policy.model.depth_attention.attention.out_proj.weight
    )
    torch.nn.init.normal_(weights)
    seen = observation(policy.config)
    depth = seen["observation.images.cam0_depth"]
    planned = policy.predict_action_chunk(seen)
    nearer = policy.predict_action_chunk({**seen, "observation.images.cam0_depth": depth + 1})
    assert not torch.allclose(planned, nearer)
    blind = {**seen, "observation.images.cam0_depth": torch.full_like(depth, -4.0)}
    zeroed = policy.model.depth_nothing.clone()
    expected = policy.predict_action_chunk(blind)
    # The same with another value for "nothing": what is behind the mask does not matter.
    policy.model.depth_nothing.fill_(9.0)
    other = policy.predict_action_chunk(
        {**seen, "observation.images.cam0_depth": torch.full_like(depth, 9.0)}
    )
    policy.model.depth_nothing.copy_(zeroed)
    assert torch.equal(expected, other)


def test_depth_cameras_alone_are_enough_for_cross():
    policy = act_plus(shape={"depths": 2}, depth_fusion="cross").train()
    loss, _ = policy.forward(training_batch(policy.config))
    loss.backward()
    assert not [name for name, p in policy.named_parameters() if p.grad is None]


@pytest.mark.parametrize("fusion", ["early", "cross"])
def test_the_loss_reaches_every_parameter_of_depth(fusion):
    policy = act_plus(
        shape={"cameras": 2, "depths": 2}, depth_fusion=fusion, task_conditioning="text"
    ).train()
    loss, _ = policy.forward(training_batch(policy.config))
    loss.backward()
    assert not [name for name, p in policy.named_parameters() if p.grad is None]


def test_depth_cameras_are_refused_where_nothing_reads_them():
    with pytest.raises(ValueError, match=r"depth camera.*--policy\.depth_fusion=cross"):
        act_plus(shape={"cameras": 1, "depths": 1})
    with pytest.raises(ValueError, match="no camera has one channel"):
        act_plus(shape={"cameras": 1}, depth_fusion="cross")
    with pytest.raises(ValueError, match="has no partner"):
        act_plus(shape={"cameras": 2, "depths": 1}, depth_fusion="early")


@pytest.mark.parametrize("kind", ["sign", "value"])
def test_acting_asks_for_good_actions_and_guidance_goes_beyond(kind):
    fields = {"use_vae": False, "dropout": 0.0, "advantage": kind, "advantage_dropout": 0.3}
    policy = act_plus(**fields)
    batch = training_batch(policy.config, size=8)
    for key in policy.config.input_features:
        batch[key] = torch.zeros_like(batch[key])
    batch["action_is_pad"][:] = False
    good = torch.tensor([1.0, -1.0] * 4)
    batch["observation.advantage"] = good[:, None]
    batch["action"] = good[:, None, None].expand_as(batch["action"]) * 0.5
    overfit(policy, batch, steps=150)
    seen = {key: batch[key][:1] for key in policy.config.input_features} | {"task": ["x"]}
    asked = float(policy.predict_action_chunk(seen).mean())
    assert asked == pytest.approx(0.5, abs=0.2)
    policy.config.guidance = 2.0
    beyond = float(policy.predict_action_chunk(seen).mean())
    policy.config.guidance = 0.0
    untold = float(policy.predict_action_chunk(seen).mean())
    assert beyond == pytest.approx(2 * asked - untold, abs=1e-4)


def test_the_advantage_is_a_label_and_no_input():
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot_policy_act_plus import ActPlusPolicy

    config = act_config(advantage="sign")
    config.input_features["observation.advantage"] = PolicyFeature(FeatureType.STATE, (1,))
    ActPlusPolicy(config)
    assert "observation.advantage" not in config.input_features


def test_a_batch_without_advantages_is_refused():
    policy = act_plus(advantage="sign").train()
    batch = training_batch(policy.config)
    del batch["observation.advantage"]
    with pytest.raises(ValueError, match=r"no `observation\.advantage`.*--policy\.advantage_key"):
        policy.forward(batch)


@pytest.mark.parametrize(("solver", "steps", "error"), [("euler", 1000, 2e-3), ("midpoint", 20, 2e-3)])
def test_the_solvers_follow_a_known_flow(solver, steps, error):
    """dx/dt = x, from t = 1 to 0: x(0) = x(1) / e."""
    start = torch.full((1, 2, 1), 2.0, dtype=torch.float64)
    end = integrate(lambda x, t: x, start, 1.0, steps, solver)
    assert float((end - start / torch.e).abs().max()) < error


@pytest.mark.slow
@pytest.mark.parametrize("start", ["noise", "draft"])
def test_a_flow_keeps_two_ways_apart_that_l1_mixes_up(start):
    """The same observation, half the demonstrations go to +1, half to -1."""
    torch.manual_seed(0)
    size = 32
    signs = torch.tensor([1.0, -1.0] * (size // 2))

    def trained(**fields):
        policy = act_plus(use_vae=False, dropout=0.0, n_decoder_layers=2, **fields)
        batch = training_batch(policy.config, size)
        for key in policy.config.input_features:
            batch[key] = torch.zeros_like(batch[key])
        batch["action_is_pad"][:] = False
        batch["action"] = signs[:, None, None].expand_as(batch["action"])
        overfit(policy, batch, steps=500, lr=2e-3)
        seen = {key: batch[key] for key in policy.config.input_features} | {"task": ["x"] * size}
        return policy.predict_action_chunk(seen)

    flow = trained(head="flow", flow_start=start, flow_steps=10, draft_noise=0.9)
    whole = (flow.mean((1, 2)).abs() > 0.7) & (flow.std((1, 2)) < 0.4)
    assert whole.float().mean() > 0.8  # a chunk goes one way, all of it
    assert 0.2 < (flow.mean((1, 2)) > 0).float().mean() < 0.8  # and both ways are gone
    mixed = trained(head="l1")
    assert torch.allclose(mixed, mixed[:1].expand_as(mixed), atol=1e-5)  # one answer for all


@pytest.mark.parametrize("target", ["actions", "velocity"])
def test_several_draws_are_the_mean_of_as_many_single_ones(monkeypatch, target):
    """Padding, a committed prefix and an uneven batch count as they do with one draw."""
    fields = {"use_vae": False, "head": "flow", "flow_target": target, "prefix_steps": 3, "dropout": 0.0}
    policy = act_plus(flow_draws=3, **fields)
    batch = training_batch(policy.config, size=4)
    times, noises = torch.rand(3, 4), torch.randn(3, 4, 8, 4)
    committed = torch.arange(8) < torch.tensor([[0], [1], [3], [2]])
    monkeypatch.setattr(modeling_act_plus, "draw_prefix", lambda *words: committed)

    def losses(draws):
        policy.config.flow_draws = len(draws)
        monkeypatch.setattr(modeling_act_plus, "draw_times", lambda size, device: times[draws].flatten())
        monkeypatch.setattr(torch, "randn_like", lambda actions: noises[draws].flatten(0, 1))
        return policy.forward(batch, reduction="none")[0]

    single = torch.stack([losses([draw]) for draw in range(3)])
    assert torch.allclose(losses([0, 1, 2]), single.mean(0), atol=1e-6)
    assert not torch.allclose(single[0], single[1])


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_another_backbone_trains_from_scratch(name):
    fields = {"backbone_norm": "group"} if name == "resnet18" else {}
    policy = act_plus(shape={"cameras": 1}, vision_backbone=name, **fields).train()
    loss, _ = policy.forward(training_batch(policy.config))
    loss.backward()
    assert not [n for n, p in policy.named_parameters() if p.grad is None]
    groups = policy.get_optim_params()
    assert all(len(group["params"]) for group in groups)
    if name == "resnet18":
        assert any(isinstance(m, torch.nn.GroupNorm) for m in policy.modules())


def test_local_weights_fill_the_backbone_once(tmp_path):
    torch.manual_seed(3)
    import torchvision

    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), file)
    policy = act_plus(shape={"cameras": 1}, backbone_weights=str(file)).eval()
    wanted = torch.load(file)["layer1.0.conv1.weight"]
    assert torch.equal(policy.model.backbone["layer1"][0].conv1.weight, wanted)
    policy.save_pretrained(tmp_path / "out")
    file.unlink()
    again = type(policy).from_pretrained(tmp_path / "out")
    seen = observation(policy.config)
    assert torch.equal(policy.predict_action_chunk(seen), again.predict_action_chunk(seen))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backbone_weights": "nowhere.pth"}, "`backbone_weights` .nowhere.pth. is no file"),
        ({"vision_backbone": "vit_b_16"}, "gives no feature map"),
        (
            {"vision_backbone": "mobilenet_v3_small", "pretrained_backbone_weights": "ResNet18_Weights.X"},
            "are none of",
        ),
    ],
)
def test_a_backbone_that_cannot_be_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        act_plus(shape={"cameras": 1}, **fields)


def test_networks_of_timm_need_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="pip install timm"):
        build_backbone(ActPlusConfig(**SMALL, vision_backbone="vit_small_patch14_dinov2"))


def test_importing_the_plugin_loads_no_model_code():
    program = (
        "import sys, lerobot_policy_act_plus; assert 'torch' not in sys.modules;"
        "import lerobot.policies; from lerobot.configs import PreTrainedConfig;"
        "assert 'act_plus' in PreTrainedConfig.get_known_choices();"
        "assert 'lerobot_policy_act_plus.modeling_act_plus' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
