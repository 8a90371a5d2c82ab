# SPDX-License-Identifier: Apache-2.0
"""The folder beside the dataset to be where finished segments wait, through kills too.

NAME.converting/conversion.json     which files, read and encoded how
NAME.converting/segments/000012/    a finished segment: appears whole, by one rename
NAME.converting/dataset/            the dataset, until it is verified and moves to its place
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.data.durable import flush_to_disk, replacing

_PLAN: Final = "conversion.json"


class Staging:
    """Finished and unfinished work of one conversion.

    Args:
        root (`Path`): Where the dataset will be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root.with_name(f"{root.name}.converting")
        self.dataset = self.folder / "dataset"
        self._segments = self.folder / "segments"

    @contextmanager
    def opened(self, plan: dict[str, Any], *, restart: bool) -> Iterator[int]:
        """Take the folder for this process; how many segments are finished already.

        Args:
            plan (`dict`): What the segments depend on.
            restart (`bool`): Throw away what another plan left.

        Raises:
            CommandError: Another process converts there, or a conversion of other files was begun.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.root.with_name(f".{self.root.name}.converting.lock"))
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise CommandError(
                f"another process converts into {self.root} at this moment", "wait for it, or end it"
            ) from None
        except OSError as error:
            raise CommandError(
                f"{self.root.parent} cannot be written: {error}", "name another --root"
            ) from error
        try:
            self._begin(plan, restart=restart)
            yield len(self.finished())
        finally:
            with suppress(OSError):  # while it is held: nobody else can hold a file without a name
                Path(lock.lock_file).unlink()
            lock.release()

    def _begin(self, plan: dict[str, Any], *, restart: bool) -> None:
        if self.root.exists():
            raise CommandError(f"{self.root} is there already", "name another --root, or delete it first")
        if self.folder.exists() and not restart and self._plan() != json.loads(json.dumps(plan)):
            raise CommandError(
                f"{self.folder} holds a conversion of other files, or with other settings",
                "give the same ones to go on, or `--restart` to throw it away",
            )
        if restart:
            self.discard()
        if not self.folder.exists():
            self._segments.mkdir(parents=True)
            with replacing(self.folder / _PLAN) as new:
                new.write_text(json.dumps(plan, indent=2))
        self._segments.mkdir(exist_ok=True)
        for path in self._segments.glob("*.unfinished"):
            shutil.rmtree(path)
        shutil.rmtree(self.dataset, ignore_errors=True)

    def _plan(self) -> Any:
        try:
            return json.loads((self.folder / _PLAN).read_text())
        except (OSError, ValueError):
            # Killed before the plan was there: no segment is older than it.
            return None if self.finished() else self._forget_half_begun()

    def _forget_half_begun(self) -> None:
        self.discard()

    def finished(self) -> set[int]:
        """Indices of the finished segments."""
        return {int(path.name) for path in self._segments.glob("[0-9]*") if path.name.isdigit()}

    def unfinished_folder(self, index: int) -> Path:
        """An empty folder to write a segment to."""
        folder = self._segments / f"{index:06d}.unfinished"
        folder.mkdir(exist_ok=True)
        return folder

    def finish(self, index: int) -> None:
        """A segment is whole: keep it."""
        folder = self._segments / f"{index:06d}.unfinished"
        for path in folder.iterdir():
            flush_to_disk(path)
        os.replace(folder, self._segments / f"{index:06d}")
        flush_to_disk(self._segments)

    def part(self, index: int, name: str) -> Path:
        """A file of a finished segment."""
        return self._segments / f"{index:06d}" / name

    def publish(self) -> None:
        """Move the dataset to its place, at once, and remove the rest."""
        for path in sorted(self.dataset.rglob("*")):
            flush_to_disk(path)
        os.rename(self.dataset, self.root)
        flush_to_disk(self.root.parent)
        self.discard()

    def discard(self) -> None:
        """Remove everything but the dataset that is in its place."""
        shutil.rmtree(self.folder, ignore_errors=True)
