# SPDX-License-Identifier: Apache-2.0
"""HTTP as the loopback Hub needs it: bodies, JSON answers, refusals, tokens."""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar

from lerobot_ext.testing.hub_store import HubError, read_chunks

if TYPE_CHECKING:
    from lerobot_ext.testing.hub import HubServer

USER = "user"
"""Who pushes when no users are configured."""
_MAX_JSON_BODY = 256 << 20

logger = logging.getLogger(__name__)


class HubRequest(BaseHTTPRequestHandler):
    """One connection to the Hub, without knowledge of what is asked."""

    hub: ClassVar[HubServer]
    protocol_version = "HTTP/1.1"
    server_version = "lerobot-ext-hub"
    disable_nagle_algorithm = True  # an answer is two writes: the second would wait 40 ms for an ACK
    timeout = 300  # seconds of silence after which a connection is given up
    _body_read = False
    _query: dict[str, list[str]]

    def log_message(self, format: str, *args: Any) -> None:
        """Requests go to the log of this module, not to stderr."""
        logger.debug("%s " + format, self.address_string(), *args)

    def _refuse(self, error: HubError) -> None:
        """Send an error the way the client understands it."""
        headers = {"X-Error-Message": str(error).encode("ascii", "replace").decode()}
        if error.code:
            headers["X-Error-Code"] = error.code
        if not self._body_read:
            # What the client still sends would be taken for its next request.
            self.close_connection = True
            headers["Connection"] = "close"
        self._json({"error": str(error)}, status=error.status, headers=headers)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send `value` as JSON."""
        content = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # Body and token

    def _chunks(self) -> Iterator[bytes]:
        """The request's body in pieces; the client sends streams in HTTP chunks."""
        self._body_read = True
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            yield from read_chunks(self.rfile, self._content_length())  # type: ignore[arg-type]
            return
        while True:
            try:
                count = int(self.rfile.readline(1024).split(b";")[0], 16)
            except ValueError:
                self.close_connection = True
                raise HubError(400, "the request's body is not well-formed HTTP chunks") from None
            yield from read_chunks(self.rfile, count)  # type: ignore[arg-type]
            self.rfile.readline(1024)
            if count == 0:
                return

    def _content_length(self) -> int:
        try:
            return max(int(self.headers.get("Content-Length", "0")), 0)
        except ValueError:
            raise HubError(400, "header Content-Length is no number") from None

    def _body(self) -> bytes:
        """The whole body of a request that fits memory."""
        if self._content_length() > _MAX_JSON_BODY:
            raise HubError(413, f"the request's body is larger than {_MAX_JSON_BODY} bytes")
        content = BytesIO()
        for chunk in self._chunks():
            content.write(chunk)
            if content.tell() > _MAX_JSON_BODY:
                self.close_connection = True
                raise HubError(413, f"the request's body is larger than {_MAX_JSON_BODY} bytes")
        return content.getvalue()

    def _body_json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one counts as `{}`."""
        return json_object(self._body() or b"{}")

    def _who(self) -> str | None:
        """Name of the user whose token came with the request; `None` when none came.

        Raises:
            HubError: The token is not one of ours.
        """
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if not given:
            return None
        if self.hub.tokens is None:
            return USER
        for token, user in self.hub.tokens.items():
            if hmac.compare_digest(token.encode(), given.encode()):
                return user
        raise HubError(401, "Invalid credentials in Authorization header: this Hub does not know the token")

    def _need_token(self) -> str:
        """Name of the user; who does not say who they are is refused."""
        user = self._who()
        if user is None:
            raise HubError(401, "this needs a token: set HF_TOKEN or run `hf auth login`")
        return user

    def _need_read(self, kind: str, repo: str) -> dict[str, Any]:
        """State of a repository the client may see; a private one looks missing, as on the Hub."""
        user = self._who()
        try:
            state = self.hub.store.state(kind, repo)
        except HubError as error:
            if error.status != 404:
                raise
            state = None
        if state is None or (state["private"] and not self._may_use(user, repo)):
            if user is None:
                raise HubError(401, f"{kind} {repo!r} is private or missing; set HF_TOKEN", "RepoNotFound")
            raise HubError(404, f"there is no {kind} repository {repo!r}", "RepoNotFound")
        return state

    def _need_write(self, kind: str, repo: str) -> dict[str, Any]:
        """State of a repository the client may change."""
        user = self._need_token()
        state = self._need_read(kind, repo)
        self._need_namespace(user, repo)
        return state

    def _need_namespace(self, user: str, repo: str) -> None:
        """Refuse a repository below another user's name."""
        if not self._may_use(user, repo):
            owner = repo.partition("/")[0]
            raise HubError(403, f"{user!r} may not write to {repo!r}: it belongs to {owner!r}")

    def _may_use(self, user: str | None, repo: str) -> bool:
        """Whether a repository is a user's own, or below a name that is no user's and thus all users'."""
        owner = repo.partition("/")[0]
        return user is not None and (owner == user or owner not in self.hub.users)

    def _base(self) -> str:
        """Address by which this client reaches the Hub; on a network it has several."""
        host = self.headers.get("Host", "")
        return f"http://{host}" if re.fullmatch(r"[\w.:\[\]-]+", host) else self.hub.url


def json_object(text: bytes) -> dict[str, Any]:
    """`text` as a JSON object, else a refusal."""
    try:
        value = json.loads(text)
    except ValueError:
        raise HubError(400, "the request's body is not JSON") from None
    if not isinstance(value, dict):
        raise HubError(400, "the request's body is not a JSON object")
    return value


def values_of[Kind](body: dict[str, Any], name: str, kind: type[Kind]) -> list[Kind]:
    """The list that a field of a body must be, each value of one kind; an absent field is an empty list."""
    values = body.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise HubError(400, f"field `{name}` of the request's body is not a list of {kind.__name__}")
    return values


def web_prefix(kind: str) -> str:
    """Where repositories of a kind live on the Hub's web address."""
    return "" if kind == "model" else f"{kind}s/"
