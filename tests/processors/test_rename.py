# SPDX-License-Identifier: Apache-2.0
"""Renaming by globs: what matches, what is refused, the way back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lerobot.processor import TransitionKey
from lerobot_robot_processors.steps.rename import RenameStep

NAMES = st.text("ab._*?[", min_size=1, max_size=6).filter(lambda text: "*" not in text)
OBSERVATION = TransitionKey.OBSERVATION


def renamed(step, **values):
    return list(step({OBSERVATION: dict(values)})[OBSERVATION])


@given(st.lists(NAMES, unique=True, min_size=1, max_size=6))
def test_the_inverse_of_known_keys_is_exact(keys):
    step = RenameStep({"a*": "b.*", "*.b": "[*"}, required=False)
    try:
        there = step({OBSERVATION: dict.fromkeys(keys, 1)})
    except ValueError:
        return  # two keys would get one name: refused, nothing lost
    assert len(there[OBSERVATION]) == len(keys)
    assert list(step.inverted(keys)(there)[OBSERVATION]) == keys


@given(st.dictionaries(NAMES, NAMES, max_size=4), st.lists(NAMES, unique=True, max_size=6))
def test_no_value_is_ever_lost(rules, keys):
    step = RenameStep(rules, required=False)
    values = {key: object() for key in keys}
    try:
        after = step({OBSERVATION: values})[OBSERVATION]
    except ValueError:
        return
    assert list(after.values()) == list(values.values())


def test_stars_keep_their_text_in_order_and_the_first_rule_counts():
    step = RenameStep({"cam_*_v*": "images.*.*", "cam_*": "other.*"})
    assert renamed(step, cam_top_v2=1, cam_side=2, x=3) == ["images.top.2", "other.side", "x"]


def test_two_keys_may_swap_their_names():
    assert renamed(RenameStep({"a": "b", "b": "a"}), a=1, b=2) == ["b", "a"]


def test_brackets_and_dots_are_plain_text():
    step = RenameStep({"a.[x]*": "b*"})
    assert step.mapping(["a.[x]1", "aax1"]) == {"a.[x]1": "b1", "aax1": "aax1"}


def test_padding_masks_follow():
    transition = {
        OBSERVATION: {"observation.a": torch.zeros(2)},
        TransitionKey.COMPLEMENTARY_DATA: {"observation.a_is_pad": 1, "task": "go", "action_is_pad": 2},
    }
    after = RenameStep({"observation.a": "observation.b"})(transition)
    assert after[TransitionKey.COMPLEMENTARY_DATA] == {
        "observation.b_is_pad": 1,
        "task": "go",
        "action_is_pad": 2,
    }


def test_what_cannot_be_renamed_is_named():
    with pytest.raises(ValueError, match="`a` and `b` would both be `b`"):
        renamed(RenameStep({"a": "b"}), a=1, b=2)
    with pytest.raises(KeyError, match="rule for `c\\*` matches nothing of observation: a"):
        renamed(RenameStep({"c*": "d*"}), a=1)
    with pytest.raises(ValueError, match=r"a\* -> b.*equal in their number of `\*`"):
        RenameStep({"a*": "b"})
    with pytest.raises(ValueError, match="`parts`"):
        RenameStep({"a": "b"}, parts=["reward"])
