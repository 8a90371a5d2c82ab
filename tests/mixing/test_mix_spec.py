# SPDX-License-Identifier: Apache-2.0
import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lerobot_ext.mixing.init import commented_spec
from lerobot_ext.mixing.spec import SpecError, is_spec_path, load_spec, parse_spec


def problems_of(tmp_path, text, name="mix.yaml"):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    return {problem.where: f"{problem.what} | {problem.remedy}" for problem in caught.value.problems}


def test_a_full_spec_is_read(tmp_path):
    path = tmp_path / "kitchen.yaml"
    path.write_text(
        """
        weights: explicit
        epoch_size: 100
        features: intersection
        check_names: false
        on_missing: skip
        seed: 7
        datasets:
          - {repo_id: me/a, root: data/a, weight: 2, episodes: [3, "0:2"], task: Lift, loss_weight: 0.5}
          - repo_id: me/b
            weight: 1.5
            revision: v3.0
            task_prefix: "b: "
            rename: {"observation.images.cam_*": "observation.images.*"}
            drop: [observation.images.wrist]
        """
    )
    spec = load_spec(path)
    assert spec.name == "kitchen"
    first, second = spec.datasets
    assert first.root == str(tmp_path / "data/a")
    assert first.episodes == (0, 1, 3)
    assert second.rename == {"observation.images.cam_*": "observation.images.*"}
    assert parse_spec(json.loads(json.dumps(spec.to_json())), path) == spec


def test_all_problems_are_reported_at_once_with_their_places(tmp_path):
    found = problems_of(
        tmp_path,
        """
        weigths: by_frames
        weights: by_frame
        epoch_size: 0
        datasets:
          - {repo: me/a, weight: -1}
          - {repo_id: me/b, episodes: ["5:2"], task: x, task_prefix: y, drop: wrist}
        """,
    )
    assert "did you mean `weights`?" in found["weigths"]
    assert "did you mean by_frames?" in found["weights"]
    assert "is 0" in found["epoch_size"]
    assert "did you mean `repo_id`?" in found["datasets[0].repo"]
    assert "is missing" in found["datasets[0].repo_id"]
    assert "is -1 | make it a number above 0" in found["datasets[0].weight"]
    assert "'5:2'" in found["datasets[1].episodes"]
    assert "keep one of them" in found["datasets[1].task_prefix"]
    assert "'wrist' | make it a list" in found["datasets[1].drop"]
    assert len(found) == 9


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("datasets: [", "mix.yaml", "cannot be parsed"),
        ("a: 1\na: 2", "mix.yaml", "the key 'a' is there twice"),
        ("? [1, 2]\n: 3", "mix.yaml", "cannot be parsed"),
        ("", "file", "is None | make it a mapping"),
        ("[1]", "file", "make it a mapping"),
        ("datasets: []", "datasets", "names no dataset"),
        ("datasets: [me/a]", "datasets[0]", "is 'me/a' | make it a mapping"),
        ("datasets: [{repo_id: null}]", "datasets[0].repo_id", "is missing"),
        ("datasets: [{repo_id: a, episodes: []}]", "datasets[0].episodes", "is empty"),
        ("datasets: [{repo_id: a, episodes: [1, 1]}]", "datasets[0].episodes", "names [1] twice"),
        ("datasets: [{repo_id: a, weight: .inf}]", "datasets[0].weight", "is inf"),
        ("datasets: [{repo_id: a, weight: 1}, {repo_id: b}]", "datasets[1].weight", "is missing"),
        ("weights: by_frames\ndatasets: [{repo_id: a, weight: 2}]", "datasets[0].weight", "`weights` is by_"),
        ("seed: true\ndatasets: [{repo_id: a}]", "seed", "is True"),
    ],
)
def test_a_wrong_spec_is_refused_at_its_place(tmp_path, text, where, said):
    assert said in problems_of(tmp_path, text)[where]


def test_json_with_a_key_twice_is_refused(tmp_path):
    assert "twice" in problems_of(tmp_path, '{"seed": 1, "seed": 2}', "mix.json")["mix.json"]


def test_a_file_that_is_not_there_says_how_to_write_one(tmp_path):
    with pytest.raises(SpecError, match="--init"):
        load_spec(tmp_path / "none.yaml")


def test_weights_alone_make_a_spec_explicit(tmp_path):
    raw = {"datasets": [{"repo_id": "a", "weight": 1}, {"repo_id": "b", "weight": 3}]}
    assert parse_spec(raw, tmp_path / "mix.json").weights == "explicit"


def test_only_files_are_taken_for_specs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.yaml").mkdir()
    assert is_spec_path("mix.yaml")
    assert is_spec_path("a/b.JSON")
    assert not is_spec_path("user/name")
    assert not is_spec_path("folder.yaml")
    assert not is_spec_path(["user/name"])


keys = st.sampled_from(
    ["datasets", "repo_id", "weights", "weight", "episodes", "rename", "drop", "seed", "x"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner), max_leaves=12
)
entries = st.dictionaries(keys, trees)


@given(raw=trees | st.fixed_dictionaries({"datasets": st.lists(entries)}))
@settings(max_examples=400, deadline=None)
@example(raw={"datasets": [{"repo_id": None}]})
def test_whatever_a_file_says_is_a_spec_or_a_list_of_problems(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "mix.json"
    try:
        spec = parse_spec(raw, path)
    except SpecError as error:
        problems = error.problems
    else:
        assert parse_spec(spec.to_json(), path) == spec
        return
    assert problems
    assert all(problem.remedy for problem in problems)


@given(text=st.text(alphabet="abdeirstw:_[]{},-\n \"'*&!?|>%#0", max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_text_crashes_the_parser(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text)
    with pytest.raises(SpecError):
        load_spec(path)


@pytest.mark.parametrize("name", ["mix.yaml", "mix.json"])
def test_a_spec_that_we_write_can_be_read(tmp_path, name):
    (tmp_path / "data/reach/meta").mkdir(parents=True)
    path = tmp_path / name
    path.write_text(commented_spec(["me/lift", str(tmp_path / "data/reach")], path))
    lift, reach = load_spec(path).datasets
    assert lift.repo_id == "me/lift"
    assert reach.root == str(tmp_path / "data/reach")


def test_every_line_that_a_new_spec_offers_can_be_uncommented(tmp_path):
    path = tmp_path / "mix.yaml"
    text = commented_spec(["me/lift"], path)
    offered = re.findall(r"^( *)# (\w+: .*?)(?:  +#.*)?$", text, flags=re.MULTILINE)
    assert len(offered) == 12
    for _, line in offered:
        given = text.replace("weights: by_frames", "weights: explicit") if "weight: 2" in line else text
        path.write_text(given.replace(f"# {line}", line))
        load_spec(path)
