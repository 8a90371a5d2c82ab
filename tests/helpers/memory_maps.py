# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about the memory behind tensors: shared with other processes, or a copy."""

import os
from pathlib import Path
from typing import Any

import torch


def mapping_of(tensor: torch.Tensor) -> dict[str, Any]:
    """The mapping that holds a tensor's data: its name, inode, and its sizes in kB."""
    address, found = tensor.data_ptr(), {}
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= address < end
            if inside:
                found = {"inode": int(rest[3]), "name": " ".join(rest[4:])}
        elif inside and rest[-1] == "kB":
            found[first.rstrip(":")] = int(rest[0])
    return found


class WithMappings(torch.utils.data.Dataset):
    """The items of a dataset; with the last, where the columns of whoever made it lie."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = {"item": self.dataset[index], "pid": os.getpid()}
        if index == len(self) - 1:
            tensors = self.dataset.reader._columns.tensors
            sample["maps"] = {name: mapping_of(tensor) for name, tensor in tensors.items()}
        return sample


def as_they_are(samples: list[Any]) -> list[Any]:
    """A collate function that leaves the samples alone."""
    return samples
