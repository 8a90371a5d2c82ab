# SPDX-License-Identifier: Apache-2.0
"""A client gets the checkpoints on the list, by no trick any other."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_ext.serving.allowlist import AllowList, NotAllowed


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("places")
    for name in ("open/a", "open/run/checkpoints/000010/pretrained_model", "secret", "open/empty", "other/a"):
        (root / name).mkdir(parents=True)
        if "empty" not in name:
            (root / name / "config.json").write_text("{}")
    (root / "open" / "out").symlink_to(root / "secret")
    (root / "open" / "last").symlink_to("run/checkpoints/000010")
    (root / "open" / "halfway").mkdir()
    (root / "open" / "halfway" / "config.json").symlink_to(root / "secret" / "config.json")
    return root


@pytest.fixture(scope="module")
def allowed(places):
    return AllowList([], [places / "open"])


@pytest.mark.parametrize("name", ["a", "run/checkpoints/000010/pretrained_model", "last/pretrained_model"])
def test_checkpoints_below_the_folder_are_found(allowed, places, name):
    assert allowed.find(name).source == str((places / "open" / name).resolve())


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "a/../../secret",
        "a/..",
        "./a",
        ".",
        "..",
        "a/",
        "/a",
        "//a",
        "out",
        "halfway",
        "empty",
        "run",
        "a\\..\\..\\secret",
        "a\0b",
        "~",
        "~root",
        "user/repo",
        "hf://user/repo",
        "file:///etc",
        "a" * 5000,
        "a/" * 500 + "a",
        "",
        " a",
        "a\n",
        "\uff41",
    ],
)
def test_everything_else_is_refused(allowed, name):
    with pytest.raises(NotAllowed, match="not on this server's list"):
        allowed.find(name)


def test_absolute_paths_are_refused_even_into_the_folder(allowed, places):
    for path in (places / "open" / "a", places / "secret"):
        with pytest.raises(NotAllowed):
            allowed.find(str(path))


@settings(max_examples=300, deadline=None)
@given(
    name=st.lists(
        st.sampled_from(["..", ".", "a", "out", "secret", "/", "", "run", "\\", "~", "%2e%2e"]), max_size=6
    ).map("/".join)
)
def test_no_name_leads_out_of_the_folder(allowed, places, name):
    try:
        source = allowed.find(name).source
    except NotAllowed:
        return
    assert os.path.realpath(source).startswith(str((places / "open").resolve()) + os.sep)


def test_a_listed_path_has_its_full_and_its_short_name(places):
    path = str(places / "open" / "a")
    allowed = AllowList([path, "user/repo"])
    assert allowed.find("a").source == allowed.find(path).source == path
    assert allowed.find("user/repo").source == "user/repo"
    with pytest.raises(NotAllowed, match="It offers: a, user/repo"):
        allowed.find("user/other")
    with pytest.raises(NotAllowed):
        allowed.find("")  # two are offered


def test_two_checkpoints_of_one_name_are_told_apart_by_their_paths(places):
    paths = [str(places / place / "a") for place in ("open", "other")]
    allowed = AllowList(paths)
    with pytest.raises(NotAllowed):
        allowed.find("a")
    assert [allowed.find(path).source for path in paths] == paths


def test_the_only_policy_needs_no_name(places):
    path = str(places / "secret")
    assert AllowList([path]).find("").source == path


def test_the_offer_lists_what_can_be_had(allowed):
    assert allowed.names() == ["a", "run/checkpoints/000010/pretrained_model"]


@pytest.mark.parametrize(
    ("paths", "folders", "why"),
    [
        ([], [], "at least once"),
        (["nowhere/at/all"], [], "neither a checkpoint folder nor a Hub id"),
        (["../x/y"], [], "neither"),
        ([], ["nowhere"], "no folder"),
        (["open/empty"], [], "holds no config.json"),
    ],
)
def test_a_list_that_cannot_be_served_is_refused(places, monkeypatch, paths, folders, why):
    monkeypatch.chdir(places)
    with pytest.raises(ValueError, match=why):
        AllowList(paths, [places / folder for folder in folders])
