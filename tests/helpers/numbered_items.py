# SPDX-License-Identifier: Apache-2.0
"""A dataset whose items are known from their number, large enough that batches of them use slots."""

from typing import Any

import torch

from lerobot_ext.data.batches import Arrival

WIDE = (3, 64, 96)
KINDS = (torch.float32, torch.uint8, torch.bfloat16, torch.int64)


def picture(number: int, kind: torch.dtype = torch.float32) -> torch.Tensor:
    """The picture of item `number`."""
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 200, WIDE, generator=generator).to(kind)


class NumberedItems(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """`n` items of several types; takes ours along to spawned workers, as a dataset's reader does."""

    def __init__(self, n: int, kinds: tuple[torch.dtype, ...] = (torch.float32,)) -> None:
        self.n, self.kinds, self.arrival = n, kinds, Arrival()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {str(kind): picture(number, kind) for kind in self.kinds} | {
            "small": torch.full((2,), number),
            "number": number,
        }


def with_a_view(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A collation that gives a tensor twice, a view of it, and one that lies elsewhere."""
    batch = torch.utils.data.default_collate(samples)[str(torch.float32)]
    return {"one": batch, "same": batch, "view": batch[1:, ::2, 5:], "other": batch + 1}


def failing_at_five(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A collation that fails once it has put a batch together."""
    batch: dict[str, torch.Tensor] = torch.utils.data.default_collate(samples)
    if 5 in batch["number"]:
        raise ValueError("five is not liked")
    return batch
