# SPDX-License-Identifier: Apache-2.0
"""Extra steps around a policy: at train time and in a saved checkpoint, in this process."""

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hub_push_parts import tiny_training
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.policies import make_policy
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import make_pre_post_processors
from safetensors.torch import load_file
from step_files import step, write

from lerobot_ext.hub import train_hooks
from lerobot_ext.hub.requirements import read_requirements
from lerobot_ext.pipelines import training
from lerobot_ext.pipelines.acting import act_once
from lerobot_ext.pipelines.checkpoint import add_steps
from lerobot_ext.pipelines.file import PipelineError
from lerobot_ext.pipelines.insertion import ExtraSteps

SMALL = {
    "device": "cpu",
    "push_to_hub": False,
    **tiny_training.SMALL,
    "pretrained_backbone_weights": None,
}


def numbers(width):
    return {"dtype": "float32", "shape": (width,), "names": [f"j{i}" for i in range(width)]}


@pytest.fixture(scope="module")
def meta(tmp_path_factory):
    """A dataset's features and statistics, without frames: three joints and a camera of 48 by 64."""
    picture = {"dtype": "image", "shape": (48, 64, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": numbers(3), "action": numbers(3), "observation.images.top": picture}
    root = tmp_path_factory.mktemp("meta") / "data"
    made = LeRobotDatasetMetadata.create("user/tiny", 10, features, root=root, use_videos=False)
    made.stats = {
        name: {"mean": torch.zeros(width), "std": torch.ones(width)}
        for name, width in (("observation.state", 3), ("action", 3))
    } | {"observation.images.top": {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}}
    return made


@pytest.fixture(autouse=True)
def stock():
    """LeRobot as it is: another test may have had them installed in the real training script."""
    training.uninstall()
    train_hooks.uninstall()


@pytest.fixture
def script(stock):
    """Stands for the training script, with the extra steps installed."""
    made = ModuleType("stands_for_lerobot_train")
    made.make_policy, made.make_pre_post_processors = make_policy, make_pre_post_processors
    assert training.install(made)
    yield made
    training.uninstall()


def build(script, meta, config=None, **more):
    config = config or ACTConfig(**SMALL)
    policy = script.make_policy(cfg=config, ds_meta=meta)
    return policy, *script.make_pre_post_processors(policy_cfg=config, dataset_stats=meta.stats, **more)


def names(pipeline):
    return [getattr(type(one), "_registry_name", None) or type(one).__name__ for one in pipeline.steps]


def test_a_policy_is_built_for_what_its_steps_give(script, meta, tmp_path, monkeypatch):
    file = write(
        tmp_path / "p.json",
        policy_preprocessor=[step("ShrinkPictures", size=32)],
        policy_postprocessor=[step("ClampActions", bound=0.1)],
    )
    monkeypatch.setenv(training.VARIABLE, str(file))
    policy, before, after = build(script, meta)
    assert policy.config.input_features["observation.images.top"].shape == (3, 32, 32)
    assert names(before).index("ShrinkPictures") == names(before).index("normalizer_processor") - 1
    assert names(after) == ["unnormalizer_processor", "ClampActions", "device_processor"]
    for pipeline, folder in ((before, tmp_path), (after, tmp_path)):
        pipeline.save_pretrained(folder / "ckpt")
    policy.save_pretrained(tmp_path / "ckpt")
    monkeypatch.delenv(training.VARIABLE)
    raw = {
        "observation.state": PolicyFeature(FeatureType.STATE, (3,)),
        "observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 48, 64)),
    }
    assert act_once(tmp_path / "ckpt", raw).abs().max() <= 0.1


def test_without_a_file_nothing_changes(script, meta):
    policy, before, after = build(script, meta)
    stock = make_pre_post_processors(policy.config, dataset_stats=meta.stats)
    assert [names(before), names(after)] == [names(one) for one in stock]


def test_a_field_of_the_policy_names_the_file_too(script, meta, tmp_path):
    file = write(tmp_path / "p.json", policy_preprocessor=[step("Offset")])
    config = ACTConfig(**SMALL)
    config.extra_steps = str(file)
    assert "Offset" in names(build(script, meta, config)[1])


def test_two_files_are_refused(script, meta, tmp_path, monkeypatch):
    monkeypatch.setenv(training.VARIABLE, str(tmp_path / "a.json"))
    config = ACTConfig(**SMALL)
    config.extra_steps = str(tmp_path / "b.json")
    with pytest.raises(PipelineError, match="put all steps into one file"):
        build(script, meta, config)


@pytest.mark.parametrize(
    ("pipelines", "says"),
    [
        ({"policy_preprocessor": [step("WiderActions")]}, "takes the action's shape from the dataset"),
        ({"policy_postprocessor": [step("WiderActions")]}, "takes the action's shape from the dataset"),
        ({"policy_preprocessor": [step("RenamePictures")]}, "keep them, or rename with `--rename_map`"),
        ({"policy_preprocessor": [step("WiderState")]}, "after_normalizer"),
        ({"policy_preprocessor": [step("device_processor")]}, "would be replaced at the next evaluation"),
        ({"robot_action": [step("Scale")]}, "known are policy_preprocessor, policy_postprocessor"),
    ],
)
def test_what_stock_commands_cannot_follow_is_refused(script, meta, tmp_path, monkeypatch, pipelines, says):
    monkeypatch.setenv(training.VARIABLE, str(write(tmp_path / "p.json", **pipelines)))
    with pytest.raises(PipelineError, match=says):
        build(script, meta)


def test_a_wider_state_goes_behind_the_normaliser(script, meta, tmp_path, monkeypatch):
    file = tmp_path / "p.json"
    file.write_text(
        json.dumps({"policy_preprocessor": {"steps": [step("WiderState")], "where": "after_normalizer"}})
    )
    monkeypatch.setenv(training.VARIABLE, str(file))
    policy, before, _ = build(script, meta)
    assert policy.config.input_features["observation.state"].shape == (4,)
    batch = before(
        {"observation.state": torch.zeros(2, 3), "observation.images.top": torch.zeros(2, 3, 48, 64)}
    )
    assert batch["observation.state"].shape == (2, 4)


def test_values_that_leave_their_statistics_are_told(script, meta, tmp_path, monkeypatch, caplog):
    file = write(tmp_path / "p.json", policy_preprocessor=[step("ShrinkPictures"), step("Offset")])
    monkeypatch.setenv(training.VARIABLE, str(file))
    build(script, meta)
    told = [one.getMessage() for one in caplog.records if "before the normaliser" in one.getMessage()]
    assert len(told) == 1
    assert "the values of observation.state are" in told[0]


def test_hooks_of_the_hub_see_the_steps(meta, tmp_path, monkeypatch):
    made = tiny_training.training_script()
    made.make_policy = make_policy
    file = write(tmp_path / "p.json", policy_preprocessor=[step("Offset")])
    monkeypatch.setenv(training.VARIABLE, str(file))
    for first, second in ((training.install, train_hooks.install), (train_hooks.install, training.install)):
        assert first(made)
        assert second(made)
        build(made, meta)
        assert "Offset" in names(train_hooks._run.pipelines[0])
        (training if second is training.install else train_hooks).uninstall()
        (train_hooks if second is training.install else training).uninstall()


# --- a saved checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of stock ACT without a camera."""
    folder = tmp_path_factory.mktemp("trained") / "ckpt"
    return tiny_training.train(folder.parent).save(folder)


@pytest.fixture
def checkpoint(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "ckpt"))


INPUTS = {
    "observation.state": PolicyFeature(FeatureType.STATE, (3,)),
    "observation.environment_state": PolicyFeature(FeatureType.ENV, (2,)),
}


def test_added_steps_are_in_the_checkpoint_and_act(checkpoint, tmp_path):
    file = write(
        tmp_path / "p.json",
        policy_preprocessor=[step("Offset"), step("Offset")],
        policy_postprocessor=[step("ClampActions", bound=0.05)],
    )
    stats = load_file(checkpoint / "policy_preprocessor_step_3_normalizer_processor.safetensors")
    done = add_steps(checkpoint, ExtraSteps.load(file))
    assert done.acted
    assert done.placed["policy_preprocessor"] == {"places": [3, 4], "steps": ["Offset", "Offset"]}
    assert act_once(checkpoint, INPUTS).abs().max() <= 0.05
    moved = load_file(checkpoint / "policy_preprocessor_step_5_normalizer_processor.safetensors")
    assert all(torch.equal(moved[name], stats[name]) for name in stats)
    assert not (checkpoint / "policy_preprocessor_step_3_normalizer_processor.safetensors").exists()
    # LeRobot itself would name every file so.
    again, _ = make_pre_post_processors(ACTConfig(), pretrained_path=str(checkpoint))
    again.save_pretrained(tmp_path / "again")
    told = {path.name for path in (tmp_path / "again").glob("*.safetensors")}
    assert told == {path.name for path in checkpoint.glob("policy_preprocessor_*.safetensors")}
    provided = {
        part
        for package in read_requirements(checkpoint / "lerobot_ext.json").packages
        for part in package.provides
    }
    unpackaged = read_requirements(checkpoint / "lerobot_ext.json").unpackaged
    assert "step toy_steps.Offset" in provided | set(unpackaged)


def test_a_new_folder_leaves_the_old_one_alone(checkpoint, tmp_path):
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    extra = ExtraSteps.load(write(tmp_path / "p.json", policy_preprocessor=[step("Offset")]))
    add_steps(checkpoint, extra, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
    assert act_once(tmp_path / "new", INPUTS).shape == (1, 3)
    with pytest.raises(PipelineError, match="there already"):
        add_steps(checkpoint, extra, tmp_path / "new")


@pytest.mark.parametrize("fault", ["dry run", "does not act", "killed"])
def test_nothing_changes_unless_all_is_well(checkpoint, tmp_path, monkeypatch, fault):
    import lerobot_ext.pipelines.checkpoint as module

    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    bad = [step("Offset", width=2)] if fault == "does not act" else [step("Offset")]
    extra = ExtraSteps.load(write(tmp_path / "p.json", policy_preprocessor=bad))
    if fault == "dry run":
        assert add_steps(checkpoint, extra, dry_run=True).acted
    elif fault == "does not act":
        with pytest.raises(PipelineError, match="does not act: RuntimeError"):
            add_steps(checkpoint, extra)
    else:
        stock = module.os.rename

        def rename(old, new):
            if Path(new) == checkpoint and "unfinished" in str(old):
                raise OSError("no")
            stock(old, new)

        monkeypatch.setattr(module.os, "rename", rename)
        with pytest.raises(OSError, match="no"):
            add_steps(checkpoint, extra)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
    assert not list(tmp_path.glob(".ckpt.unfinished*"))


@pytest.mark.parametrize(
    ("where", "index"),
    [("start", 0), ("before_normalizer", 3), ("after_normalizer", 4), ("end", 4), ("1", 1)],
)
def test_places(checkpoint, tmp_path, where, index):
    file = write(tmp_path / "p.json", policy_preprocessor=[step("Offset")])
    extra = ExtraSteps.load(file, where={"policy_preprocessor": where})
    assert add_steps(checkpoint, extra, dry_run=True).placed["policy_preprocessor"]["places"] == [index]


def test_steps_may_bracket_the_normaliser(script, meta, checkpoint, tmp_path, monkeypatch):
    # Stock ACT leaves an environment state unnormalised.
    keys = ["observation.state"]
    bracket = [step(f"lerobot_ext_{side}_normalizer", keys=keys) for side in ("before", "after")]
    bracket[1]["where"] = "after_normalizer"
    file = write(tmp_path / "p.json", policy_preprocessor=bracket)
    wanted = ["lerobot_ext_before_normalizer", "normalizer_processor", "lerobot_ext_after_normalizer"]
    monkeypatch.setenv(training.VARIABLE, str(file))
    assert names(build(script, meta)[1])[-3:] == wanted
    add_steps(checkpoint, ExtraSteps.load(file))
    saved = json.loads((checkpoint / "policy_preprocessor.json").read_text())["steps"]
    assert [one["registry_name"] for one in saved][-3:] == wanted
    turned = write(tmp_path / "q.json", policy_preprocessor=bracket[::-1])
    with pytest.raises(PipelineError, match="the order in which they run"):
        add_steps(checkpoint, ExtraSteps.load(turned))


def test_relative_actions_find_their_way_back_during_training_too(script, meta, tmp_path, monkeypatch):
    """LeRobot connects the two steps when it loads them; evaluation within a training comes before that."""
    file = write(
        tmp_path / "p.json",
        policy_preprocessor=[step("lerobot_ext_relative_actions", n_action_steps=4)],
        policy_postprocessor=[step("lerobot_ext_absolute_actions")],
    )
    monkeypatch.setenv(training.VARIABLE, str(file))
    _, before, after = build(script, meta)
    relative = before.steps[names(before).index("lerobot_ext_relative_actions")]
    absolute = after.steps[names(after).index("lerobot_ext_absolute_actions")]
    assert absolute.relative_step is relative


@pytest.mark.parametrize("where", ["middle", "9"])
def test_a_place_that_is_none_is_refused(checkpoint, tmp_path, where):
    file = write(tmp_path / "p.json", policy_preprocessor=[step("Offset")])
    with pytest.raises(PipelineError, match=r"no place"):
        add_steps(checkpoint, ExtraSteps.load(file, where={"policy_preprocessor": where}))


def test_a_pipeline_without_a_name_that_stock_overrides_is_refused(checkpoint, tmp_path):
    path = checkpoint / "policy_preprocessor.json"
    saved = json.loads(path.read_text())
    saved["steps"] = [one for one in saved["steps"] if one["registry_name"] != "device_processor"]
    path.write_text(json.dumps(saved))
    extra = ExtraSteps.load(write(tmp_path / "p.json", policy_preprocessor=[step("Offset")]))
    with pytest.raises(PipelineError, match="has no device_processor"):
        add_steps(checkpoint, extra)


def test_training_goes_on_from_a_checkpoint_that_has_the_steps_and_from_no_other(
    script, checkpoint, tmp_path, monkeypatch
):
    file = write(tmp_path / "p.json", policy_preprocessor=[step("Offset")])
    monkeypatch.setenv(training.VARIABLE, str(file))
    config = ACTConfig(**SMALL)
    with pytest.raises(PipelineError, match=r"pipeline add --policy\.path"):
        script.make_pre_post_processors(policy_cfg=config, pretrained_path=str(checkpoint))
    add_steps(checkpoint, ExtraSteps.load(file))
    before, _ = script.make_pre_post_processors(policy_cfg=config, pretrained_path=str(checkpoint))
    assert names(before).count("Offset") == 1
