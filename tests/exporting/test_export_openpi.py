# SPDX-License-Identifier: Apache-2.0
"""pi0 goes to OpenPI's names and comes back the same, by LeRobot's own mapping."""

import json
import re

import pytest
import torch
from lerobot.configs import NormalizationMode
from lerobot.policies.pi0 import processor_pi0
from lerobot.policies.pi0.modeling_pi0 import PI0Policy
from safetensors.torch import load_file, save_file
from serving_checkpoints import save_act
from tiny_pi0 import PI0_MARKS, shrink_pi0, tiny_pi0_config, word_tokenizer

from lerobot_ext.cli.command import CommandError
from lerobot_ext.exporting.export import _act, _load, export
from lerobot_ext.exporting.openpi import read_norm_stats, read_openpi

pytestmark = PI0_MARKS
EMBEDDING = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
# Of a checkpoint that OpenPI's own converter wrote, layer numbers left out.
OPENPI_NAMES = {
    "action_in_proj.weight",
    "action_time_mlp_in.bias",
    "state_proj.weight",
    "paligemma_with_expert.gemma_expert.lm_head.weight",
    "paligemma_with_expert.gemma_expert.model.layers.N.self_attn.q_proj.weight",
    "paligemma_with_expert.gemma_expert.model.norm.weight",
    "paligemma_with_expert.paligemma.lm_head.weight",
    "paligemma_with_expert.paligemma.model.language_model.layers.N.mlp.gate_proj.weight",
    "paligemma_with_expert.paligemma.model.multi_modal_projector.linear.weight",
    "paligemma_with_expert.paligemma.model.vision_tower.vision_model.embeddings.patch_embedding.weight",
}
STATS = {
    "observation.state": {name: torch.rand(5) + 0.5 for name in ("mean", "std", "q01", "q99")},
    "action": {name: torch.rand(4) + 0.5 for name in ("mean", "std")},
}


@pytest.fixture
def pi0(tmp_path, monkeypatch):
    """A tiny pi0 as a checkpoint, its tokenizer too."""
    shrink_pi0(monkeypatch)
    tokenizer = word_tokenizer(tmp_path / "words")
    stock = processor_pi0.TokenizerProcessorStep
    monkeypatch.setattr(
        processor_pi0,
        "TokenizerProcessorStep",
        lambda **named: stock(**(named | {"tokenizer_name": str(tokenizer)})),
    )
    torch.manual_seed(3)
    config = tiny_pi0_config()
    policy = PI0Policy(config)
    with torch.no_grad():  # as after a training: the embedding has gone its own way from the head
        policy.state_dict()[EMBEDDING].add_(0.25)
    before, after = processor_pi0.make_pi0_pre_post_processors(config, dataset_stats=STATS)
    folder = tmp_path / "pi0"
    for part in (policy, before, after):
        part.save_pretrained(folder)
    return folder


def _acting(folder, observations):
    """In this process: another one would have a pi0 of full size."""
    return _act(*_load(folder)[:3], observations)


def test_a_pi0_comes_back_to_the_bit(pi0, tmp_path):
    out = tmp_path / "openpi"
    done = export(pi0, out, "openpi", asset="lift", check=_acting)
    assert done.compared == 3
    assert done.files == [
        "assets/lift/norm_stats.json",
        "config.json",
        "model.safetensors",
        *sorted(path.name for path in pi0.glob("policy_p*")),
    ]
    policy, before, after, _ = _load(pi0)
    back = read_openpi(out, tiny_pi0_config())
    for name, tensor in policy.state_dict().items():
        if not name.endswith("paligemma.lm_head.weight"):  # no part of a policy that acts
            assert torch.equal(back.state_dict()[name], tensor), name
    # LeRobot's own loader alone, and LeRobot's processors with OpenPI's statistics.
    stock = PI0Policy.from_pretrained(out, config=tiny_pi0_config()).eval()
    pipelines = processor_pi0.make_pi0_pre_post_processors(
        stock.config, dataset_stats=read_norm_stats(out, "lift")
    )
    observations = [{**_observation(seed)} for seed in range(3)]
    assert torch.equal(_act(stock, *pipelines, observations), _act(policy, before, after, observations))


def _observation(seed):
    from lerobot_ext.pipelines.acting import made_up

    return made_up(tiny_pi0_config().input_features, seed)


def test_the_names_are_openpis_and_the_statistics_too(pi0, tmp_path):
    out = tmp_path / "openpi"
    export(pi0, out, "openpi", asset="lift")
    weights = load_file(out / "model.safetensors")
    names = {re.sub(r"\.\d+\.", ".N.", name) for name in weights}
    assert names >= OPENPI_NAMES
    assert not any(name.startswith("model.") or "embed_tokens" in name for name in names)
    written = json.loads((out / "assets/lift/norm_stats.json").read_text())["norm_stats"]
    assert set(written) == {"state", "actions"}
    assert set(written["state"]) == {"mean", "std", "q01", "q99"}
    assert set(written["actions"]) == {"mean", "std"}
    for ours, statistics in read_norm_stats(out, "lift").items():
        for name, numbers in statistics.items():
            assert torch.equal(numbers, STATS[ours][name])


def test_weights_that_lerobot_would_pass_over_are_found(pi0, tmp_path):
    out = tmp_path / "openpi"
    export(pi0, out, "openpi")
    weights = load_file(out / "model.safetensors")
    del weights["state_proj.bias"]
    save_file(weights, out / "model.safetensors")
    with pytest.raises(ValueError, match=r"was not read as it is: .*state_proj\.bias"):
        read_openpi(out, tiny_pi0_config())


def test_other_policies_and_normalisations_are_refused(pi0, tmp_path):
    with pytest.raises(CommandError, match="this is act"):
        export(save_act(tmp_path / "act"), tmp_path / "out", "openpi")
    config = json.loads((pi0 / "config.json").read_text())
    config["normalization_mapping"]["STATE"] = NormalizationMode.MIN_MAX.value
    (pi0 / "config.json").write_text(json.dumps(config))
    with pytest.raises(CommandError, match=r"normalization_mapping\[STATE\]` is MIN_MAX"):
        export(pi0, tmp_path / "out", "openpi")
    assert not (tmp_path / "out").exists()
