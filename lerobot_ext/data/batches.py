# SPDX-License-Identifier: Apache-2.0
"""Puts batches together in memory that is used again, here and in DataLoader workers, bit for bit as torch.

Fresh memory for a batch costs more than what is copied into it: the system makes it page by page, and takes
it back when the batch goes. A worker's batch lies in a slot that the training has mapped (`batch_slots`); a
loader without workers has buffers of this process.

It stands in torch's own table of collations, for tensors, so `default_collate` does it, and LeRobot's
collation, which calls that. Anything else than plain numbers on the CPU is left to torch. Linux only:
elsewhere batches are made as ever.
"""

import functools
import os
import sys
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from lerobot_ext.data.batch_slots import slots_of_worker
from lerobot_ext.data.buffers import WORTH_KEEPING, Buffers
from lerobot_ext.switches import switched_on

SWITCH = "LEROBOT_EXT_BATCHES"
KEEP = "LEROBOT_EXT_BATCHES_KEEP_MIB"
DEFAULT_KEEP_MIB = 1024
_KINDS = {
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.bool,
}
_stock: list[Any] = []


def kept_bytes() -> int:
    """How much memory of batches that are gone each process keeps for the next ones.

    Raises:
        ValueError: `LEROBOT_EXT_BATCHES_KEEP_MIB` is no whole number of MiB.
    """
    text = os.environ.get(KEEP, "").strip()
    if text and not text.isdecimal():
        raise ValueError(f"environment variable {KEEP} is {text!r}; set it to a number of MiB, 0 or more")
    return (int(text) if text else DEFAULT_KEEP_MIB) * 2**20


def install() -> bool:
    """Have batches of this process, and of workers that get a dataset of it, put together in used memory.

    Returns:
        Whether it is in effect: not where it is switched off, and on Linux only.

    Raises:
        ValueError: `LEROBOT_EXT_BATCHES` is neither `on` nor `off`, or the other variable is no number.
    """
    if _stock:
        return True
    if not switched_on(SWITCH) or not sys.platform.startswith("linux"):
        return False
    kept_bytes()
    _stock.append(default_collate_fn_map[torch.Tensor])
    default_collate_fn_map[torch.Tensor] = _collate
    return True


def uninstall() -> None:
    """Give torch its own collation back."""
    if _stock and default_collate_fn_map[torch.Tensor] is _collate:
        default_collate_fn_map[torch.Tensor] = _stock[0]
    _stock.clear()
    _buffers.cache_clear()
    if get_worker_info() is not None:
        ForkingPickler.register(torch.Tensor, reduce_tensor)


class Arrival:
    """Installs this module in a process that it is sent to: a spawned worker starts with torch as it is."""

    def __reduce__(self) -> Any:
        return (_arrive, ()) if _stock else (Arrival, ())


def _arrive() -> Arrival:
    install()
    return Arrival()


@functools.cache
def _buffers() -> Buffers:
    return Buffers(kept_bytes())


def _collate(batch: list[torch.Tensor], *, collate_fn_map: Any = None) -> torch.Tensor:
    """What `default_collate` does with tensors."""
    first = batch[0]
    size = first.element_size() * first.numel() * len(batch) if _is_plain(first) else 0
    room = None
    if size >= WORTH_KEEPING and all(_is_like(first, other) for other in batch):
        room = _room(size)
    if room is None:
        result: torch.Tensor = _stock[0](batch, collate_fn_map=collate_fn_map)
        return result
    out: torch.Tensor = torch.from_numpy(room).view(first.dtype).view(len(batch), *first.shape)
    return torch.stack(batch, out=out)


def _room(size: int) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    if get_worker_info() is None:
        return _buffers().empty((size,), np.uint8) if size <= kept_bytes() else None
    slots = slots_of_worker(kept_bytes())
    return None if slots is None else slots.empty(size)


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) is torch.Tensor
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.dtype in _KINDS
        and not tensor.requires_grad
        and tensor.is_contiguous()
    )


def _is_like(first: torch.Tensor, other: torch.Tensor) -> bool:
    return _is_plain(other) and other.dtype is first.dtype and other.shape == first.shape
