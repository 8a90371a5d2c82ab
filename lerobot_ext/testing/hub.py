# SPDX-License-Identifier: Apache-2.0
"""A HuggingFace Hub on loopback, good enough for the real `huggingface_hub` client.

Push and pull of models and datasets can be tried and tested offline, through the stock command lines too:

```python
with HubServer(folder) as server:
    variables = os.environ | client_environment(server.url, home)
    subprocess.run(["lerobot-train", …, "--policy.push_to_hub=true"], env=variables)
```

It knows what the client asks for while it creates repositories, uploads files (as git files or large files),
commits, lists and downloads: branches, tags, history, ranges. It does not know pull requests, XET storage,
Spaces or the web pages. By default it listens on 127.0.0.1 alone. It speaks HTTP without encryption: beyond
loopback whoever can listen on the network can read what is pushed, tokens included.

Tests have it as the pytest fixture `loopback_hub` (`lerobot_ext.testing.pytest_plugin`).
"""

import hashlib
import hmac
import ipaddress
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from unittest.mock import patch

from filelock import FileLock, Timeout

from lerobot_ext import hub_loopback
from lerobot_ext.testing.hub_http import USER
from lerobot_ext.testing.hub_routes import HubHandler
from lerobot_ext.testing.hub_store import HubStore


def client_environment(url: str, home: Path) -> dict[str, str]:
    """Environment variables that point a process's Hub client at a loopback Hub.

    Args:
        url (`str`): `HubServer.url`.
        home (`Path`): Folder for the client's cache and token, so that the user's own stay untouched.

    Returns:
        Variables to add to the process's environment. Our plugins read `LEROBOT_EXT_HUB_LOOPBACK` and answer
        the one request that the client sends elsewhere (see `lerobot_ext.hub_loopback`).
    """
    return {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_TOKEN": "loopback",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "LEROBOT_EXT_HUB_LOOPBACK": url,
        # A proxy of the user's must not be asked for 127.0.0.1.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


class HubBusyError(RuntimeError):
    """Another server uses the folder."""


class HubServer:
    """A Hub of this machine, serving from threads of this process; use it as a context manager.

    Private repositories are seen by the user whose name they begin with (`alice/x`), and those below a name
    that no user has (`lab/x`) by all users; everyone else gets the Hub's answer for one that is not there.

    Args:
        root (`Path`): Folder that keeps the repositories; what is there already is served. One server at a
            time may use it.
        port (`int`, *optional*, defaults to `0`): TCP port, 0 for any free one.
        token (`str`, *optional*): The only token accepted, that of `user`.
        tokens (`Mapping[str, str]`, *optional*): Users by their token. Without `token` and `tokens` any
            non-empty token is `user`'s.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): Address to listen on. Beyond loopback tokens must
            be configured, and nothing is answered without one.
        max_file_bytes (`int`, *optional*): Refuse larger files.

    Raises:
        OSError: The port is taken, or the folder cannot be written.
        ValueError: Tokens are missing for a host beyond loopback, or two ways of giving them are mixed.
        HubBusyError: Another server uses the folder.
    """

    handler: ClassVar[type[HubHandler]] = HubHandler

    def __init__(
        self,
        root: Path,
        port: int = 0,
        token: str | None = None,
        *,
        tokens: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        max_file_bytes: int | None = None,
    ) -> None:
        if token is not None and tokens is not None:
            raise ValueError("give `token` or `tokens`, not both")
        if token is not None:
            tokens = {token: USER}
        self.closed = not is_loopback(host)
        if self.closed and not tokens:
            raise ValueError(
                f"host {host!r} is reached from other machines: give `tokens`, one for each user"
            )
        self.tokens = None if tokens is None else dict(tokens)
        self.users = {USER} if self.tokens is None else set(self.tokens.values())
        self.max_file_bytes = max_file_bytes
        self.store = HubStore(root)
        self._lock = FileLock(root / ".lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise HubBusyError(f"{root} is served by another process already") from None
        # Upload addresses carry a signature instead of a token, as those of the Hub's storage do.
        self.secret = secrets.token_bytes(32)
        try:
            self._http = ThreadingHTTPServer((host, port), type("Handler", (self.handler,), {"hub": self}))
        except BaseException:
            self._lock.release()
            raise
        self._http.daemon_threads = True
        self.host = host
        # A short poll: stopping waits for the running one to end.
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="loopback-hub", daemon=True
        )

    @property
    def url(self) -> str:
        """Address for `HF_ENDPOINT`, without a final slash."""
        return f"http://{self.host}:{self._http.server_port}"

    def start(self) -> Self:
        """Serve from a background thread."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and free the port; the folder stays."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)
        self._lock.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def sign(self, text: str) -> str:
        """Signature of an upload address."""
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def in_this_process(server: HubServer, home: Path, token: str = "loopback") -> Iterator[None]:
    """Point the Hub client of this process, and of processes it starts, at a loopback Hub for a while.

    The client reads its variables when it is imported; what it made of them is changed here and put back.

    Args:
        server (`HubServer`): The Hub.
        home (`Path`): Folder for the client's cache.
        token (`str`, *optional*, defaults to `"loopback"`): The client's token.
    """
    import huggingface_hub
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import _http

    factory = _http._GLOBAL_CLIENT_FACTORY
    values: dict[str, Any] = {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    environment = client_environment(server.url, home) | {"HF_TOKEN": token}
    with (
        patch.dict(os.environ, environment),
        patch.multiple(constants, **values),
        patch.object(hf_api.api, "endpoint", server.url),
    ):
        huggingface_hub.close_session()
        hub_loopback.install(server.url)
        try:
            yield
        finally:
            huggingface_hub.set_client_factory(factory)
