# SPDX-License-Identifier: Apache-2.0
"""Batches that a DataLoader worker hands to the training in memory that both have mapped already.

Torch puts each tensor of a worker's batch into new shared memory. The system makes that page by page, ten
times dearer than the copy into it: 25 ms for 29 MB, where the copy takes 2. Here a worker has slots, files in
memory without a name. A batch is put together in one, only the slot's number is sent, and when the training
lets go of the tensor the worker may use the slot again.

What keeps that from ever showing wrong pixels:

- A slot is used again when neither side holds a tensor, or a view of one, that lies in it. Each side knows
  that of itself by the life of the memory's owner; the training tells the worker by a mark in shared memory.
- A worker sends as stock does until the training has said, by another mark, that it can open the slots
  (`/proc/PID/fd`, so Linux only).
- A process that is forked while tensors are in its parent's hands sees the parent's memory: those slots are
  not used again, they go with their last tensor.
- Whatever does not fit, a tensor that is sent twice, and anything that is no slot goes as stock sends it.

Slots of a worker are gone with it, but for those that hold a tensor that somebody has.
"""

import multiprocessing
import os
import threading
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.multiprocessing.reductions import reduce_tensor

from lerobot_ext.data.shared_region import NoRoomError, SharedRegion

_BOARD_BYTES = 4096
_OPENED = 0  # the first mark of a board: the other side can open what is there
_FREE, _LENT, _GONE = 0, 1, 2

Bytes = npt.NDArray[np.uint8]


class _Board(NamedTuple):
    """Where a worker's marks are: in the descriptors of a process."""

    token: str
    pid: int
    descriptor: int


class _Place(NamedTuple):
    """A slot, and which of those that had its number."""

    number: int
    generation: int
    descriptor: int
    size: int


class _Slot:
    def __init__(self, number: int, generation: int, size: int) -> None:
        self.region = SharedRegion.create(size)
        self.memory: Bytes = np.frombuffer(self.region.map(), np.uint8)
        self.place = _Place(number, generation, self.region.descriptor, size)
        self.held = False

    @property
    def address(self) -> int:
        return int(self.memory.__array_interface__["data"][0])


class _Held:
    """Owns a slot's memory in the worker for as long as an array made of this object, or a view, exists."""

    def __init__(self, slot: _Slot, size: int) -> None:
        self._slot = slot
        slot.held = True
        self.__array_interface__ = slot.memory[:size].__array_interface__

    def __del__(self) -> None:
        self._slot.held = False


class Slots:
    """The slots of one worker.

    Args:
        limit (`int`): Most bytes that they may take together.

    Raises:
        NoRoomError: There is no shared memory.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._region = SharedRegion.create(_BOARD_BYTES)
        self._marks: Bytes = np.frombuffer(self._region.map(), np.uint8)
        self._board = _Board(uuid.uuid4().hex, os.getpid(), self._region.descriptor)
        self._slots: dict[int, _Slot] = {}
        self._made = 0

    def n_bytes(self) -> int:
        """What they take."""
        return sum(slot.place.size for slot in self._slots.values())

    def empty(self, size: int) -> Bytes | None:
        """Memory for a tensor, arbitrary bytes; `None` where there is no room.

        Args:
            size (`int`): Bytes.
        """
        self._forget_gone()
        fitting = [slot for slot in self._idle() if slot.place.size >= size]
        slot = min(fitting, key=lambda slot: slot.place.size) if fitting else self._new(size)
        _fence()
        return None if slot is None else np.asarray(_Held(slot, size))

    def send(self, tensor: torch.Tensor) -> tuple[Callable[..., torch.Tensor], tuple[Any, ...]] | None:
        """What to pickle in place of a tensor that lies in a slot; `None` to send it as stock does."""
        start = tensor.untyped_storage().data_ptr()
        slot = next((slot for slot in self._slots.values() if slot.address == start), None)
        if slot is None or self._marks[slot.place.number] != _FREE:
            return None
        if not self._marks[_OPENED]:
            return _open_and_receive, (self._board, *reduce_tensor(tensor))  # type: ignore[no-untyped-call]
        self._marks[slot.place.number] = _LENT
        layout = tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset()
        return _receive, (self._board, slot.place, layout)

    def _idle(self) -> list[_Slot]:
        return [s for s in self._slots.values() if not s.held and self._marks[s.place.number] == _FREE]

    def _forget_gone(self) -> None:
        for number, slot in list(self._slots.items()):
            if self._marks[number] == _GONE and not slot.held:
                del self._slots[number]
                self._marks[number] = _FREE

    def _new(self, size: int) -> _Slot | None:
        """A slot more; those that are idle, and too small as it seems, make room."""
        idle = self._idle()
        while idle and self.n_bytes() + size > self.limit:
            del self._slots[idle.pop().place.number]
        number = next((n for n in range(_OPENED + 1, _BOARD_BYTES) if n not in self._slots), None)
        if number is None or self.n_bytes() + size > self.limit:
            return None
        self._made += 1
        with suppress(NoRoomError):
            self._slots[number] = _Slot(number, self._made, size)
        return self._slots.get(number)


# --- in the worker ---

_mine: tuple[int, Slots | None] = (-1, None)


def slots_of_worker(limit: int) -> Slots | None:
    """The slots of this worker, made when first asked for; `None` where there is no shared memory.

    Args:
        limit (`int`): Most bytes that they may take together.
    """
    global _mine
    if _mine[0] != os.getpid():  # a forked process must not use its parent's
        slots = None
        with suppress(NoRoomError):
            slots = Slots(limit)
            ForkingPickler.register(torch.Tensor, _reduce)
        _mine = os.getpid(), slots
    return _mine[1]


def _reduce(tensor: torch.Tensor) -> Any:
    """In place of torch's own reduction, in a worker that has slots."""
    pid, slots = _mine
    if slots is not None and pid == os.getpid() and _is_plain(tensor):
        sent = slots.send(tensor)
        if sent is not None:
            return sent
    return reduce_tensor(tensor)  # type: ignore[no-untyped-call]


def _fence() -> None:
    """Nothing is read or written past this: a lock orders memory, also where the processor does not."""
    with threading.Lock():
        pass


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.requires_grad


# --- in the training's process ---


class _Sender:
    """A worker's slots as the training sees them."""

    def __init__(self, board: _Board) -> None:
        self._pid = board.pid
        self._marks: Bytes = np.frombuffer(_open(board.pid, board.descriptor, _BOARD_BYTES).map(), np.uint8)
        self._slots: dict[int, tuple[int, Bytes]] = {}
        self._loans: weakref.WeakSet[_Loan] = weakref.WeakSet()
        self._marks[_OPENED] = 1

    def lend(self, place: _Place) -> "_Loan":
        """The memory of a slot that was sent."""
        generation, memory = self._slots.get(place.number, (0, None))
        if generation != place.generation or memory is None:
            memory = np.frombuffer(_open(self._pid, place.descriptor, place.size).map(), np.uint8)
            self._slots[place.number] = place.generation, memory
        loan = _Loan(self._marks, place.number, memory)
        self._loans.add(loan)
        return loan

    def keep_from_reuse(self) -> None:
        """What is lent now is not used again: a process that is forked will see it, too."""
        for loan in list(self._loans):
            loan.keep_from_reuse()
            self._slots.pop(loan.number, None)


class _Loan:
    """Owns a slot's memory here for as long as an array made of this object, or a view, exists."""

    def __init__(self, marks: Bytes, number: int, memory: Bytes) -> None:
        self.number = number
        self._marks, self._memory, self._pid = marks, memory, os.getpid()
        self._returns = True
        self.__array_interface__ = memory.__array_interface__

    def keep_from_reuse(self) -> None:
        """The worker is to forget the slot."""
        if self._returns:
            self._returns = False
            self._marks[self.number] = _GONE

    def __del__(self) -> None:
        # Runs wherever a last reference goes, so it waits for nobody: one byte.
        if self._returns and self._pid == os.getpid():
            _fence()
            self._marks[self.number] = _FREE


_senders: dict[str, _Sender] = {}
_opening = threading.Lock()


def _open_and_receive(board: _Board, rebuild: Callable[..., torch.Tensor], words: Any) -> torch.Tensor:
    """A tensor sent as stock does, by a worker that has slots: from now on they may be used."""
    with suppress(OSError):  # then it goes on as stock does
        _sender(board)
    return rebuild(*words)


def _receive(board: _Board, place: _Place, layout: Any) -> torch.Tensor:
    """A tensor that lies in a slot.

    Raises:
        RuntimeError: The worker has ended, or this process may not see its memory.
    """
    try:
        sender = _sender(board) or _Sender(board)
        memory = np.asarray(sender.lend(place))
    except OSError as error:
        raise RuntimeError(
            f"a batch of DataLoader worker {board.pid} cannot be received ({error}): has the worker ended? If"
            " not, set LEROBOT_EXT_BATCHES=off"
        ) from error
    kind, shape, stride, offset = layout
    whole: torch.Tensor = torch.from_numpy(memory).view(kind)
    return whole.as_strided(shape, stride, offset)


def _sender(board: _Board) -> _Sender | None:
    """The sender of a worker of this process, for as long as the worker is; `None` for another process."""
    with _opening:
        known = _senders.get(board.token)
        if known is not None:
            return known
        worker = next((child for child in multiprocessing.active_children() if child.pid == board.pid), None)
        if worker is None:
            return None
        # With the loader's object for the worker our maps go, too: an idle slot takes no memory then.
        weakref.finalize(worker, _senders.pop, board.token, None).atexit = False
        return _senders.setdefault(board.token, _Sender(board))


def _open(pid: int, descriptor: int, size: int) -> SharedRegion:
    """A region of another process.

    Raises:
        OSError: It is not there, or not to be seen.
    """
    return SharedRegion(os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC), size)


def _before_fork() -> None:
    for sender in list(_senders.values()):
        sender.keep_from_reuse()


def _in_child() -> None:
    global _opening
    _opening = threading.Lock()
    _senders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)
