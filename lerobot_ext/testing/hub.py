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
Spaces or the web pages. It listens on 127.0.0.1 only and is no place for secrets.
"""

import hashlib
import hmac
import secrets
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

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


class HubServer:
    """A Hub on 127.0.0.1, serving from threads of this process; use it as a context manager.

    Args:
        root (`Path`): Folder that keeps the repositories; what is there already is served.
        port (`int`, *optional*, defaults to `0`): TCP port, 0 for any free one.
        token (`str`, *optional*): The only token accepted. By default any non-empty one is.

    Raises:
        OSError: The port is taken, or the folder cannot be written.
    """

    def __init__(self, root: Path, port: int = 0, token: str | None = None) -> None:
        self.store = HubStore(root)
        self.token = token
        # Upload addresses carry a signature instead of a token, as those of the Hub's storage do.
        self.secret = secrets.token_bytes(32)
        handler = type("Handler", (HubHandler,), {"hub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        # A short poll: stopping waits for the running one to end.
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="loopback-hub", daemon=True
        )

    @property
    def url(self) -> str:
        """Address for `HF_ENDPOINT`, without a final slash."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def start(self) -> "HubServer":
        """Serve from a background thread."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and free the port; the folder stays."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> "HubServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def sign(self, text: str) -> str:
        """Signature of an upload address."""
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()
