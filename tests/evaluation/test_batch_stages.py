# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lerobot_ext.evaluation.batch_stages import Value, describe, stage
from lerobot_ext.evaluation.module_trace import ModuleTrace


def test_a_tensor_is_described_by_its_finite_numbers():
    found = describe(torch.tensor([[1.0, math.nan], [3.0, -math.inf]]))
    assert found == Value("tensor", (2, 2), "float32", "cpu", 1.0, 2.0, 3.0, 2)
    assert describe(torch.full((2,), math.nan)).low is None
    assert describe(torch.empty(0, 3)).shape == (0, 3)
    assert describe(torch.tensor([True, False])).mean == 0.5


def test_what_is_no_tensor_is_described_by_its_text():
    assert describe(["lift", "place"]) == Value("list", (2,), text="'lift'")
    assert describe({"a": 1, "b": 2}).text == "a, b"
    assert len(describe("x" * 1000).text) == 40
    assert describe(0.0) == Value("float", text="0.0")


@given(
    st.recursive(
        st.none() | st.floats() | st.text() | st.booleans(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    )
)
def test_anything_can_be_described(value):
    assert isinstance(describe(value), Value)


def test_changes_name_the_weightiest_difference():
    one = torch.arange(4.0)
    before = stage("a", {"same": one, "shape": one, "dtype": one, "values": one, "gone": one, "none": None})
    after = stage(
        "b",
        {"same": one, "shape": one[None], "dtype": one.double(), "values": one + 1, "none": one, "empty": {}},
        before,
    )
    assert after.changes == {
        "shape": "shape",
        "dtype": "dtype",
        "values": "values",
        "gone": "removed",
        "none": "new",
    }
    assert "empty" not in after.values


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x):
        x = self.first(self.first(x)[..., :3])
        return {"out": self.rest(x), "extra": [x]}


def test_a_failing_module_is_named_and_what_came_before_is_kept():
    net, trace = Net(), ModuleTrace(depth=2)
    with trace.watching(net), pytest.raises(RuntimeError):
        net(torch.zeros(2, 3))
    assert trace.failed_in == "rest.1"
    assert list(trace.calls) == ["first", "rest", "rest.0", "rest.1"]
    assert trace.calls["first"].calls == 2
    assert trace.calls["first"].outputs[0].shape == (2, 4)
    assert not trace.calls["rest"].finished
    assert trace.calls["rest.1"].inputs[0].shape == (2, 4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_submodules_below_the_depth_are_left_out():
    net, trace = Net(), ModuleTrace(depth=1)
    net.rest = nn.Sequential(nn.Linear(4, 2))
    with trace.watching(net):
        net(torch.zeros(2, 3))
    assert list(trace.calls) == ["first", "rest"]
    assert trace.failed_in == ""
