# SPDX-License-Identifier: Apache-2.0
"""k micro-batches make the step of one batch of k times the size."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from lerobot_ext.training.accumulation import accumulating, once_an_update

MAKERS = {
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.1, weight_decay=0.1),
    "adam": lambda params: torch.optim.Adam(params, lr=0.1, weight_decay=0.1),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
}
HALF = 0.5


def model(dtype=torch.float64):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
    made.unused = nn.Parameter(torch.ones(2, dtype=dtype))
    return made


def batches(n, size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 3, generator=generator, dtype=torch.float64).to(dtype),
            torch.randn(size, 2, generator=generator, dtype=torch.float64).to(dtype),
        )
        for _ in range(n)
    ]


def learn(net, optimizer, data, scheduler=None, clip=0.0):
    """The stock loop: forward, backward, clip, step, zero_grad, scheduler."""
    for x, y in data:
        nn.functional.mse_loss(net(x), y).backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()


def whole(data, k):
    """Batches of k times the size."""
    return [
        tuple(torch.cat(parts) for parts in zip(*data[i : i + k], strict=True))
        for i in range(0, len(data) // k * k, k)
    ]


def difference(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.parametrize("maker", MAKERS)
@given(k=st.integers(1, 5), size=st.integers(1, 4), clip=st.sampled_from([0.0, 0.05, 10.0]))
@settings(max_examples=15, deadline=None)
def test_equals_one_batch_of_k_times_the_size(maker, k, size, clip):
    data = batches(4 * k, size)
    big, small = model(), model()
    one = MAKERS[maker](big.parameters())
    many = accumulating(MAKERS[maker](small.parameters()), k, clip)
    rate = lambda step: 0.9**step  # noqa: E731
    learn(big, one, whole(data, k), LambdaLR(one, rate), clip)
    learn(small, many, data, once_an_update(LambdaLR(many, rate), many))
    assert difference(big, small) < 1e-12
    assert many.n_updates == 4
    assert many.n_accumulated == 0
    assert many.param_groups[0]["lr"] == pytest.approx(one.param_groups[0]["lr"], rel=1e-12)


def test_clipping_each_micro_batch_is_another_algorithm():
    data = batches(4, 2)
    once, each = model(), model()
    learn(once, accumulating(MAKERS["sgd"](once.parameters()), 4, 0.05), data)
    learn(each, accumulating(MAKERS["sgd"](each.parameters()), 4), data, clip=0.05)
    assert difference(once, each) > 1e-4


def test_the_norm_that_was_clipped_is_kept():
    net = nn.Linear(1, 1, bias=False).double()
    optimizer = accumulating(torch.optim.SGD(net.parameters(), lr=1.0), 2, clip_norm=1.0)
    before = float(net.weight.detach())
    for gradient in (3.0, 5.0):
        net.weight.grad = torch.full_like(net.weight, gradient)
        optimizer.step()
        optimizer.zero_grad()
    assert optimizer.last_grad_norm == 4.0
    assert float(net.weight.detach()) == pytest.approx(before - 1.0)


@given(stop=st.integers(1, 11))
@settings(max_examples=11, deadline=None)
def test_a_run_that_is_cut_anywhere_and_resumed_ends_the_same(tmp_path_factory, stop):
    from lerobot.optim.optimizers import load_optimizer_state, save_optimizer_state

    data, k = batches(12, 2), 4
    straight = model()
    learn(straight, accumulating(MAKERS["adamw"](straight.parameters()), k, HALF), data)

    net = model()
    optimizer = accumulating(MAKERS["adamw"](net.parameters()), k, HALF)
    learn(net, optimizer, data[:stop])
    folder = tmp_path_factory.mktemp("state")
    save_optimizer_state(optimizer, folder)

    resumed = copy.deepcopy(net)
    again = accumulating(MAKERS["adamw"](resumed.parameters()), k, HALF)
    load_optimizer_state(again, folder)
    assert again.n_accumulated == stop % k
    # As accelerate does when it prepares an optimizer.
    again.load_state_dict(again.state_dict())
    learn(resumed, again, data[stop:])
    assert difference(straight, resumed) == 0


def test_saving_in_the_middle_changes_nothing():
    data = batches(8, 2)
    one, other = model(), model()
    a = accumulating(MAKERS["adamw"](one.parameters()), 4)
    b = accumulating(MAKERS["adamw"](other.parameters()), 4)
    learn(one, a, data)
    for batch in data:
        learn(other, b, [batch])
        b.state_dict()
    assert difference(one, other) == 0


def test_halves_are_summed_in_single_precision():
    net = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    optimizer = accumulating(torch.optim.SGD(net.parameters(), lr=1.0), 257)
    nn.init.zeros_(net.weight)
    for _ in range(257):  # a sum in bfloat16 would stop growing at 256
        net.weight.grad = torch.ones_like(net.weight)
        optimizer.step()
        optimizer.zero_grad()
    assert float(net.weight.detach()) == -1.0


def test_a_micro_batch_that_overflows_is_not_counted():
    net = model(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    optimizer = accumulating(MAKERS["sgd"](net.parameters()), 2)
    scheduler = once_an_update(LambdaLR(optimizer, lambda step: 1.0 / (1 + step)), optimizer)
    good, bad = batches(2, 2, torch.float32), (torch.full((2, 3), torch.inf), torch.zeros(2, 2))
    rates = []
    for x, y in (good[0], bad, good[1], bad):
        scaler.scale(nn.functional.mse_loss(net(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.1, 0.1, 0.05, 0.05]
    expected = model(torch.float32)
    plain = MAKERS["sgd"](expected.parameters())
    learn(expected, plain, whole(good, 2))
    assert difference(expected, net) < 1e-6


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(ValueError, match=r"`accumulation` \(0\) must be at least 1"):
        accumulating(MAKERS["sgd"](model().parameters()), 0)
    with pytest.raises(ValueError, match=r"`clip_norm` \(-1.0\)"):
        accumulating(MAKERS["sgd"](model().parameters()), 2, -1.0)
    with pytest.raises(ValueError, match="takes no closure"):
        accumulating(MAKERS["sgd"](model().parameters()), 2).step(lambda: 0.0)
