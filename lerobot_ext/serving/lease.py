# SPDX-License-Identifier: Apache-2.0
"""Who drives: one client at a time holds the lease, by signs of life; others are refused or wait."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal


class NotYours(Exception):  # noqa: N818 - reads as what it says
    """The lease is not this client's: it never had it, or it ran out."""


class Taken(NotYours):
    """Another client has the lease.

    Args:
        message (`str`): What to tell the client.
        ahead (`int`, *optional*): Clients before it in the queue; None when it does not wait.
    """

    def __init__(self, message: str, ahead: int | None = None) -> None:
        super().__init__(message)
        self.ahead = ahead


@dataclass
class _Client:
    session: str
    since: float
    seen: float
    at_work: int = 0


class Lease:
    """A lease of one holder.

    Args:
        ttl_s (`float`): It ends this long after the holder's last sign of life; so does a place in the queue.
        others (`str`): `refuse` a second client, or `queue` it.
        max_waiting (`int`, *optional*, defaults to 16): Places in the queue.
        clock (`Callable`, *optional*): Seconds that never go back.
    """

    def __init__(
        self,
        ttl_s: float,
        others: Literal["refuse", "queue"] = "refuse",
        max_waiting: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl_s = ttl_s
        self._others = others
        self._max_waiting = max_waiting
        self._clock = clock
        self._holder: _Client | None = None
        self._waiting: list[_Client] = []
        self._lock = threading.Lock()

    @property
    def holder(self) -> str | None:
        """Session of the client that holds the lease now."""
        with self._lock:
            self._expire()
            return self._holder.session if self._holder else None

    @property
    def n_waiting(self) -> int:
        """Clients in the queue."""
        with self._lock:
            self._expire()
            return len(self._waiting)

    def acquire(self, session: str) -> bool:
        """Take the lease, or renew it.

        Args:
            session (`str`): The client's own secret name.

        Returns:
            Whether it is new to the client; False when it held it already.

        Raises:
            Taken: Another holds it. A client that waits asks again, which keeps its place.
        """
        with self._lock:
            self._expire()
            now = self._clock()
            if self._holder is not None and self._holder.session == session:
                self._holder.seen = now
                return False
            if self._holder is None and (not self._waiting or self._waiting[0].session == session):
                self._waiting = self._waiting[1:]
                self._holder = _Client(session, now, now)
                return True
            raise self._put_off(session, now)

    def renew(self, session: str) -> None:
        """A sign of life of the holder.

        Raises:
            NotYours: It does not hold the lease (any more): join again.
        """
        with self._lock:
            self._expire()
            if self._holder is None or self._holder.session != session:
                raise NotYours(
                    "this client holds no session: it never joined, or gave no sign of life for "
                    f"{self.ttl_s:g} s, or the server was restarted; join again"
                )
            self._holder.seen = self._clock()

    @contextmanager
    def at_work(self, session: str) -> Iterator[None]:
        """Keep the lease while the server works for its holder: loading a policy takes longer than `ttl_s`.

        Raises:
            NotYours: It does not hold the lease.
        """
        self.renew(session)
        with self._lock:
            holder = self._holder
            if holder is not None:
                holder.at_work += 1
        try:
            yield
        finally:
            with self._lock:
                if holder is not None:
                    holder.at_work -= 1
                    holder.seen = self._clock()

    def release(self, session: str) -> None:
        """Give the lease, or the place in the queue, back. Unknown sessions change nothing."""
        with self._lock:
            self._expire()
            if self._holder is not None and self._holder.session == session:
                self._holder = None
            self._waiting = [client for client in self._waiting if client.session != session]

    def _expire(self) -> None:
        oldest = self._clock() - self.ttl_s
        if self._holder is not None and self._holder.seen < oldest and not self._holder.at_work:
            self._holder = None
        self._waiting = [client for client in self._waiting if client.seen >= oldest]

    def _put_off(self, session: str, now: float) -> Taken:
        """Refuse a client, or note that it waits."""
        driving = ""
        if self._holder is not None:
            driving = (
                f"another client drives since {now - self._holder.since:.0f} s "
                f"(last sign of life {now - self._holder.seen:.1f} s ago; without one the session ends after "
                f"{self.ttl_s:g} s)"
            )
        if self._others == "refuse":
            return Taken(
                f"{driving}; wait for its end, or start the server with --clients=queue to wait in line"
            )
        for ahead, client in enumerate(self._waiting):
            if client.session == session:
                client.seen = now
                return Taken(driving or "others wait before this client", ahead)
        if len(self._waiting) >= self._max_waiting:
            return Taken(f"the queue is full: {len(self._waiting)} clients wait already")
        self._waiting.append(_Client(session, now, now))
        return Taken(driving or "others wait before this client", len(self._waiting) - 1)
