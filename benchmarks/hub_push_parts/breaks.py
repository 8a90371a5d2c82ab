# SPDX-License-Identifier: Apache-2.0
"""What a reader of a repository gets when the push to it was cut off: nothing, old, new, or a mixture."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import httpx

from hub_push_parts.tiny_training import REPO, Training, train, training_script
from lerobot_ext.hub import train_hooks
from lerobot_ext.hub.push import PushError
from lerobot_ext.testing.hub_faults import PLACES, FaultyHub
from lerobot_ext.testing.hub_store import HubError

ERRORS = (PushError, httpx.HTTPError, OSError, RuntimeError)
"""What ends a push that cannot go on, LeRobot's or ours."""

STOCK, OURS = "stock", "ours"
NOTHING, OLD, NEW, MIXTURE = "nothing", "old", "new", "mixture"
Files = dict[str, str]
"""What a policy is loaded from, by name: the files' SHA-256."""


@contextmanager
def pushing(side: str) -> Iterator[ModuleType | None]:
    """The training script whose pushes are LeRobot's or ours; LeRobot's need none to stand in for it."""
    train_hooks.uninstall()
    if side == STOCK:
        yield None
        return
    script = training_script()
    train_hooks.install(script)
    try:
        yield script
    finally:
        train_hooks.uninstall()


def visible(hub: FaultyHub) -> Files:
    """What a reader would load; empty where there is no repository, or nothing in it."""
    try:
        _, commit = hub.store.resolve("model", REPO, "main")
    except HubError:
        return {}
    return {n: e.sha256 for n, e in commit.files.items() if n.endswith((".json", ".safetensors"))}


def start_anew(hub: FaultyHub, head: str | None = None, keep: frozenset[Path] = frozenset()) -> None:
    """Bring the Hub back to what it was: an earlier commit and its blobs, or nothing at all."""
    hub.mend()
    folder = hub.store.root / "repos" / "model" / REPO
    for blob in set((hub.store.root / "blobs").iterdir()) - keep:
        blob.unlink()
    if head is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    state = json.loads((folder / "refs.json").read_text(encoding="utf-8"))
    state["branches"]["main"] = head
    (folder / "refs.json").write_text(json.dumps(state), encoding="utf-8")


def forget_push(training: Training) -> None:
    """Each push is to start like that of a process of its own."""
    for pipeline in (training.preprocessor, training.postprocessor):
        pipeline.__dict__.pop("push_to_hub", None)


def cut_off(
    hub: FaultyHub, side: str, folder: Path, second: bool, told: Callable[[int], object]
) -> dict[str, object]:
    """Break a push for good at each of its requests, in three places each, and once.

    Args:
        hub (`FaultyHub`): An empty one, which this process's client talks to.
        side (`str`): `stock` or `ours`.
        folder (`Path`): For the run's output.
        second (`bool`): Whether an older checkpoint is in the repository.
        told (`Callable`): Called after each push, for a progress bar.

    Returns:
        `dict`: `requests` of a whole push, `commits` that it makes, what a reader finds (`found`) by how
        often, and how many of the pushes that lost one connection arrived (`arrived` of `lost_once`).
    """
    with pushing(side) as script, patch("time.sleep"):  # the client's waits between tries
        head, blobs, old = None, frozenset[Path](), Files()
        if second:
            train(folder / "old", script, seed=1).push()
            head, old = hub.store.resolve("model", REPO, "main")[0], visible(hub)
            blobs = frozenset((hub.store.root / "blobs").iterdir())
        training = train(folder / "new", script, seed=2)
        before = _commits(hub)
        hub.mend()
        training.push()
        requests, whole, commits = len(hub.requests), visible(hub), _commits(hub) - before
        found: Counter[str] = Counter()
        arrived = 0
        for number in range(1, requests + 1):
            for place in PLACES:
                for lasting in (True, False):
                    start_anew(hub, head, blobs)
                    forget_push(training)
                    hub.break_at(number, place, lasting=lasting)
                    done = _pushed(training)
                    if lasting:
                        found[_called(visible(hub), old, whole)] += 1
                    else:
                        arrived += done and visible(hub) == whole
                    told(1)
        start_anew(hub)
    return {
        "requests": requests,
        "commits": commits,
        "found": {name: found[name] for name in (NOTHING, OLD, NEW, MIXTURE)},
        "arrived": arrived,
        "lost_once": requests * len(PLACES),
    }


def _commits(hub: FaultyHub) -> int:
    try:
        return len([c for _, c in hub.store.history("model", REPO, "main") if c.message != "initial commit"])
    except HubError:
        return 0


def _pushed(training: Training) -> bool:
    try:
        training.push()
    except ERRORS:
        return False
    return True


def _called(seen: Files, old: Files, whole: Files) -> str:
    if seen == whole:
        return NEW
    if not seen:
        return NOTHING
    return OLD if seen == old else MIXTURE
