# SPDX-License-Identifier: Apache-2.0
"""Batches of a DataLoader without workers, and with two, forked and spawned: CPU time of all processes."""

import os
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from data_path_parts import files
from data_path_parts.contestants import Cost, Inside, apart, medians, must_agree, side_by_side
from data_path_parts.reading import digest, open_dataset

BATCH = 8
_STARTS = {
    "without workers": (0, None),
    "2 workers, fork": (2, "fork"),
    "2 workers, spawn": (2, "spawn"),
}
# LeRobot gives floats; `lerobot-train` asks for bytes.
CASES = {f"{start}{kind}": (*how, bool(kind)) for kind in ("", ", uint8") for start, how in _STARTS.items()}


def loader(folder: Path, case: str, names: list[str], *, quick: bool) -> dict[str, Cost]:
    """A sample of a batch of 8, as a training loop gets it; workers stay alive between the turns."""
    batches, turns = (1, 1) if quick else (5, 4)
    root = apart(files.dataset, folder, "AV1", 2, 20 if quick else 150)
    workers, start, as_bytes = CASES[case]
    runs: dict[str, list[Cost]] = {name: [] for name in names}
    with side_by_side(names) as made:
        for contestant in made:
            contestant.call(open_dataset, root, as_bytes)
            contestant.call(_open_loader, workers, start, batches)
        # The first turn starts the workers and opens the files: it does not count.
        must_agree(case, {who.name: who.call(_first_batch) for who in made})
        for _ in range(turns):
            for contestant in made:
                runs[contestant.name].append(contestant.call(_one_epoch))
        for contestant in made:
            contestant.call(_close_loader)
    return {name: medians(costs) for name, costs in runs.items()}


def _open_loader(inside: Inside, workers: int, start: str | None, batches: int) -> None:
    dataset = inside.kept["dataset"]
    rows = np.random.default_rng(0).integers(0, len(dataset), batches * BATCH).tolist()
    inside.kept["loader"] = torch.utils.data.DataLoader(
        dataset,
        sampler=rows,
        batch_size=BATCH,
        num_workers=workers,
        multiprocessing_context=start,
        persistent_workers=workers > 0,
    )


def _first_batch(inside: Inside) -> str:
    digests = [digest(batch) for batch in inside.kept["loader"]]  # to the end: the workers stay
    return digests[0]


def _one_epoch(inside: Inside) -> Cost:
    loader = inside.kept["loader"]
    busy = [psutil.Process(os.getpid())]
    if loader.num_workers:
        busy += [psutil.Process(worker.pid) for worker in loader._iterator._workers]
    cpu, wall, samples = _cpu_s(busy), time.perf_counter(), 0
    for batch in loader:
        samples += len(batch["index"])
        del batch
    wall = time.perf_counter() - wall
    return {
        "cpu_ms": (_cpu_s(busy) - cpu) / samples * 1e3,
        "wall_ms": wall / samples * 1e3,
        "samples_per_s": samples / wall,
    }


def _cpu_s(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(taken.user + taken.system for taken in times))


def _close_loader(inside: Inside) -> None:
    inside.kept.pop("loader")
