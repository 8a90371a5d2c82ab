# SPDX-License-Identifier: Apache-2.0
"""Hands a batch of pooled pictures from a DataLoader worker to the training without sending the pixels.

A worker writes each batch to fresh shared memory, which costs ten times what a copy costs: 2.3 of the 3 ms
of a sample of three cameras. But the training's process has the pool, too. So a worker's pictures remember
where they came from, `torch`'s own collation keeps that together (by its map of types, which is made for it),
and what is sent says only which frames to take; they are copied when the batch is received.

Pictures are ordinary tensors with their data, wherever they are looked at. Any operation on them, transforms
and writing to them too, gives up what they remember: then the pixels are sent as ever.
"""

import uuid
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from lerobot_ext.data.pool.episode_pool import EpisodePool

_Row = tuple[int, tuple[int, ...]]  # episode, frames
_pools: "WeakValueDictionary[str, EpisodePool]" = WeakValueDictionary()
_HARMLESS = {
    torch.Tensor.shape.__get__,  # type: ignore[attr-defined]
    torch.Tensor.dtype.__get__,  # type: ignore[attr-defined]
    torch.Tensor.device.__get__,  # type: ignore[attr-defined]
    torch.Tensor.ndim.__get__,  # type: ignore[attr-defined]
    torch.Tensor.size,
    torch.Tensor.dim,
}


class PooledFrames(torch.Tensor):
    """Frames of one camera, with where the pool has them; plain tensors come out of every operation."""

    origin: tuple[str, int, tuple[_Row, ...]] | None
    """The pool's name, the camera's number, and the rows: of an item one, of a batch one for each item."""
    is_batch: bool

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Do what is asked for as a plain tensor; only reading a shape leaves the origin in place."""
        if func not in _HARMLESS:
            for value in (*args, *(kwargs or {}).values()):
                for one in value if isinstance(value, list | tuple) else (value,):
                    if isinstance(one, PooledFrames):
                        one.origin = None
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A batch that leaves a worker as where it came from, everything else with its pixels."""
        with torch._C.DisableTorchFunctionSubclass():
            plain = self.as_subclass(torch.Tensor)
            if self.origin is None or not self.is_batch or get_worker_info() is None:
                if get_worker_info() is None:
                    return plain.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]
                return reduce_tensor(plain)  # type: ignore[no-untyped-call]
            return _take, (*self.origin, tuple(plain.shape))


def name_of(pool: EpisodePool) -> str:
    """The name by which another process of the same training finds this pool."""
    if not pool.name:
        pool.name = uuid.uuid4().hex
    _pools[pool.name] = pool
    return pool.name


def from_pool(
    frames: torch.Tensor, pool: EpisodePool, camera: int, episode: int, steps: Sequence[int]
) -> Any:
    """An item's frames, remembering their place where that helps: in a worker.

    Args:
        frames (`torch.Tensor`): (T, C, H, W) or (C, H, W) as the pool gave them.
        pool (`EpisodePool`): That pool.
        camera (`int`): Number of the camera.
        episode (`int`): Which episode.
        steps (`Sequence[int]`): (T,) frame numbers in it.
    """
    if get_worker_info() is None or pool.arena is None or not pool.name:
        return frames
    return _remembering(frames, (pool.name, camera, ((episode, tuple(steps)),)), is_batch=False)


def _remembering(frames: torch.Tensor, origin: Any, *, is_batch: bool) -> PooledFrames:
    pooled = torch.Tensor._make_subclass(PooledFrames, frames)
    pooled.origin, pooled.is_batch = origin, is_batch
    return pooled


def _collate(batch: list[torch.Tensor], *, collate_fn_map: Any = None) -> torch.Tensor:
    """What `default_collate` does with items from a pool: a batch that remembers, if all of them do."""
    origins = [one.origin if isinstance(one, PooledFrames) else None for one in batch]
    with torch._C.DisableTorchFunctionSubclass():
        plain = [one.as_subclass(torch.Tensor) for one in batch]
        known = [origin for origin in origins if origin is not None]
        if len(known) < len(batch) or len({origin[:2] for origin in known}) > 1 or get_worker_info() is None:
            result: torch.Tensor = default_collate_fn_map[torch.Tensor](plain, collate_fn_map=collate_fn_map)
            return result
        rows = tuple(origin[2][0] for origin in known)
        return _remembering(torch.stack(plain), (*known[0][:2], rows), is_batch=True)


def _take(name: str, camera: int, rows: tuple[_Row, ...], shape: tuple[int, ...]) -> torch.Tensor:
    """In the process that receives a batch: its pictures.

    Raises:
        RuntimeError: This process has not got the pool.
    """
    pool = _pools.get(name)
    if pool is None:
        raise RuntimeError(
            "a batch of pooled pictures was received in a process that has not opened their dataset; receive"
            " it where the DataLoader was made, or unset LEROBOT_EXT_POOL"
        )
    return pool.gather(camera, rows).reshape(shape)


default_collate_fn_map[PooledFrames] = _collate
