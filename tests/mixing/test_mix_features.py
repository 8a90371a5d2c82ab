# SPDX-License-Identifier: Apache-2.0
import pytest

from lerobot_ext.mixing.features import Described, merge, name_features
from lerobot_ext.mixing.spec import PartSpec

STATE = {"dtype": "float32", "shape": (2,), "names": ["a", "b"]}
VIDEO = {"dtype": "video", "shape": (4, 6, 3), "names": ["height", "width", "channels"]}
DEPTH = VIDEO | {"info": {"is_depth_map": True}}
INDEX = {"dtype": "int64", "shape": (1,), "names": None}


def described(label, fps=30, robot="koch_follower", **features):
    named = {name.replace("_", "."): feature for name, feature in features.items()}
    return Described(label, named | {"index": INDEX}, fps, robot)


def told(merged):
    return {problem.where: f"{problem.what} | {problem.remedy}" for problem in merged.problems}


def names(given, **keys):
    return name_features(given, PartSpec("me/a", **keys), "datasets[0]")


def test_a_star_in_the_new_name_is_what_the_pattern_matched():
    given = {"observation.images.cam_top": VIDEO, "observation.images.cam_side": VIDEO, "index": INDEX}
    found, problems = names(given, rename={"observation.images.cam_*": "observation.images.*"})
    assert not problems
    assert found == {
        "observation.images.top": "observation.images.cam_top",
        "observation.images.side": "observation.images.cam_side",
        "index": "index",
    }


def test_names_can_be_swapped():
    found, problems = names({"a": STATE, "b": STATE}, rename={"a": "b", "b": "a"})
    assert not problems
    assert found == {"b": "a", "a": "b"}


def test_drop_works_on_the_new_names():
    found, problems = names({"a.x": STATE, "a.y": STATE}, rename={"a.x": "b"}, drop=("a.*",))
    assert not problems
    assert found == {"b": "a.x"}


@pytest.mark.parametrize(
    ("keys", "where", "said"),
    [
        ({"rename": {"observation.stat": "x"}}, "rename", "did you mean `observation.state`?"),
        ({"rename": {"observation.*": "same"}}, "rename", "would both be 'same'"),
        ({"rename": {"action": "a.*"}}, "rename", "more `*`"),
        ({"rename": {"action": "index"}}, "rename", "LeRobot's own"),
        ({"rename": {"index": "number"}}, "rename", "matches no feature"),
        ({"drop": ("actoin",)}, "drop", "did you mean `action`?"),
        ({"drop": ("index",)}, "drop", "matches no feature"),
    ],
)
def test_a_wrong_rename_or_drop_is_told(keys, where, said):
    given = {"observation.state": STATE, "observation.extra": STATE, "action": STATE, "index": INDEX}
    _, problems = names(given, **keys)
    assert [problem.where for problem in problems] == [f"datasets[0].{where}"]
    assert said in str(problems[0])


def test_all_mismatches_are_reported_at_once_by_name():
    one = described("one", action=STATE, images_top=VIDEO, state=STATE, gripper=STATE, depth=DEPTH)
    two = described(
        "two",
        fps=10,
        robot="so_follower",
        action=STATE | {"shape": (3,)},
        images_front=VIDEO,
        state=STATE | {"names": ["b", "a"]},
        gripper=STATE | {"dtype": "int64"},
        depth=VIDEO,
    )
    merged = merge([one, two], "exact")
    said = told(merged)
    assert "camera is in one, not in two (two has `images.front`)" in said["images.top"]
    assert "features: intersection" in said["images.top"]
    assert "camera is in two, not in one" in said["images.front"]
    assert "shapes differ: [2] in one; [3] in two" in said["action"]
    assert "names differ: [a, b] in one; [b, a] in two | the order differs" in said["state"]
    assert "types differ: float in one; integer in two" in said["gripper"]
    assert "types differ: depth video in one; camera in two" in said["depth"]
    assert "30 in one; 10 in two" in said["fps"]
    assert len(said) == 7
    assert any("koch_follower in one; so_follower in two" in note for note in merged.notes)


def test_an_intersection_leaves_out_what_not_all_have():
    merged = merge(
        [described("one", action=STATE, top=VIDEO), described("two", action=STATE, wrist=VIDEO)],
        "intersection",
    )
    assert not merged.problems
    assert list(merged.features) == ["action", "index"]
    assert merged.left_out == {"one": ["top"], "two": ["wrist"]}


def test_nothing_in_common_is_a_problem():
    merged = merge([described("one", a=STATE), described("two", b=STATE)], "intersection")
    assert "nothing in common" in told(merged)["features"]


def test_other_names_pass_where_the_file_says_so():
    parts = [described("one", state=STATE), described("two", state=STATE | {"names": ["x", "y"]})]
    assert "check_names: false" in told(merge(parts, "exact"))["state"]
    assert not merge(parts, "exact", check_names=False).problems


def test_nested_names_of_older_datasets_are_compared_by_what_they_say():
    nested = STATE | {"names": {"motors": ["a", "b"]}}
    assert not merge([described("one", state=STATE), described("two", state=nested)], "exact").problems


def test_pictures_and_videos_are_both_cameras():
    parts = [described("one", top=VIDEO | {"dtype": "image"}), described("two", top=VIDEO)]
    merged = merge(parts, "exact")
    assert not merged.problems
    assert merged.features["top"]["dtype"] == "video"
