# SPDX-License-Identifier: Apache-2.0
"""The watch over what tests leave behind for each other."""

import pytest
from leftovers import Watch
from lerobot.datasets import factory
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.policies import factory as policies

from lerobot_ext.patches import Patch


@pytest.fixture
def watch():
    return Watch()


def test_a_function_of_a_test_is_told_by_its_place_and_by_who_left_it(watch, monkeypatch):
    monkeypatch.setattr(factory, "resolve_delta_timestamps", lambda *_: None)
    assert watch.after("one", module_goes_on=True) == ""
    said = watch.after("two", module_goes_on=False)
    assert said.startswith("lerobot.datasets.factory.resolve_delta_timestamps is <function ")
    assert __file__ in said
    assert said.endswith("; so since one")
    assert watch.after("three", module_goes_on=False) == "", "it is told once"


def test_a_patch_of_ours_that_stays_is_told_and_taking_it_out_is_fine(watch):
    patch = Patch("toy part", "no toys")
    patch.install(
        {(policies, "make_policy"): lambda: None, (LeRobotDatasetMetadata, "save_episode"): lambda: None}
    )
    try:
        said = watch.after("one", module_goes_on=False).splitlines()
    finally:
        patch.uninstall()
    assert sorted(line.split()[0] for line in said) == [
        "lerobot.datasets.dataset_metadata.LeRobotDatasetMetadata.save_episode",
        "lerobot.policies.factory.make_policy",
    ]
    assert watch.after("two", module_goes_on=False) == ""


def test_an_environment_variable_is_told(watch, monkeypatch):
    monkeypatch.setenv("LEROBOT_EXT_POOL", "8GiB")
    monkeypatch.setenv("ANOTHER", "1")
    said = watch.after("one", module_goes_on=False)
    assert said == "environment variable LEROBOT_EXT_POOL is '8GiB', was None; so since one"


def test_what_is_put_back_in_time_is_fine(watch, monkeypatch):
    monkeypatch.setattr(factory, "resolve_delta_timestamps", print)
    watch.after("one", module_goes_on=True)
    monkeypatch.undo()
    assert watch.after("two", module_goes_on=False) == ""
