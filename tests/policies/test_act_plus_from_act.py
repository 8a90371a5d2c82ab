# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext from-act` and `presets`: stock checkpoints go on as act_plus, and every preset builds."""

import json

import draccus
import pytest
import torch
import yaml
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot_policy_act_plus import ActPlusConfig, ActPlusPolicy
from lerobot_policy_act_plus.command import presets
from lerobot_policy_act_plus.convert import convert
from small_act import act_config, features, observation

from lerobot_ext.cli.main import main

STATS = {
    "observation.state": {"mean": torch.ones(4), "std": torch.full((4,), 2.0)},
    "observation.environment_state": {"mean": torch.zeros(3), "std": torch.ones(3)},
    "action": {"mean": torch.full((4,), 5.0), "std": torch.full((4,), 3.0)},
}


@pytest.fixture
def stock(tmp_path):
    """A checkpoint of stock ACT as `lerobot-train` writes it."""
    torch.manual_seed(4)
    policy = ACTPolicy(act_config(ACTConfig)).eval()
    folder = tmp_path / "act"
    policy.save_pretrained(folder)
    for pipeline in make_pre_post_processors(policy.config, dataset_stats=STATS):
        pipeline.save_pretrained(folder)
    return folder, policy


def acted(policy, folder):
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(folder))
    seen = observation(policy.config, seed=3)
    return after(policy.predict_action_chunk(before(seen)))


def test_a_converted_policy_acts_as_the_stock_one_to_the_bit(stock, tmp_path):
    folder, policy = stock
    report = convert(folder, tmp_path / "plus")
    assert (report["new"], report["dropped"]) == ([], [])
    assert report["kept"] == len(policy.state_dict())
    plus = ActPlusPolicy.from_pretrained(tmp_path / "plus", strict=True)
    assert type(plus.config) is ActPlusConfig
    assert torch.equal(acted(policy, folder), acted(plus, tmp_path / "plus"))


def test_flags_come_along_and_change_nothing_before_they_are_trained(stock, tmp_path, capsys):
    folder, policy = stock
    words = ["--policy.prefix_steps=4", "--policy.commit_steps", "2", "--json"]
    assert main(["from-act", str(folder), str(tmp_path / "plus"), *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert all("prefix_embedding" in name for name in report["new"])
    plus = ActPlusPolicy.from_pretrained(tmp_path / "plus", strict=True)
    assert (plus.config.prefix_steps, plus.config.commit_steps) == (4, 2)
    assert plus.supports_rtc()
    assert torch.allclose(acted(policy, folder), acted(plus, tmp_path / "plus"), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy.prefix_steps=99"], "`prefix_steps` (99)"),
        (["--policy.prefx_steps=9"], "--policy.type=act_plus --help"),
        (["--policy.use_relative_actions=true"], "cannot be converted"),
        (["--policy.temporal_ensemble_coeff=-0.1"], "6.6 % success"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(stock, tmp_path, capsys, words, said):
    folder, _ = stock
    assert main(["from-act", str(folder), str(tmp_path / "plus"), *words]) != 0
    err = capsys.readouterr().err
    assert said in " ".join(err.split())
    assert "Traceback" not in err
    assert not (tmp_path / "plus").exists()


def test_another_policy_and_an_existing_folder_are_refused(stock, tmp_path):
    folder, _ = stock
    convert(folder, tmp_path / "plus")
    with pytest.raises(ValueError, match="type 'act_plus'; only 'act'"):
        convert(tmp_path / "plus", tmp_path / "again")
    with pytest.raises(FileExistsError, match="exists; give a folder that does not"):
        convert(folder, tmp_path / "plus")
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        convert(tmp_path, tmp_path / "again")


def test_the_presets_are_the_five_and_each_builds_a_policy():
    assert sorted(presets()) == ["act", "act_depth", "act_flow", "act_language", "act_rtc"]
    for name, file in presets().items():
        fields = yaml.safe_load(file.read_text())["policy"]
        assert fields.pop("type") == "act_plus"
        shape = {"cameras": 1, "depths": int(name == "act_depth")}
        config = ActPlusConfig(
            **fields,
            device="cpu",
            pretrained_backbone_weights=None,
            dim_model=16,
            n_heads=2,
            **features(**shape),
        )
        policy = ActPlusPolicy(config)
        assert policy.supports_rtc() == (name == "act_rtc")
        assert config.is_stock == (name == "act")


@pytest.mark.parametrize("name", ["act", "act_depth", "act_flow", "act_language", "act_rtc"])
def test_lerobot_reads_each_preset_with_a_dataset_beside_it(name):
    words = ["--dataset.repo_id=user/data", "--policy.device=cpu", "--policy.push_to_hub=false"]
    config = draccus.parse(TrainPipelineConfig, presets()[name], args=words)
    assert config.policy.type == "act_plus"
    assert config.dataset.repo_id == "user/data"


def test_an_unknown_preset_is_refused_with_the_known_ones(capsys):
    assert main(["presets", "act_fast"]) != 0
    assert "act_rtc" in capsys.readouterr().err
