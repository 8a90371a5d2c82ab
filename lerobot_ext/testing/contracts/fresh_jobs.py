# SPDX-License-Identifier: Apache-2.0
"""What a fresh process is asked to do: the jobs of `run_fresh`, each with a folder made for it."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch


def unpickle_config(folder: Path) -> dict[str, Any]:
    """What a DataLoader worker would know of a config: it is unpickled without plugin discovery."""
    config = pickle.loads((folder / "config.pickle").read_bytes())
    names = ("observation_delta_indices", "action_delta_indices", "reward_delta_indices")
    return {name: getattr(config, name, None) for name in names}


def run_policy(folder: Path) -> dict[str, Any]:
    """Load policy and processors from `folder` as `lerobot-rollout` does, and act once.

    Returns:
        `stage`, the first of `config`, `policy`, `processors`, `action` that went wrong, with `error`; or
        `stage` `done`, and the action in `fresh_action.pt`.
    """
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.utils.import_utils import register_third_party_plugins

    from .synthetic import seed_everything

    inputs = torch.load(folder / "inputs.pt", weights_only=True)
    torch.set_num_threads(inputs["threads"])
    register_third_party_plugins()
    stage = "config"
    try:
        config = PreTrainedConfig.from_pretrained(folder)
        stage = "policy"
        policy = get_policy_class(config.type).from_pretrained(folder, config=config)
        stage = "processors"
        before, after = make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides={
                "device_processor": {"device": "cpu"},
                "rename_observations_processor": {"rename_map": {}},
            },
        )
        stage = "action"
        seed_everything(inputs["seed"])
        policy.reset()
        with torch.inference_mode():
            action = after(policy.select_action(before(inputs["observation"])))
        torch.save(action.clone(), folder / "fresh_action.pt")
    except Exception as error:  # noqa: BLE001 - the plugin boundary
        message = " ".join(str(error).split())
        return {"stage": stage, "error": f"{type(error).__name__}: {message}"}
    return {"stage": "done"}


def run_pipeline(folder: Path) -> dict[str, Any]:
    """Load a saved pipeline after plugin discovery, and run it on the transition in `transition.pickle`."""
    from lerobot.processor import DataProcessorPipeline
    from lerobot.processor.converters import identity_transition
    from lerobot.utils.import_utils import register_third_party_plugins

    from .synthetic import seed_everything

    register_third_party_plugins()
    name = json.loads((folder / "pipeline.name").read_text(encoding="utf-8"))
    pipeline = DataProcessorPipeline.from_pretrained(
        folder, config_filename=name, to_transition=identity_transition, to_output=identity_transition
    )
    transition = pickle.loads((folder / "transition.pickle").read_bytes())
    # As the contract does on its side: a step may draw from torch's generator.
    seed_everything(3)
    (folder / "answer.pickle").write_bytes(pickle.dumps(pipeline(transition)))
    return {}


def run_program(folder: Path) -> dict[str, Any]:
    """Run the Python program in `program.json`, on a path of its own; what it prints."""
    import contextlib
    import io
    import sys

    request = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    sys.path[:] = request["path"]
    sys.argv[:] = ["-c", *request["arguments"]]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(request["program"], "program", "exec"), {"__name__": "__main__"})
    return {"said": said.getvalue()}
