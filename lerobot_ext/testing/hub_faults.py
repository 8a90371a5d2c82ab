# SPDX-License-Identifier: Apache-2.0
"""A loopback Hub whose connections break where a test wants it: for code that must survive it.

```python
with FaultyHub(folder) as hub:
    push(hub)                                       # counts: hub.requests
    hub.break_at(3, "within", lasting=True)         # the third request from now on, and all after it
    …
    hub.mend()
```
"""

import struct
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, ClassVar, Literal

from lerobot_ext.testing.hub import HubServer
from lerobot_ext.testing.hub_routes import HubHandler

Place = Literal["before", "within", "after"]
PLACES: tuple[Place, ...] = ("before", "within", "after")


class _FaultyHandler(HubHandler):
    """Answers, or resets the connection."""

    def _answer(self) -> None:
        hub = self.hub
        assert isinstance(hub, FaultyHub)
        place = hub._next(f"{self.command} {self.path.partition('?')[0]}")
        if place is None:
            super()._answer()
            return
        if place == "within":
            self._read_half()
        if place == "after":
            answer, self.wfile = self.wfile, BytesIO()  # type: ignore[assignment]
            super()._answer()
            self.wfile = answer
        # Linger 0: what has not been sent is thrown away and the client gets a reset, not an orderly end.
        self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def _read_half(self) -> None:
        count = self._content_length()
        if count:
            self.rfile.read(max(1, count // 2))
        elif "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            self.rfile.readline(64)


class FaultyHub(HubServer):
    """A `HubServer` that breaks connections on demand, and counts requests."""

    handler: ClassVar[type[BaseHTTPRequestHandler]] = _FaultyHandler  # type: ignore[assignment]

    def __init__(self, root: Path, **options: Any) -> None:
        self.requests: list[str] = []
        self._at: int | None = None
        self._place: Place = "before"
        self._lasting = False
        self._seen = 0
        super().__init__(root, **options)

    def break_at(self, number: int, place: Place, *, lasting: bool = False) -> None:
        """Reset a connection.

        Args:
            number (`int`): Of which request from now on, 1 for the next one.
            place (`str`): `before` its body is read, `within` the body, or `after` it has been done, in place
                of the answer.
            lasting (`bool`, *optional*, defaults to `False`): Reset all after it too, before their bodies,
                until `mend`.
        """
        self._seen, self._at, self._place, self._lasting = 0, number, place, lasting

    def mend(self) -> None:
        """Answer everything again, and count from nothing."""
        self._at, self._seen = None, 0
        self.requests.clear()

    def _next(self, request: str) -> Place | None:
        """Where the request that has just come in breaks."""
        self.requests.append(request)
        self._seen += 1
        if self._at is None or self._seen < self._at:
            return None
        if self._seen == self._at:
            return self._place
        return "before" if self._lasting else None
