# SPDX-License-Identifier: Apache-2.0
"""Control socket of the bench: JSON lines over a unix socket, one request and one answer each.

| request | effect |
|---|---|
| `{"cmd": "status"}` | what the bench is doing |
| `{"cmd": "hand", "mode": "idle"}` | change the scripted hand |
| `{"cmd": "reset", "task": "lift", "seed": 3}` | new cube and goal; both fields optional |
| `{"cmd": "fault", "spec": "drop=0.05", "arm": "follower"}` | set faults, `""` for none; `arm` is optional |
| `{"cmd": "unplug", "arm": "follower"}` | pull the USB cable; `arm` is optional |
| `{"cmd": "plug", "arm": "follower"}` | put it back: another port under the same link |
| `{"cmd": "torque"}` | which servos have torque |
| `{"cmd": "snapshot", "camera": "top", "path": "/tmp/top.png"}` | save a camera's picture |
| `{"cmd": "stop"}` | end the bench |

Every answer has `"ok"`; a failed one has `"error"`.
"""

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

MAX_PATH: Final = 107  # bytes of a unix socket's path on Linux
Handler = Callable[[dict[str, Any]], dict[str, Any]]


class ControlServer:
    """Answers requests until stopped.

    Args:
        path (`Path`): Where to put the socket; a stale one is replaced.
        handlers (`dict[str, Handler]`): What each `cmd` does. A handler's `ValueError` or `RuntimeError`
            becomes the answer's `error`.

    Raises:
        OSError: The socket cannot be made there.
    """

    def __init__(self, path: Path, handlers: dict[str, Handler]) -> None:
        self.path = path
        if len(str(path).encode()) > MAX_PATH:
            raise OSError(f"`--control-socket` {path} is longer than {MAX_PATH} bytes; choose a shorter one.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

        class Connection(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    answer = _answer(line, handlers)
                    with contextlib.suppress(OSError):
                        self.wfile.write(json.dumps(answer).encode() + b"\n")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self._server = Server(str(path), Connection)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="control", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and remove the socket."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self.path.unlink(missing_ok=True)


def _answer(line: bytes, handlers: dict[str, Handler]) -> dict[str, Any]:
    try:
        request = json.loads(line)
        command = request["cmd"]
    except (ValueError, TypeError, KeyError):
        return {"ok": False, "error": 'send one JSON object a line, such as {"cmd": "status"}.'}
    handler = handlers.get(command)
    if handler is None:
        return {"ok": False, "error": f"`cmd` is {command!r}; the bench knows {', '.join(sorted(handlers))}."}
    try:
        return {"ok": True, **handler(request)}
    except (ValueError, RuntimeError, TimeoutError) as error:
        return {"ok": False, "error": str(error) or repr(error)}


class BenchClient:
    """Talks to a running bench.

    Args:
        path (`Path | str`): Its control socket.
        timeout_s (`float`, *optional*, defaults to `10.0`): How long to wait for an answer.

    Example:
        ```python
        with BenchClient("sim/control.sock") as bench:
            bench.request("reset", seed=3)
            print(bench.request("status")["lifts"])
        ```
    """

    def __init__(self, path: Path | str, timeout_s: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise ConnectionError(
                f"no bench answers at {path}: {error}. Start one with `lerobot-ext sim`, or pass its "
                "--control-socket."
            ) from error
        self._file = self._socket.makefile("rwb")

    def request(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """Send one request and return the answer.

        Raises:
            RuntimeError: The bench refused; the message is its reason.
            ConnectionError: The bench ended.
        """
        self._file.write(json.dumps({"cmd": cmd, **fields}).encode() + b"\n")
        self._file.flush()
        line = self._file.readline()
        if not line:
            raise ConnectionError("the bench ended before it answered.")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> "BenchClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
