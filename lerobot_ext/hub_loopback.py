# SPDX-License-Identifier: Apache-2.0
"""Lets a process push to a Hub on loopback, down to the one request that ignores `HF_ENDPOINT`.

Pushing a model card makes the client post it to `https://huggingface.co/api/validate-yaml`, whatever
`HF_ENDPOINT` says: without the internet every push fails there. With
`LEROBOT_EXT_HUB_LOOPBACK=http://127.0.0.1:PORT` that one request goes to the loopback Hub
(`lerobot_ext.testing.hub`) as all others do. Without the variable nothing happens.
"""

import ipaddress
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx

VARIABLE = "LEROBOT_EXT_HUB_LOOPBACK"
_HARD_CODED = ("huggingface.co", "/api/validate-yaml")


def install_from_environment() -> None:
    """Reroute the hard-coded request if `LEROBOT_EXT_HUB_LOOPBACK` is set.

    Raises:
        ValueError: The variable does not name an `http://` address on loopback.
    """
    url = os.environ.get(VARIABLE, "")
    if url:
        install(url)


def install(url: str) -> None:
    """Send the card check of this process's Hub client to `url`, through the client's own factory.

    Args:
        url (`str`): Address of a Hub on loopback, such as `HubServer.url`.

    Raises:
        ValueError: It is not on loopback: cards and tokens must not be sent elsewhere by an environment
        variable.
    """
    check_loopback(url)
    # Imported here: a process without the variable must not pay for the client.
    import httpx
    import huggingface_hub
    from huggingface_hub.utils import _http

    target = httpx.URL(url)

    def reroute(request: "httpx.Request") -> None:
        if (request.url.host, request.url.path) == _HARD_CODED:
            request.url = target.copy_with(path=request.url.path)
            request.headers["Host"] = target.netloc.decode("ascii")

    def client() -> "httpx.Client":
        made: httpx.Client = _http.default_client_factory()
        hooks = made.event_hooks
        made.event_hooks = {**hooks, "request": [*hooks.get("request", []), reroute]}
        return made

    huggingface_hub.set_client_factory(client)


def check_loopback(url: str) -> None:
    """Refuse an address that is neither on this machine nor where this process pushes to anyway.

    Raises:
        ValueError: `url` is no `http://` address of 127.0.0.0/8, ::1 or `localhost`, and not `HF_ENDPOINT`.
    """
    if url.startswith("http://") and url == os.environ.get("HF_ENDPOINT"):
        return  # a Hub of the lab: it gets the token and the files already
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if parts.scheme != "http" or not local:
        raise ValueError(
            f"environment variable {VARIABLE} is {url!r}, neither an address on loopback nor HF_ENDPOINT; "
            "set it to the URL that `lerobot-ext hub serve` prints, or unset it"
        )
