# SPDX-License-Identifier: Apache-2.0
"""Named tensors in a `SharedRegion`, described by its first bytes."""

import json
from collections.abc import Mapping

import numpy as np
import torch

from lerobot_ext.data.shared_region import SharedRegion

_ALIGNMENT = 64
_LENGTH_BYTES = 8


class SharedTensors:
    """Tensors that several processes map from one region.

    Args:
        region (`SharedRegion`): Filled by `of`, in this process or another.
    """

    def __init__(self, region: SharedRegion) -> None:
        self.region = region

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> "SharedTensors":
        """Copy `tensors` into a new region.

        Raises:
            NoRoomError: There is no room for it.
        """
        layout: dict[str, tuple[str, list[int], int]] = {}
        end = 0
        for name, tensor in tensors.items():
            layout[name] = str(tensor.numpy().dtype), list(tensor.shape), end
            end = _aligned(end + tensor.numel() * tensor.element_size())
        head = json.dumps(layout).encode()
        first = _aligned(_LENGTH_BYTES + len(head))
        region = SharedRegion.create(first + end)
        with region.map() as room:
            room[:_LENGTH_BYTES] = len(head).to_bytes(_LENGTH_BYTES, "little")
            room[_LENGTH_BYTES : _LENGTH_BYTES + len(head)] = head
            for name, tensor in tensors.items():
                start = first + layout[name][2]
                data = tensor.contiguous().numpy().reshape(-1).view(np.uint8)
                room[start : start + data.nbytes] = data.data
        return cls(region)

    def map(self) -> dict[str, torch.Tensor]:
        """The tensors. What is written to them stays in this process: nobody else's are changed."""
        room = self.region.map(private=True)
        length = int.from_bytes(room[:_LENGTH_BYTES], "little")
        layout = json.loads(room[_LENGTH_BYTES : _LENGTH_BYTES + length])
        first = _aligned(_LENGTH_BYTES + length)
        tensors = {}
        for name, (kind, shape, start) in layout.items():
            count = int(np.prod(shape, dtype=np.int64))
            values = np.frombuffer(room, np.dtype(kind), count, first + start) if count else np.empty(0, kind)
            tensors[name] = torch.from_numpy(values.reshape(shape))
        return tensors


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
