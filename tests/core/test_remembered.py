# SPDX-License-Identifier: Apache-2.0
"""What is remembered is what would be computed."""

from __future__ import annotations

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from lerobot_ext.nn.embeddings import HashedTextEmbedding
from lerobot_ext.nn.remembered import Remembered


class Doubled(nn.Module):
    """Counts how often it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.remembered = Remembered()
        self.computed = 0

    def forward(self, factor: float = 2.0) -> torch.Tensor:
        def compute() -> torch.Tensor:
            self.computed += 1
            return factor * self.weight

        return self.remembered.get((self.weight,), compute, factor)


def _set(module: Doubled, value: float) -> None:
    module.weight.fill_(value)


def _load(module: Doubled, value: float) -> None:
    module.load_state_dict({"weight": torch.full((3,), value)})


def _replace(module: Doubled, value: float) -> None:
    module.weight = nn.Parameter(torch.full((3,), value))


def _convert(module: Doubled, value: float) -> None:
    module.weight.fill_(value)
    module.double()


def _lerp(module: Doubled, value: float) -> None:
    torch._foreach_lerp_([module.weight], [torch.full((3,), value)], 1.0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_computes_once(mode):
    module = Doubled()
    with mode():
        assert module() is module()
    assert module.computed == 1


@pytest.mark.parametrize("change", [_set, _load, _replace, _convert, _lerp])
@torch.no_grad()
def test_changed_weights_are_noticed(change):
    module = Doubled()
    module()
    change(module, 5.0)
    assert module().tolist() == [10.0] * 3
    assert module().dtype == module.weight.dtype
    assert module.computed == 2


@torch.no_grad()
def test_another_key_is_another_result():
    module = Doubled()
    assert module(2.0).tolist() != module(3.0).tolist()
    assert module(2.0).tolist() == [2.0] * 3


def test_training_always_computes_and_has_gradients():
    module = Doubled()
    with torch.no_grad():
        module()
    for _ in range(2):
        module().sum().backward()
    assert module.computed == 3
    assert module.weight.grad.tolist() == [4.0] * 3


@torch.no_grad()
def test_copies_remember_nothing():
    module = Doubled()
    first = module()
    copied = deepcopy(module)
    _set(copied, 7.0)
    assert copied().tolist() == [14.0] * 3
    assert module() is first
    assert pickle.loads(pickle.dumps(module))().tolist() == [2.0] * 3


@torch.no_grad()
def test_it_is_not_frozen_into_a_traced_graph():
    module = Doubled()
    module()
    exported = torch.export.export(module, ()).module()
    exported.load_state_dict({"weight": torch.full((3,), 4.0)})
    assert exported().tolist() == [8.0] * 3


@torch.no_grad()
def test_a_text_is_embedded_once_for_the_same_weights():
    embedding = HashedTextEmbedding(8)
    first = embedding(["lift the cube"])
    assert embedding(["lift the cube"]) is first
    assert not torch.equal(embedding(["tour"]), first)
    embedding.table.weight.mul_(2)
    assert torch.equal(embedding(["lift the cube"]), 2 * first)
