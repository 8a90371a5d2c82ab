# SPDX-License-Identifier: Apache-2.0
"""`lerobot_ext.json`: what a checkpoint needs, written, read back, and compared with what is installed."""

import json
import sys
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_ext.hub.providers import Package, describe_distribution, find_packages
from lerobot_ext.hub.requirements import (
    FORMAT,
    Requirements,
    RequirementsError,
    install_line,
    parse_requirements,
    read_requirements,
    shortfalls,
)
from lerobot_ext.testing.distributions import write_distribution

words = st.text("abcdefgh_", min_size=1, max_size=8).filter(lambda word: word.strip("_") == word)
packages = st.builds(
    Package,
    name=words,
    version=st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}", fullmatch=True),
    provides=st.lists(words).map(tuple),
    extra=words | st.just(""),
    editable=st.booleans(),
    url=st.sampled_from(["", "git+https://example.org/a.git@0123456789abcdef"]),
)


@given(
    packages=st.lists(packages, max_size=4).map(tuple),
    history=st.just({}) | st.just({"loss": [[1, 0.5]], "evaluations": []}),
)
def test_what_is_written_is_read_back(packages, history):
    needs = Requirements("act", packages, ("step a.B",), "3.12", "0.6.1", {"steps": 3}, history)
    assert parse_requirements(json.dumps(needs.to_json()).encode(), "x") == needs


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(RequirementsError) as refused:
        parse_requirements(text, "the file")
    assert str(refused.value).startswith("the file ")
    assert "\n" not in str(refused.value)


GOOD = {
    "format": FORMAT,
    "policy": "act",
    "packages": [{"name": "lerobot", "version": "0.6.1", "provides": ["policy act"]}],
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": FORMAT + 1}, "knows up to"),
        ({"format": "1"}, "`format`"),
        ({"policy": ""}, "`policy`"),
        ({"packages": {}}, "`packages`"),
        ({"packages": ["lerobot"]}, "'lerobot'"),
        ({"packages": [{"name": "a"}]}, "`version`"),
        ({"packages": [{"name": "--index-url=x", "version": "1"}]}, "`name`"),
        ({"packages": [{"name": "a; rm -rf", "version": "1"}]}, "`name`"),
        ({"packages": [{"name": "a", "version": "1 $(x)"}]}, "`version`"),
        ({"packages": [{"name": "a", "version": "1", "url": "file:///etc"}]}, "`url`"),
        ({"training": []}, "`training`"),
    ],
)
def test_a_wrong_field_is_named(change, said):
    with pytest.raises(RequirementsError, match="the file") as refused:
        parse_requirements(json.dumps(GOOD | change).encode(), "the file")
    assert said in str(refused.value)


def test_letters_that_steer_a_terminal_do_not_get_through():
    raw = GOOD | {"policy": "act\x1b[2J", "unpackaged": ["a\rb"]}
    needs = parse_requirements(json.dumps(raw).encode(), "x")
    assert (needs.policy, needs.unpackaged) == ("act?[2J", ("a?b",))


def test_missing_and_other_versions_are_told_apart(tmp_path, monkeypatch):
    write_distribution(tmp_path, "one_that_is_here", version="1.2.0")
    monkeypatch.syspath_prepend(tmp_path)
    short = shortfalls(
        [
            Package("one_that_is_here", "1.2"),
            Package("one_that_is_here", "1.3"),
            Package("one_that_is_not", "1"),
        ]
    )
    assert [(entry.kind, entry.package.version, entry.installed) for entry in short] == [
        ("version", "1.3", "1.2.0"),
        ("missing", "1", ""),
    ]


def test_the_install_line_is_exact_and_safe_to_paste():
    line = install_line(
        [
            Package("b", "1.0+local"),
            Package("lerobot", "0.6.1", extra="smolvla"),
            Package("a", "2", url="git+https://example.org/a.git@abc"),
        ]
    )
    expected = "pip install 'lerobot[smolvla]==0.6.1' 'a @ git+https://example.org/a.git@abc' b==1.0+local"
    assert line == expected


def test_a_file_is_replaced_whole(tmp_path):
    first = Requirements("act", (Package("lerobot", "0.6.1"),))
    path = first.save(tmp_path)
    Requirements("diffusion", first.packages).save(tmp_path)
    assert read_requirements(path).policy == "diffusion"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# Which distribution provides a module


def test_installed_editable_and_loose_modules_are_told_apart(tmp_path, monkeypatch):
    site, source, loose = tmp_path / "site", tmp_path / "source", tmp_path / "loose"
    write_distribution(site, "wheel-dist", modules={"wheel_pkg": ""})
    info = site / "wheel_dist-0.1.0.dist-info"
    (info / "RECORD").write_text("wheel_pkg/__init__.py,,\n")
    # Editable: no file is listed, only where the source is; its name is not that of its package.
    write_distribution(site, "other-name", version="2.0")
    (source / "src" / "edited_pkg").mkdir(parents=True)
    (source / "src" / "edited_pkg" / "__init__.py").write_text("")
    origin = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (site / "other_name-2.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))
    # A checkout around it, editable as well: the nearer folder counts.
    write_distribution(site, "around", version="3.0")
    origin = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    (site / "around-3.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))
    loose.mkdir()
    (loose / "loose_module.py").write_text("")
    outside = tmp_path.parent / f"{tmp_path.name}_outside"
    outside.mkdir()
    (outside / "lonely_module.py").write_text("")
    for folder in (site, source / "src", loose, outside):
        monkeypatch.syspath_prepend(folder)
    found, unpackaged = find_packages(
        {
            "policy a": "wheel_pkg.modeling",
            "step b": "edited_pkg.steps",
            "step c": "loose_module",
            "step d": "lonely_module",
            "step e": "lerobot.processor",
        }
    )
    assert [(package.name, package.version, package.provides, package.editable) for package in found] == [
        ("around", "3.0", ("step c",), True),
        ("lerobot", metadata.version("lerobot"), ("step e",), False),
        ("other-name", "2.0", ("step b",), True),
        ("wheel-dist", "0.1.0", ("policy a",), False),
    ]
    assert unpackaged == ["step d"]


def test_our_own_plugins_are_found_although_they_are_installed_from_source():
    module = "lerobot_policy_hierarchical_diffusion.modeling_hierarchical_diffusion"
    [package], unpackaged = find_packages({"policy x": module})
    assert package.name == "lerobot_policy_hierarchical_diffusion"
    assert unpackaged == []
    assert "lerobot_policy_hierarchical_diffusion.modeling" not in sys.modules, "looking must not import"


def test_a_distribution_from_version_control_keeps_its_commit(tmp_path, monkeypatch):
    info = write_distribution(tmp_path, "from_git", version="1.0")
    origin = {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(tmp_path)
    package = describe_distribution("from_git", ["policy x"])
    assert package.requirement == "from_git @ git+https://example.org/x.git@abc123"
