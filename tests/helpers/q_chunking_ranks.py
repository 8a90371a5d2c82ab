# SPDX-License-Identifier: Apache-2.0
"""Trains q_chunking policies on a batch that is spread over processes; a program, run by `torchrun`.

    q_chunking_ranks.py OUT WAY...

A way is `ddp` (LeRobot's, by accelerate), `fsdp1` (what accelerate makes of `--use_fsdp`, on GPUs alone), or
`fsdp2` (PyTorch's `fully_shard`); the last two wrap the modules that the policy names.

Rank 0 writes `OUT/WAY-CASE.pt`. Noise is drawn for the whole batch and cut, so that a sample meets
the same noise wherever it is: `alone` trains on the whole batch in one process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

STEPS = 3
SIZE = 8
RATE = 1e-2
EPSILON = 1e-3
"""Adam's: with a small one a gradient that is zero but for its rounding makes a whole step."""


def case_configs() -> dict[str, Any]:
    """What is trained, by name: extractions of its own flow, and another policy as the actor."""
    from q_chunking_over import diffusion, over

    # Each rank would divide by the mean value of its own part of the batch.
    usual = {"normalize_q": False, "actor_hidden_dim": 16, "actor_ema": 0.9}
    return {
        "distill": over(None, extraction="distill", **usual),
        "best_of_n": over(None, extraction="best_of_n", n_critics=3, bootstrap_probability=0.6, **usual),
        "awr": over(None, extraction="awr", **usual),
        "cameras": over(
            None,
            extraction="distill",
            cameras=((40, 40),),
            environment=0,
            random_shift=0,
            transformer_dim=16,
            transformer_heads=2,
            **usual,
        ),
        # Weighted, each process would draw its own samples: diffusion has no losses by sample.
        "diffusion": over(diffusion(), weighted_cloning=False, **usual),
    }


def rows_of_batch(config: Any, size: int = SIZE) -> dict[str, Any]:
    """A preprocessed batch whose halves have equally many usable samples for each critic."""
    from q_chunking_over import training_batch

    batch = training_batch(config, size)
    half = size // 2
    # A critic's mean is over the frames that it learns from: each rank gets the same ones.
    for key in ("index", "episode_index"):
        batch[key] = torch.cat([batch[key][:half]] * 2)
    batch["action_is_pad"][[1, half + 2], 2:] = True
    return batch


def part_of(batch: dict[str, Any], rank: int, ranks: int) -> dict[str, Any]:
    """The rows of one rank."""
    size = len(batch["index"]) // ranks
    rows = slice(rank * size, (rank + 1) * size)
    return {
        key: value[rows] if isinstance(value, (Tensor, list)) and len(value) == size * ranks else value
        for key, value in batch.items()
    }


@contextmanager
def noise_of_the_batch(rank: int, ranks: int, step: int) -> Iterator[None]:
    """Within, torch draws for the rows of all ranks at a step and gives those of this one."""
    stock = {name: getattr(torch, name) for name in ("rand", "randn", "randint")}
    calls = iter(range(1000))

    def drawing(name: str) -> Any:
        def draw(*words: Any, **named: Any) -> Tensor:
            named.pop("generator", None)
            shape = named.pop("size", None) or (words[0] if isinstance(words[0], (tuple, list)) else words)
            bounds = (named.pop("low"), named.pop("high")) if name == "randint" else ()
            generator = torch.Generator().manual_seed(1000 * step + next(calls))
            whole = stock[name](*bounds, (shape[0] * ranks, *shape[1:]), generator=generator, **named)
            return whole[rank * shape[0] : (rank + 1) * shape[0]]

        return draw

    try:
        for name in stock:
            setattr(torch, name, drawing(name))
        yield
    finally:
        for name, function in stock.items():
            setattr(torch, name, function)


def steps_of(policy: Any, forward: Any, optimizer: Any, batch: dict[str, Any], backward: Any) -> list[float]:
    """LeRobot's step, some times; the losses."""
    together = distributed.is_initialized()
    rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    losses = []
    for step in range(STEPS):
        with noise_of_the_batch(rank, ranks, step):
            loss, _ = forward(part_of(batch, rank, ranks))
        backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
        losses.append(loss.detach())
    found = torch.stack(losses)
    if ranks > 1:
        distributed.all_reduce(found)
        found /= ranks
    return found.tolist()


def fresh(config: Any) -> tuple[Any, Any]:
    """A policy and its optimizer, with a rate at which three steps are seen."""
    from q_chunking_over import build

    policy = build(config).train()
    if policy._borrowed is not None:
        policy._borrowed.differ = True  # is asked once a run, whose draws one micro-batch of two would have
    groups = policy.get_optim_params()
    for group in groups:
        group |= {"lr": RATE, "eps": EPSILON}
    return policy, groups


def alone(config: Any) -> dict[str, Any]:
    """One process and the whole batch."""
    policy, groups = fresh(config)
    optimizer = config.get_optimizer_preset().build(groups)
    losses = steps_of(policy, policy.forward, optimizer, rows_of_batch(config), lambda loss: loss.backward())
    return {"losses": losses, "state": policy.state_dict()}


def ddp(config: Any) -> dict[str, Any]:
    """As `lerobot-train` prepares policy and optimizer."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(step_scheduler_with_optimizer=False, kwargs_handlers=[unused], cpu=True)
    policy, groups = fresh(config)
    wrapped, optimizer = accelerator.prepare(policy, config.get_optimizer_preset().build(groups))
    inner = accelerator.unwrap_model(wrapped, keep_fp32_wrapper=True)
    losses = steps_of(inner, wrapped.forward, optimizer, rows_of_batch(config), accelerator.backward)
    apart = 0.0
    for value in inner.state_dict().values():
        others = [torch.empty_like(value) for _ in range(distributed.get_world_size())]
        distributed.all_gather(others, value.contiguous())
        apart = max(apart, *(float((value - other).abs().max()) for other in others))
    return {"losses": losses, "state": inner.state_dict(), "apart": apart}


def fsdp1(config: Any) -> dict[str, Any]:
    """Each wrapped module's parameters end to end and cut in two, the rest of them likewise."""
    from functools import partial

    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    policy, groups = fresh(config)
    optimizer = config.get_optimizer_preset().build(groups)
    whole, names = sum(parameter.numel() for parameter in policy.parameters()), set(policy.state_dict())
    wrapped = FullyShardedDataParallel(
        policy,
        auto_wrap_policy=partial(transformer_auto_wrap_policy, transformer_layer_cls=classes_of(policy)),
        use_orig_params=True,
        device_id=torch.device("cpu"),
    )
    losses = steps_of(policy, wrapped.forward, optimizer, rows_of_batch(config), lambda loss: loss.backward())
    held = sum(parameter.numel() for parameter in policy.parameters())
    with FullyShardedDataParallel.summon_full_params(wrapped, writeback=False):
        tensors = [*policy.named_parameters(), *policy.named_buffers()]
        found = {name.replace("_fsdp_wrapped_module.", ""): value.detach().clone() for name, value in tensors}
    state = {name: value for name, value in found.items() if name in names}
    return {"losses": losses, "state": state, "held": held / whole}


def classes_of(policy: Any) -> set[type]:
    """Of the modules that the policy names."""
    return {type(module) for module in policy.modules() if type(module).__name__ in policy._fsdp_wrap_modules}


def fsdp2(config: Any) -> dict[str, Any]:
    """PyTorch's sharding of each parameter, on the modules that the policy names."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    policy, _ = fresh(config)
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    for module in reversed(list(policy.modules())[1:]):
        if type(module) in classes_of(policy):
            fully_shard(module, mesh=mesh)
    fully_shard(policy, mesh=mesh)
    groups = policy.get_optim_params()
    for group in groups:
        group |= {"lr": RATE, "eps": EPSILON}
    optimizer = config.get_optimizer_preset().build(groups)
    losses = steps_of(policy, policy, optimizer, rows_of_batch(config), lambda loss: loss.backward())
    held = sum(parameter.to_local().numel() for parameter in policy.parameters())
    state = get_model_state_dict(policy, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    whole = sum(parameter.numel() for parameter in policy.parameters())
    return {"losses": losses, "state": state, "held": held / whole}


def main(words: list[str]) -> int:
    """Train each case in each way."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    out = Path(words[0])
    for way in words[1:]:
        for name, config in case_configs().items():
            found = {"ddp": ddp, "fsdp1": fsdp1, "fsdp2": fsdp2}[way](config)
            if distributed.get_rank() == 0:
                torch.save(found, out / f"{way}-{name}.pt")
            distributed.barrier()
    distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
