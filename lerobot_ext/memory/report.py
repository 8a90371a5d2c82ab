# SPDX-License-Identifier: Apache-2.0
"""What `lerobot-ext memory` found, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.evaluation.loading import options_of
from lerobot_ext.memory.sizes import write_size
from lerobot_ext.memory.step import KINDS, PHASES, Usage

if TYPE_CHECKING:
    from lerobot_ext.memory.measure import Measured
    from lerobot_ext.memory.savings import Saving
    from lerobot_ext.memory.subject import Subject

_SMALL: Final = 0.005
"""Submodules with less than this share of everything are left out of the table."""


@dataclass
class Report:
    """What was found.

    Args:
        subject (`Subject`), batch_size (`int`), optimizer (`str`), amp (`bool`): What was asked.
        limit (`int`, *optional*): Bytes that a training may take.
        usage (`Usage`, *optional*): The estimate.
        largest (`int`, *optional*): The largest batch within `limit`, at_largest (`Usage`) what it takes.
        savings (`list[Saving]`): What changes would save.
        measured (`Measured`, *optional*): If steps were taken for real.
    """

    subject: Subject
    batch_size: int
    optimizer: str
    amp: bool
    limit: int | None
    usage: Usage | None = None
    largest: int | None = None
    at_largest: Usage | None = None
    savings: list[Saving] = field(default_factory=list)
    measured: Measured | None = None

    @property
    def accounted(self) -> Usage:
        """The estimate, or where there is none what was counted in the measurement."""
        if self.usage is not None:
            return self.usage
        assert self.measured is not None
        return self.measured.usage


def read_optimizer(words: list[str], config: Any) -> Any:
    """LeRobot's `OptimizerConfig`: from `--optimizer.…` options, else the policy's own.

    Raises:
        CommandError: The options cannot be read.
    """
    import draccus
    from lerobot.optim import OptimizerConfig

    import lerobot_ext.training.config_accumulation  # noqa: F401 - registers its optimizers

    options = [f"--{word.removeprefix('--optimizer.')}" for word in words if word.startswith("--optimizer.")]
    if not options:
        return config.get_optimizer_preset()
    with options_of("--optimizer"):
        return draccus.parse(OptimizerConfig, args=options)


def available(*, on_cpu: bool) -> int | None:
    """Bytes that are free for a training: on the GPU, or of the machine; `None` without a GPU."""
    import torch

    if on_cpu:
        import psutil  # type: ignore[import-untyped, unused-ignore]

        return int(psutil.virtual_memory().available)
    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None


def show(out: Any, found: Report, depth: int) -> None:
    """The tables, for people."""
    from lerobot_ext.cli.look import table

    usage = found.accounted
    kinds = [kind for kind in KINDS if usage.total(kind)]
    everything = sum(usage.total(kind) for kind in kinds)
    rows = [
        [
            "  " * name.count(".") + (name or "everything"),
            f"{usage.parameters_below(name) / 1e6:.2f}",
            *(write_size(usage.below(kind, name)) if usage.below(kind, name) else "" for kind in kinds),
        ]
        for name in _names(usage, depth)
        if sum(usage.below(kind, name) for kind in kinds) >= _SMALL * everything
    ]
    trained = f"{usage.n_trained / 1e6:.2f} of {usage.parameters_below('') / 1e6:.2f} M parameters trained"
    how = f"{found.optimizer}{', 16-bit autocast' if found.amp else ''}"
    out.print(f"{found.subject.config.type}, {trained}, batch of {usage.batch_size}, {how}", markup=False)
    for note in found.subject.notes:
        out.print(f"note: {note}", markup=False)
    out.print(table("by submodule, with what is in it", ["module", "M", *kinds], rows))
    out.print(f"the batch itself: {write_size(usage.batch)}")
    _show_peaks(out, found)
    if found.limit is not None and found.usage is not None:
        _show_largest(out, found)
    if found.savings and found.usage is not None:
        _show_savings(out, found)


def _show_peaks(out: Any, found: Report) -> None:
    from lerobot_ext.cli.look import table

    columns, cells = ["phase"], [[phase] for phase in PHASES]
    if found.usage is not None:
        columns.append("estimated peak")
        for cell, phase in zip(cells, PHASES, strict=True):
            cell.append(write_size(found.usage.peaks[phase]))
    if found.measured is not None:
        columns.append(f"measured on {found.measured.device}")
        for cell, phase in zip(cells, PHASES, strict=True):
            cell.append(write_size(found.measured.peaks[phase]))
    out.print(table("the most that lives in each phase of a step", columns, cells))
    if found.measured is not None:
        saved = write_size(found.measured.saved)
        out.print(f"autograd saved {saved} for the backward pass, by its hooks")


def _show_largest(out: Any, found: Report) -> None:
    assert found.limit is not None
    limit = write_size(found.limit)
    if not found.largest:
        out.print(f"not even a batch of 1 fits into {limit}")
    elif found.at_largest is not None:
        out.print(
            f"largest batch in {limit}: {found.largest}, which takes {write_size(found.at_largest.peak)}"
        )


def _show_savings(out: Any, found: Report) -> None:
    from lerobot_ext.cli.look import table

    assert found.usage is not None
    rows = []
    for saving in found.savings:
        if saving.usage is None:
            rows.append([saving.what, "?", "", saving.why])
        else:
            saved = found.usage.peak - saving.usage.peak
            percent = round(100 * saved / found.usage.peak)
            if percent > 0:
                share = f"{write_size(saved)} ({percent} %)"
                rows.append([saving.what, write_size(saving.usage.peak), share, saving.how])
    if not rows:
        out.print("nothing that this policy offers would save memory")
        return
    rows.insert(0, ["as asked", write_size(found.usage.peak), "", ""])
    out.print(table("what would save memory", ["", "peak", "saved", "how"], rows))


def as_json(found: Report) -> dict[str, Any]:
    """Everything; sizes in bytes, submodules of any depth."""
    usage = found.accounted
    return {
        "policy": found.subject.config.type,
        "batch_size": found.batch_size,
        "optimizer": found.optimizer,
        "amp": found.amp,
        "notes": list(found.subject.notes),
        "parameters": usage.parameters_below(""),
        "trained": usage.n_trained,
        "batch": usage.batch,
        "totals": {kind: usage.total(kind) for kind in KINDS},
        "modules": [
            {"name": name, "parameters": usage.parameters_below(name)}
            | {"bytes": {kind: usage.below(kind, name) for kind in KINDS}}
            for name in _names(usage, 10**6)
        ],
        "peaks": None if found.usage is None else found.usage.peaks,
        "peak": None if found.usage is None else found.usage.peak,
        "memory": found.limit,
        "largest_batch": found.largest,
        "savings": [
            {
                "what": saving.what,
                "how": saving.how,
                "peak": saving.usage.peak if saving.usage else None,
                "why_not": saving.why,
            }
            for saving in found.savings
        ],
        "measured": None
        if found.measured is None
        else {
            "device": found.measured.device,
            "peaks": found.measured.peaks,
            "peak": found.measured.peak,
            "saved_by_autograd": found.measured.saved,
        },
    }


def _names(usage: Usage, depth: int) -> Iterator[str]:
    """The submodules that own something, and those they are in, up to a depth; in the policy's order."""
    seen: dict[str, None] = {"": None}
    for kind in KINDS:
        for owner in usage.parts[kind]:
            words = owner.split(".")
            for length in range(1, min(depth, len(words)) + 1):
                seen[".".join(words[:length])] = None
    order = {name: place for place, name in enumerate(seen)}
    # Parents before children, siblings as they come.
    yield from sorted(
        seen,
        key=lambda name: [order[".".join(name.split(".")[:n])] for n in range(1, name.count(".") + 2)],
    )
