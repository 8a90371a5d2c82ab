# SPDX-License-Identifier: Apache-2.0
"""Tries what the core changes about LeRobot against the LeRobot that is installed, tested window or not.

Outside the window each change stands down by itself, which is right for users and useless for us: we want to
know whether it would work. So the window is lifted here, in a process of its own. `python -m
lerobot_ext.guard.patches` prints one JSON object.
"""

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import asdict
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from lerobot_ext import lerobot_window
from lerobot_ext.testing.contract import Contract, broken, rule, run_contract

FRAMES = 5


class PatchContract(Contract):
    """What must hold for the core's changes to work with a LeRobot."""

    subject: ClassVar[str] = "patch"

    def _lift_window(self) -> None:
        """Let our changes install themselves with any LeRobot until the rule ends."""
        window = {"TESTED_FROM": lerobot_window.TESTED_FROM, "TESTED_BELOW": lerobot_window.TESTED_BELOW}
        self.at_end(lambda: vars(lerobot_window).update(window))
        vars(lerobot_window).update(TESTED_FROM=(0,), TESTED_BELOW=(1_000_000,))

    @rule(remedy="see what became of `lerobot.datasets.dataset_writer.DatasetWriter`, and adapt writer_hooks")
    def test_episode_journal_keeps_episodes(self) -> None:
        """A recording is journaled episode by episode, and the journal goes when the dataset is complete."""
        from lerobot_ext.data import episode_journal, journal_files, writer_hooks

        self._lift_window()
        episode_journal.start()
        self.at_end(writer_hooks.uninstall)
        self.at_end(episode_journal.stop)
        root = self.new_folder() / "dataset"
        dataset = _start_dataset(root)
        for episode in range(2):
            _add_episode(dataset, episode)
            kept = journal_files.journaled_episodes(root)
            if kept != list(range(episode + 1)):
                broken(f"after episode {episode} was saved the journal holds {kept}")
        dataset.finalize()
        if (root / journal_files.FOLDER).exists():
            broken("the journal is still there after the dataset was finished")
        n_frames = len(_open(root))
        if n_frames != 2 * FRAMES:
            broken(f"the dataset has {n_frames} frames, {2 * FRAMES} were recorded")

    @rule(remedy="see who encodes videos in `lerobot.datasets`, and adapt recording/priority")
    def test_videos_are_encoded_at_ordinary_priority(self) -> None:
        """Saving an episode and streaming one go through functions that ours can stand around."""
        from lerobot.datasets import dataset_writer, video_utils

        from lerobot_ext.recording import priority

        self._lift_window()
        calls: list[str] = []
        encoder = video_utils._CameraEncoderThread
        for owner, name in ((dataset_writer, "encode_video_frames"), (encoder, "run")):
            self.at_end(partial(setattr, owner, name, getattr(owner, name)))
            setattr(owner, name, _counting(calls, name))
        if not priority.install():
            broken("it does not install")
        self.at_end(priority.uninstall)
        root = self.new_folder()
        pictures = dataset_writer.DEFAULT_IMAGE_PATH.format(image_key="top", episode_index=0, frame_index=0)
        (root / pictures).parent.mkdir(parents=True)
        dataset_writer._encode_video_worker("top", 0, root, 10)
        thread = encoder(*[None] * 6)
        thread.start()
        thread.join()
        if calls != ["encode_video_frames", "run"]:
            broken(f"of encode_video_frames and run only {calls} were called")

    @rule(remedy="see what became of `lerobot.datasets.dataset_reader.DatasetReader`, and adapt ram_reader")
    def test_columns_in_memory_equal_the_stock_reader(self) -> None:
        """A dataset read from memory gives the very items that LeRobot's own reader gives."""
        import torch

        from lerobot_ext.data import ram_reader

        self._lift_window()
        root = self.new_folder() / "dataset"
        dataset = _start_dataset(root)
        for episode in range(2):
            _add_episode(dataset, episode)
        dataset.finalize()
        stock = _items(_open(root))
        if not ram_reader.install():
            broken("it does not install")
        self.at_end(ram_reader.uninstall)
        ours = _open(root)
        items = _items(ours)
        if ours.reader._columns is None:
            broken(f"it leaves the reading to LeRobot: {ours.reader._stock_because}")
        for row, (mine, theirs) in enumerate(zip(items, stock, strict=True)):
            if mine.keys() != theirs.keys():
                broken(f"row {row} has {sorted(mine)}, LeRobot's has {sorted(theirs)}")
            for key, value in theirs.items():
                equal = torch.equal(mine[key], value) if torch.is_tensor(value) else mine[key] == value
                if not equal:
                    broken(f"row {row}: `{key}` is {mine[key]}, LeRobot's is {value}")

    @rule(
        remedy="see what became of `lerobot.datasets.factory.resolve_delta_timestamps`; adapt camera_window"
    )
    def test_cameras_have_windows_of_their_own(self) -> None:
        """A policy's `camera_delta_indices` reach the dataset; its other features are left alone."""
        from lerobot.datasets import factory

        from lerobot_ext.data import camera_window

        self._lift_window()
        if not camera_window.install():
            broken("it does not install: the function it wraps is another")
        self.at_end(camera_window.uninstall)
        config = SimpleNamespace(
            observation_delta_indices=[-1, 0],
            action_delta_indices=None,
            reward_delta_indices=None,
            camera_delta_indices=[0],
        )
        camera, state = "observation.images.top", "observation.state"
        meta = SimpleNamespace(features={state: {}, camera: {}}, fps=10, camera_keys=[camera])
        windows = factory.resolve_delta_timestamps(config, meta)
        if windows != {state: [-0.1, 0.0], camera: [0.0]}:
            broken(f"the windows are {windows}")

    @rule(remedy="see how `lerobot.scripts.lerobot_train` makes its dataset and its sampler; adapt mixing")
    def test_datasets_can_be_mixed(self) -> None:
        """A spec file is taken for a dataset, and each frame of its datasets is drawn once an epoch."""
        from lerobot.configs.default import DatasetConfig
        from lerobot.scripts import lerobot_train

        from lerobot_ext.mixing import train_hooks

        self._lift_window()
        folder = self.new_folder()
        for name in "ab":
            dataset = _start_dataset(folder / name)
            _add_episode(dataset, 0)
            dataset.finalize()
        spec = folder / "mix.json"
        parts = [{"repo_id": f"guard/{name}", "root": name} for name in "ab"]
        spec.write_text(json.dumps({"datasets": parts}), encoding="utf-8")
        if not train_hooks.install(lerobot_train):
            broken("it does not install")
        self.at_end(train_hooks.uninstall)
        windows = dict.fromkeys(f"{kind}_delta_indices" for kind in ("observation", "action", "reward"))
        config = SimpleNamespace(
            dataset=DatasetConfig(repo_id=str(spec)),
            trainable_config=SimpleNamespace(**windows),
            is_reward_model_training=False,
            sample_weighting=None,
            resume=False,
            tolerance_s=1e-4,
        )
        data, _ = lerobot_train.make_train_eval_datasets(config)
        sampler = lerobot_train.EpisodeAwareSampler(
            data.meta.episodes["dataset_from_index"],
            data.meta.episodes["dataset_to_index"],
            episode_indices_to_use=data.episodes,
            shuffle=True,
            absolute_to_relative_idx=data.absolute_to_relative_idx,
        )
        drawn = sorted(int(data[row]["index"]) for row in sampler)
        if drawn != list(range(2 * FRAMES)):
            broken(f"the rows drawn are {drawn}")

    @rule(
        remedy="see who makes a robot's pipelines, and where loops start; adapt pipelines/defaults, episodes"
    )
    def test_robot_side_pipelines_come_from_a_file(self) -> None:
        """The stock commands get the pipelines of a file, and their loops say where an episode starts."""
        from lerobot.processor import factory
        from lerobot.scripts import lerobot_record, lerobot_replay, lerobot_teleoperate

        from lerobot_ext.pipelines import defaults, episodes
        from lerobot_ext.pipelines.running import GuardedPipeline

        self._lift_window()
        file = self.new_folder() / "steps.json"
        step = {"class": "lerobot.processor.pipeline.IdentityProcessorStep"}
        file.write_text(json.dumps({"robot_action": {"steps": [step]}}), encoding="utf-8")
        self.at_end(episodes.uninstall)
        self.at_end(defaults.uninstall)
        if not defaults.install(str(file)):
            broken("it does not install")
        made = [*factory.make_default_processors(), lerobot_replay.make_default_robot_action_processor()]
        if not all(isinstance(one, GuardedPipeline) for one in made):
            broken("a stock command gets LeRobot's own pipeline")
        loops = (lerobot_record.record_loop, lerobot_teleoperate.teleop_loop)
        if not all(hasattr(one, "__wrapped__") for one in loops) or not episodes.is_told():
            broken("the start of an episode is not told")

    @rule(remedy="see what became of `lerobot.policies.factory.make_policy`; adapt pipelines/training")
    def test_policies_are_trained_with_extra_steps(self) -> None:
        """A new policy is built for features that can be changed before, and its pipelines can be had."""
        import inspect

        from lerobot.policies import factory
        from lerobot.scripts import lerobot_train

        from lerobot_ext.pipelines import training

        self._lift_window()
        if "dataset_to_policy_features" not in factory.make_policy.__code__.co_names:
            broken("make_policy takes the dataset's features from elsewhere")
        if {"policy_cfg", "pretrained_path"} - set(
            inspect.signature(factory.make_pre_post_processors).parameters
        ):
            broken("make_pre_post_processors has other parameters")
        self.at_end(training.uninstall)
        if not training.install(lerobot_train):
            broken("it does not install")

    @rule(
        remedy="see what became of `lerobot.datasets` and draccus' registries; adapt overrides.replace_choice"
    )
    def test_registered_names_can_be_replaced(self) -> None:
        """A subclass can take the name of a registered robot, and the stock class stays reachable."""
        from dataclasses import dataclass

        from lerobot.robots.config import RobotConfig
        from lerobot.robots.koch_follower import KochFollowerConfig

        from lerobot_ext import overrides

        registry = RobotConfig.get_known_choices()
        now = registry["koch_follower"]
        assert issubclass(now, KochFollowerConfig)

        @dataclass(kw_only=True)
        class Replacement(now):  # type: ignore[misc, valid-type]
            pass

        before = dict(registry)
        self.at_end(lambda: (registry.clear(), registry.update(before)))
        overrides.replace_choice(RobotConfig, "koch_follower", Replacement)
        if RobotConfig.get_choice_class("koch_follower") is not Replacement:
            broken("LeRobot still answers with the class that was replaced")
        if not issubclass(RobotConfig.get_choice_class("koch_follower_stock"), KochFollowerConfig):
            broken("`koch_follower_stock` is not the stock class")

    @rule(
        remedy="see what became of `draccus.parsers.decoding.decode_dataclass` and "
        "`draccus.argparsing.ArgumentParser`, and adapt option_errors"
    )
    def test_refused_options_are_explained(self) -> None:
        """What a stock policy's configuration says of a value is in the error that is printed."""
        import draccus
        from draccus.utils import DecodingError
        from lerobot.configs.train import TrainPipelineConfig
        from lerobot.policies.act.configuration_act import ACTConfig

        from lerobot_ext import option_errors

        self._lift_window()
        was_on = option_errors.uninstall()
        self.at_end(option_errors.install if was_on else option_errors.uninstall)
        if not option_errors.install():
            broken("it does not install")
        try:
            ACTConfig(n_action_steps=200)
        except ValueError as error:
            wanted = str(error)
        words = ["--dataset.repo_id=guard/a", "--policy.type=act", "--policy.n_action_steps=200"]
        try:
            draccus.parse(TrainPipelineConfig, args=words)
        except DecodingError as error:
            if wanted not in str(error):
                broken(f"it prints {str(error)!r}")
        else:
            broken("more action steps than a chunk has are taken")
        try:
            with redirect_stderr(StringIO()):
                draccus.parse(TrainPipelineConfig, args=[*words[:2], "--policy.chunk_sice=20"])
        except SystemExit as stop:
            if not getattr(stop, "explained", False):
                broken("an option that does not exist ends without the nearest that does")
        else:
            broken("an option that does not exist is taken")

    @rule(remedy="see what became of `huggingface_hub.utils._http`, and adapt hub_loopback")
    def test_hub_requests_can_be_rerouted(self) -> None:
        """The one request that ignores `HF_ENDPOINT` can be sent to a Hub on loopback."""
        import huggingface_hub
        from huggingface_hub.utils import _http

        from lerobot_ext import hub_loopback

        self.at_end(lambda: huggingface_hub.set_client_factory(_http.default_client_factory))
        hub_loopback.install("http://127.0.0.1:9")
        client = huggingface_hub.get_session()
        request = client.build_request("POST", "https://huggingface.co/api/validate-yaml")
        client.event_hooks["request"][-1](request)  # ours; the others may refuse to go online at all
        if request.url.host != "127.0.0.1":
            broken(f"the request goes to {request.url}")


class WindowContract(Contract):
    """What must hold inside and outside the tested window."""

    subject: ClassVar[str] = "window"

    @rule(remedy="ask `inside_tested_window()` in `install` before anything is changed")
    def test_untested_versions_are_left_alone(self) -> None:
        """Outside the tested window no change is installed; inside, each is."""
        from lerobot_ext.data import camera_window, ram_reader, writer_hooks
        from lerobot_ext.lerobot_window import inside_tested_window

        inside = inside_tested_window()
        for module in (writer_hooks, ram_reader, camera_window):
            installed = module.install()
            self.at_end(module.uninstall)
            if installed != inside:
                broken(f"{module.__name__} is {'in' if installed else 'not in'} effect")


def _counting(calls: list[str], name: str) -> Callable[..., None]:
    """A function that does nothing but count."""

    def count(*_: Any, **__: Any) -> None:
        calls.append(name)

    return count


def _start_dataset(root: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {
        name: {"dtype": "float32", "shape": (2,), "names": ["a", "b"]}
        for name in ("action", "observation.state")
    }
    return LeRobotDataset.create("guard/made", 10, features, root=root, use_videos=False)


def _add_episode(dataset: Any, episode: int) -> None:
    import numpy as np

    for index in range(FRAMES):
        values = np.array([episode, index], np.float32)
        dataset.add_frame({"action": values, "observation.state": -values, "task": "none"})
    dataset.save_episode()


def _open(root: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    windows = {"action": [0.0, 0.1]}
    return LeRobotDataset("guard/made", root=root, delta_timestamps=windows)


def _items(dataset: Any) -> list[dict[str, Any]]:
    return [dataset[row] for row in range(len(dataset))]


def main(write: Callable[[str], object] = sys.stdout.write) -> int:
    """Try everything and print the outcomes as JSON."""
    # First what holds as installed, then what would hold without the window.
    outcomes = [outcome for contract in (WindowContract, PatchContract) for outcome in run_contract(contract)]
    write(json.dumps([asdict(outcome) for outcome in outcomes]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
