# SPDX-License-Identifier: Apache-2.0
"""Each trial of a change to LeRobot fails when LeRobot is no longer what the change was made for."""

import huggingface_hub.utils._http as hub_client
import pytest
from lerobot.datasets import dataset_reader, dataset_writer, factory
from lerobot.datasets.dataset_writer import DatasetWriter
from lerobot.robots.config import RobotConfig

from lerobot_ext import lerobot_window
from lerobot_ext.guard.patches import PatchContract, WindowContract
from lerobot_ext.testing.contract import run_contract


def failed(contract) -> dict[str, str]:
    """Names and findings of the rules that do not hold; a class of its own forgets earlier outcomes."""
    fresh = type("Fresh", (contract,), {})
    return {o.rule.name.partition("/")[2]: o.found for o in run_contract(fresh) if o.status != "passed"}


def no_journal(monkeypatch):
    stock = DatasetWriter.save_episode
    monkeypatch.setattr(DatasetWriter, "commit_episode", stock, raising=False)
    # Whoever saves calls another method now; ours is never called.
    monkeypatch.setattr(
        "lerobot.datasets.lerobot_dataset.LeRobotDataset.save_episode",
        lambda self, *words, **named: self.writer.commit_episode(*words, **named),
    )


def unsorted_columns(monkeypatch):
    stock = dataset_reader.DatasetReader.get_item
    # What LeRobot's reader gives is no longer what is in the columns.
    monkeypatch.setattr(
        dataset_reader.DatasetReader,
        "get_item",
        lambda self, idx: (
            stock(self, idx) | ({"unit": "rad"} if type(self) is dataset_reader.DatasetReader else {})
        ),
    )


def another_encoder(monkeypatch):
    # Whoever saves an episode calls another function; ours stands around one that nobody calls.
    monkeypatch.setattr(dataset_writer, "_encode_video_worker", lambda *_: None)


def other_parameters(monkeypatch):
    stock = factory.resolve_delta_timestamps
    monkeypatch.setattr(factory, "resolve_delta_timestamps", lambda policy, meta: stock(policy, meta))


def another_sampler(monkeypatch):
    from lerobot.scripts import lerobot_train

    monkeypatch.setattr(lerobot_train, "FrameSampler", lerobot_train.EpisodeAwareSampler, raising=False)
    monkeypatch.delattr(lerobot_train, "EpisodeAwareSampler")


def another_maker_of_pipelines(monkeypatch):
    from lerobot.processor.factory import make_default_robot_action_processor
    from lerobot.scripts import lerobot_replay

    own = lambda: make_default_robot_action_processor()  # noqa: E731
    monkeypatch.setattr(lerobot_replay, "make_default_robot_action_processor", own)


def other_features(monkeypatch):
    from lerobot.policies import factory as policies

    monkeypatch.setattr(policies, "make_policy", lambda cfg, ds_meta=None: None)


def another_decoder(monkeypatch):
    from draccus.parsers import decoding

    stock = decoding.decode_dataclass
    # Whoever makes a configuration calls another function; ours stands in for one that nobody calls.
    monkeypatch.setattr(
        decoding,
        "decode_choice_class",
        lambda cls, raw_value, path: stock(
            cls.get_choice_class(raw_value["type"]), {k: v for k, v in raw_value.items() if k != "type"}, path
        ),
    )


def a_copied_registry(monkeypatch):
    known = RobotConfig.get_known_choices
    monkeypatch.setattr(RobotConfig, "get_known_choices", classmethod(lambda cls: dict(known())))


def another_hub_client(monkeypatch):
    monkeypatch.setattr(hub_client, "make_client", hub_client.default_client_factory, raising=False)
    monkeypatch.delattr(hub_client, "default_client_factory")


def test_all_changes_work_with_the_lerobot_of_our_window():
    assert failed(PatchContract) == {}
    assert failed(WindowContract) == {}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (no_journal, "episode-journal-keeps-episodes"),
        (another_encoder, "videos-are-encoded-at-ordinary-priority"),
        (unsorted_columns, "columns-in-memory-equal-the-stock-reader"),
        (other_parameters, "cameras-have-windows-of-their-own"),
        (another_sampler, "datasets-can-be-mixed"),
        (another_maker_of_pipelines, "robot-side-pipelines-come-from-a-file"),
        (other_features, "policies-are-trained-with-extra-steps"),
        (another_decoder, "refused-options-are-explained"),
        (a_copied_registry, "registered-names-can-be-replaced"),
        (another_hub_client, "hub-requests-can-be-rerouted"),
    ],
)
def test_a_changed_lerobot_fails_exactly_the_trial_it_concerns(change, rule, monkeypatch):
    change(monkeypatch)
    assert list(failed(PatchContract)) == [rule]


def test_a_lerobot_beyond_the_window_is_left_alone(monkeypatch):
    monkeypatch.setattr(lerobot_window, "TESTED_BELOW", (0, 6))
    assert failed(WindowContract) == {}
    monkeypatch.setattr("lerobot_ext.data.ram_reader.inside_tested_window", lambda: True)
    assert "ram_reader is in effect" in failed(WindowContract)["untested-versions-are-left-alone"]
