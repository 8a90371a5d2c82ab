# SPDX-License-Identifier: Apache-2.0
"""Which request of the `huggingface_hub` client the loopback Hub answers by which method."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

from lerobot_ext.testing.hub_files import FileRequests
from lerobot_ext.testing.hub_repos import RepositoryRequests
from lerobot_ext.testing.hub_store import HubError

_REPO = r"/api/(?P<kind>model|dataset|space)s/(?P<repo>[^/]+/[^/]+)"
_FILE = r"/(?:(?P<kind>dataset|space)s/)?(?P<repo>[^/]+/[^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], str]] = [
    (method, re.compile(pattern), name)
    for method, pattern, name in [
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate_card"),
        ("POST", r"/api/repos/create", "create_repo"),
        ("DELETE", r"/api/repos/delete", "delete_repo"),
        ("GET", r"/api/(?P<kind>model|dataset|space)s", "list_repos"),
        ("GET", _REPO, "info"),
        ("GET", _REPO + r"/revision/(?P<revision>[^/]+)", "info"),
        ("GET", _REPO + r"/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
        ("POST", _REPO + r"/paths-info/(?P<revision>[^/]+)", "paths_info"),
        ("GET", _REPO + r"/refs", "refs"),
        ("GET", _REPO + r"/commits/(?P<revision>[^/]+)", "commits"),
        ("POST", _REPO + r"/tag/(?P<revision>[^/]+)", "add_tag"),
        ("DELETE", _REPO + r"/tag/(?P<revision>[^/]+)", "remove_tag"),
        ("POST", _REPO + r"/branch/(?P<revision>[^/]+)", "add_branch"),
        ("DELETE", _REPO + r"/branch/(?P<revision>[^/]+)", "remove_branch"),
        ("POST", _REPO + r"/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", _REPO + r"/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", _FILE + r"\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})/(?P<size>\d+)", "lfs_put"),
        ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/(?P<size>\d+)/verify", "lfs_verify"),
        ("GET", _FILE + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
        ("HEAD", _FILE + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ]
]


# Requests that come without a token from a client that has one: uploads are signed, a card holds no secret.
_OPEN = ("lfs_put", "validate_card")

logger = logging.getLogger(__name__)


class HubHandler(RepositoryRequests, FileRequests):
    """Answers one connection; the methods are named by `_ROUTES`."""

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        """Answer a request of any kind; the routes tell the kinds apart."""
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        """Find the route, run it, and turn refusals into the Hub's error answers."""
        self._body_read = False
        self._query = parse_qs(urlsplit(self.path).query)
        path = urlsplit(self.path).path
        try:
            for method, pattern, name in _ROUTES:
                match = pattern.fullmatch(path)
                if match is not None and method == self.command:
                    if self.hub.closed and name not in _OPEN:
                        self._need_token()
                    self._run(name, match.groupdict())
                    return
            raise HubError(404, f"{self.command} {path} is not known to the loopback Hub")
        except HubError as error:
            self._refuse(error)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except OSError as error:
            # The disk, most often: full, or gone. Nothing was committed.
            logger.exception("the loopback Hub could not answer %s %s", self.command, path)
            self.close_connection = True
            self._refuse(HubError(507, f"the Hub's disk refused: {error.strerror or error}"))
        except Exception as error:  # a request must not end without an answer
            logger.exception("the loopback Hub failed at %s %s", self.command, path)
            self.close_connection = True
            self._refuse(HubError(500, f"the loopback Hub failed: {type(error).__name__}: {error}"))

    def _run(self, name: str, parts: dict[str, str | None]) -> None:
        """Call a handler with its path's parts, decoded."""
        values = {key: unquote(value) for key, value in parts.items() if value is not None}
        if "repo" in parts:
            values.setdefault("kind", "model")
        if "path" in parts:
            values.setdefault("path", "")
        handler: Callable[..., None] = getattr(self, f"_{name}")
        handler(**values)
