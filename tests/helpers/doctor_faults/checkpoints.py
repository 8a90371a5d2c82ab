# SPDX-License-Identifier: Apache-2.0
"""A small whole checkpoint of stock ACT, and every way to break it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from doctor_faults import Fault, World
from lerobot_ext.doctor import checkpoint, checkpoint_child
from lerobot_ext.doctor.child import Answer
from lerobot_ext.doctor.findings import Section

CAMERA = "observation.images.wrist_cam"
PRE_STATE = "policy_preprocessor_step_3_normalizer_processor.safetensors"
POST_STATE = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


def statistics(*shape: int) -> dict[str, np.ndarray]:
    ones = np.ones(shape, np.float32)
    return {"mean": 0 * ones, "std": ones, "min": -ones, "max": ones, "count": np.array([50])}


def build(folder: Path) -> None:
    """Write the healthy checkpoint."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    config = ACTConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
            CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
        dim_model=32,
        n_heads=2,
        dim_feedforward=32,
        n_encoder_layers=1,
        n_vae_encoder_layers=1,
        latent_dim=4,
        chunk_size=5,
        n_action_steps=5,
        pretrained_backbone_weights=None,
        device="cpu",
    )
    get_policy_class("act")(config).save_pretrained(folder)
    stats = {"observation.state": statistics(6), "action": statistics(6), CAMERA: statistics(3, 1, 1)}
    for pipeline in make_pre_post_processors(config, dataset_stats=stats):
        pipeline.save_pretrained(folder)


def look(folder: Path) -> Section:
    """As the doctor does, without a process of its own."""
    return checkpoint.examine(folder, ask=lambda path: Answer(checkpoint_child.look(path)))


def broken(*breaks: Callable[[Path], object]) -> Callable[[World], Section]:
    """Copies the healthy checkpoint, breaks it, and has it examined."""

    def examine(world: World) -> Section:
        folder = world.tmp / "checkpoint"
        shutil.copytree(world.originals / "checkpoint", folder)
        for break_ in breaks:
            break_(folder)
        return look(folder)

    return examine


def without(file: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).unlink()


def cut(file: str) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:-100])


def edited(file: str, edit: Callable[[dict], object]) -> Callable[[Path], object]:
    """Changes a JSON file."""

    def change(folder: Path) -> None:
        value = json.loads((folder / file).read_text())
        edit(value)
        (folder / file).write_text(json.dumps(value))

    return change


def tensors(file: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    """Changes a file of tensors."""

    def change(folder: Path) -> None:
        values = load_file(folder / file)
        edit(values)
        save_file(values, folder / file)

    return change


def config(**values: object) -> Callable[[Path], object]:
    return edited("config.json", lambda value: value.update(values))


def fill(values: dict[str, torch.Tensor], name: str, number: float, place: int | None = None) -> None:
    values[name] = values[name].clone()
    values[name].view(-1)[slice(None) if place is None else place] = number


def make_legacy(folder: Path) -> None:
    """As before LeRobot 0.4: statistics among the weights, no pipelines."""
    for path in folder.glob("policy_*"):
        path.unlink()

    def add(weights: dict[str, torch.Tensor]) -> None:
        for feature, shape in {"observation.state": (6,), CAMERA: (3, 1, 1), "action": (6,)}.items():
            groups = (
                ["unnormalize_outputs", "normalize_targets"] if feature == "action" else ["normalize_inputs"]
            )
            for group in groups:
                for name in ("mean", "std"):
                    key = f"{group}.buffer_{feature.replace('.', '_')}.{name}"
                    weights[key] = torch.full(shape, 0.25 if name == "mean" else 2.0)

    tensors("model.safetensors", add)(folder)


def packages(*entries: dict[str, object]) -> Callable[[Path], object]:
    text = json.dumps({"format": 1, "policy": "act", "packages": list(entries)})
    return lambda folder: (folder / "lerobot_ext.json").write_text(text)


def rename_camera(values: dict[str, torch.Tensor]) -> None:
    for key in [key for key in values if key.startswith(CAMERA)]:
        values[key.replace("wrist_cam", "wrist.cam")] = values.pop(key)


def _drop_camera(values: dict[str, torch.Tensor]) -> None:
    for key in [key for key in values if key.startswith(CAMERA)]:
        del values[key]


def _last_step(name: str) -> Callable[[dict], object]:
    return lambda value: value["steps"].append({"registry_name": name, "config": {}})


ACTION_HEAD = "model.action_head.bias"
PRE, POST = checkpoint.PIPELINES["pre"], checkpoint.PIPELINES["post"]

FAULTS = [
    Fault("no config", "checkpoint_config", "config.json", broken(without("config.json"))),
    Fault("half a config", "checkpoint_config", "config.json", broken(cut("config.json"))),
    Fault("a field of another version", "checkpoint_config", "config.json", broken(config(not_a_field=1))),
    Fault("unknown policy type", "policy_type", "not_there_zz", broken(config(type="not_there_zz"))),
    Fault(
        "package of the policy missing",
        "package_missing",
        "lerobot_policy_zz",
        broken(packages({"name": "lerobot_policy_zz", "version": "1.2", "provides": ["policy zz"]})),
    ),
    Fault(
        "another version of a package",
        "package_version",
        "lerobot",
        broken(packages({"name": "lerobot", "version": "0.5.0", "provides": []})),
        level="note",
    ),
    Fault(
        "package list is no list",
        "package_list",
        "lerobot_ext.json",
        broken(packages({"no": "name"})),
        "note",
    ),
    Fault("no preprocessor", "processor_missing", PRE, broken(without(PRE))),
    Fault("no postprocessor", "processor_missing", POST, broken(without(POST))),
    Fault(
        "preprocessor without steps", "processor_config", PRE, broken(edited(PRE, lambda v: v.pop("steps")))
    ),
    Fault("legacy checkpoint", "legacy_checkpoint", "{tmp}/checkpoint", broken(make_legacy)),
    Fault("missing state file", "step_state", PRE_STATE, broken(without(PRE_STATE))),
    Fault("truncated state file", "step_state", POST_STATE, broken(cut(POST_STATE))),
    Fault("unknown step", "step", "step_zz", broken(edited(PRE, _last_step("step_zz")))),
    Fault(
        "step of a module that is not there",
        "step",
        "not_there_zz.Step",
        broken(edited(PRE, lambda v: v["steps"].append({"class": "not_there_zz.Step", "config": {}}))),
    ),
    Fault(
        "no device step",
        "override_name",
        "device_processor",
        broken(edited(PRE, lambda v: v["steps"].pop(2))),
    ),
    Fault("statistics of a camera lost", "stats_missing", CAMERA, broken(tensors(PRE_STATE, _drop_camera))),
    Fault("underscore in a camera's name", "stats_name", CAMERA, broken(tensors(PRE_STATE, rename_camera))),
    Fault(
        "no std",
        "stats_missing",
        "observation.state",
        broken(tensors(PRE_STATE, lambda v: v.pop("observation.state.std"))),
    ),
    Fault(
        "std of zero",
        "stats_constant",
        "observation.state",
        broken(tensors(PRE_STATE, lambda v: fill(v, "observation.state.std", 0.0))),
    ),
    Fault(
        "std of zero in one dimension",
        "stats_constant",
        "observation.state",
        broken(tensors(PRE_STATE, lambda v: fill(v, "observation.state.std", 0.0, 2))),
        level="note",
    ),
    Fault(
        "min above max",
        "stats_order",
        "observation.state",
        broken(
            lambda folder: [
                edited(PRE, lambda v: v["steps"][3]["config"]["norm_map"].update(STATE="MIN_MAX"))(folder),
                tensors(PRE_STATE, lambda v: fill(v, "observation.state.min", 3.0, 1))(folder),
            ]
        ),
    ),
    Fault(
        "NaN in the statistics",
        "stats_value",
        "observation.state",
        broken(tensors(PRE_STATE, lambda v: fill(v, "observation.state.mean", float("nan"), 0))),
    ),
    Fault(
        "statistics of another arm",
        "stats_shape",
        "observation.state",
        broken(tensors(PRE_STATE, lambda v: v.update({"observation.state.mean": torch.zeros(7)}))),
    ),
    Fault(
        "action scaled otherwise after than before",
        "action_stats_differ",
        "action",
        broken(tensors(POST_STATE, lambda v: fill(v, "action.std", 2.0))),
    ),
    Fault(
        "feature that the processor does not know",
        "features_differ",
        "observation.state",
        broken(edited(PRE, lambda v: v["steps"][3]["config"]["features"].pop("observation.state"))),
    ),
    Fault("no weights", "weights", "model.safetensors", broken(without("model.safetensors"))),
    Fault("truncated weights", "weights", "model.safetensors", broken(cut("model.safetensors"))),
    Fault(
        "pipeline that leads out",
        "processor_config",
        PRE,
        broken(edited(PRE, lambda v: v["steps"][3].update(state_file="../../other.safetensors"))),
    ),
    Fault(
        "pipeline of nonsense",
        "processor_config",
        POST,
        broken(edited(POST, lambda v: v["steps"][0]["config"].update(features={"action": 3}))),
    ),
    Fault("config of nonsense", "checkpoint_config", "config.json", broken(config(input_features=[1]))),
    Fault(
        "infinity in a weight",
        "weights_value",
        ACTION_HEAD,
        broken(tensors("model.safetensors", lambda v: fill(v, ACTION_HEAD, float("inf"), 1))),
    ),
    Fault(
        "NaN in the weights",
        "weights_value",
        ACTION_HEAD,
        broken(tensors("model.safetensors", lambda v: fill(v, ACTION_HEAD, float("nan"), 1))),
    ),
    Fault(
        "a weight lost",
        "weights_mismatch",
        "model.safetensors",
        broken(tensors("model.safetensors", lambda v: v.pop(ACTION_HEAD))),
    ),
    Fault("weights of another size", "weights_mismatch", "model.safetensors", broken(config(latent_dim=8))),
    Fault("backbone that is not there", "policy_build", "act", broken(config(vision_backbone="resnet99"))),
    Fault(
        "adapter without its base",
        "policy_build",
        "act",
        broken(
            config(use_peft=True),
            lambda folder: (folder / "model.safetensors").rename(folder / "adapter_model.safetensors"),
        ),
        level="note",
    ),
    Fault(
        "plugin that ends the process",
        "policy_build",
        "act",
        lambda world: checkpoint.examine(
            world.originals / "checkpoint", ask=lambda path: Answer(failure="ended with status 9")
        ),
    ),
    Fault(
        "weights nobody uses",
        "weights_extra",
        "model.safetensors",
        broken(tensors("model.safetensors", lambda v: v.update(extra=torch.zeros(2)))),
        level="note",
    ),
]
