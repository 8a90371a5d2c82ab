# SPDX-License-Identifier: Apache-2.0
"""The loopback Hub's answers: one route and one method for each request of the `huggingface_hub` client."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from lerobot_ext.testing.hub_store import (
    Commit,
    FileEntry,
    HubError,
    check_file_path,
    git_oid,
    read_chunks,
)

if TYPE_CHECKING:
    from lerobot_ext.testing.hub import HubServer

USER = "user"
# As on the Hub: these become large files whatever their size, and so does any file above the limit.
LARGE_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".parquet",
    ".arrow",
    ".mp4",
    ".npz",
    ".onnx",
)
LARGE_FROM_BYTES = 1 << 20
_MAX_JSON_BODY = 256 << 20
_CHUNK = 1 << 20

logger = logging.getLogger(__name__)

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


class HubHandler(BaseHTTPRequestHandler):
    """Answers one connection; the methods are named by `_ROUTES`."""

    hub: ClassVar[HubServer]
    protocol_version = "HTTP/1.1"
    server_version = "lerobot-ext-hub"
    _body_read = False

    def do_GET(self) -> None:
        """Answer a request of any kind; the routes tell the kinds apart."""
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Requests go to the log of this module, not to stderr."""
        logger.debug("%s " + format, self.address_string(), *args)

    # Dispatch

    def _answer(self) -> None:
        """Find the route, run it, and turn refusals into the Hub's error answers."""
        self._body_read = False
        self._query = parse_qs(urlsplit(self.path).query)
        path = urlsplit(self.path).path
        try:
            for method, pattern, name in _ROUTES:
                match = pattern.fullmatch(path)
                if match is not None and method == self.command:
                    self._run(name, match.groupdict())
                    return
            raise HubError(404, f"{self.command} {path} is not known to the loopback Hub")
        except HubError as error:
            self._refuse(error)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _run(self, name: str, parts: dict[str, str | None]) -> None:
        """Call a handler with its path's parts, decoded."""
        values = {key: unquote(value) for key, value in parts.items() if value is not None}
        if "repo" in parts:
            values.setdefault("kind", "model")
        if "path" in parts:
            values.setdefault("path", "")
        handler: Callable[..., None] = getattr(self, f"_{name}")
        handler(**values)

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
        return _json_object(self._body() or b"{}")

    def _token_is_good(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        return bool(given) and self.hub.token in (None, given)

    def _need_token(self) -> None:
        """Refuse who does not say who they are."""
        if not self._token_is_good():
            raise HubError(401, "this needs a token: set HF_TOKEN or run `hf auth login`")

    def _need_read(self, kind: str, repo: str) -> dict[str, Any]:
        """State of a repository the client may see; a private one looks missing, as on the Hub."""
        state = self.hub.store.state(kind, repo)
        if state["private"] and not self._token_is_good():
            raise HubError(401, f"{kind} {repo!r} is private or missing; set HF_TOKEN", "RepoNotFound")
        return state

    # Account and repositories

    def _whoami(self) -> None:
        self._need_token()
        auth = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
        self._json({"type": "user", "id": USER, "name": USER, "fullname": USER, "orgs": [], "auth": auth})

    def _validate_card(self) -> None:
        problem = _card_problem(str(self._body_json().get("content", "")))
        errors = [{"message": problem}] if problem else []
        self._json({"errors": errors, "warnings": []}, status=400 if problem else 200)

    def _create_repo(self) -> None:
        self._need_token()
        wish = self._body_json()
        kind = wish.get("type") or "model"
        repo = f"{wish.get('organization') or USER}/{wish.get('name')}"
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        answer = {"url": f"{self.hub.url}/{_prefix(kind)}{repo}", "name": repo, "id": repo}
        try:
            self.hub.store.create(kind, repo, private=private)
        except HubError as error:
            if error.status != 409:
                raise
            # `exist_ok=True` reads the address from the refusal.
            self._json({**answer, "error": str(error)}, status=409)
            return
        self._json(answer)

    def _delete_repo(self) -> None:
        self._need_token()
        wish = self._body_json()
        self.hub.store.delete(
            wish.get("type") or "model", f"{wish.get('organization') or USER}/{wish.get('name')}"
        )
        self._json({})

    def _list_repos(self, kind: str) -> None:
        author = self._query.get("author", [""])[0]
        search = self._query.get("search", [""])[0].lower()
        found = []
        for repo in self.hub.store.list_repos(kind):
            state = self.hub.store.state(kind, repo)
            wanted = repo.startswith(f"{author}/" if author else "") and search in repo.lower()
            if wanted and (not state["private"] or self._token_is_good()):
                found.append(self._describe(kind, repo, state, "main"))
        self._json(found)

    def _info(self, kind: str, repo: str, revision: str = "main") -> None:
        state = self._need_read(kind, repo)
        self._json(self._describe(kind, repo, state, revision))

    def _describe(self, kind: str, repo: str, state: dict[str, Any], revision: str) -> dict[str, Any]:
        """What the client makes a ModelInfo or DatasetInfo of."""
        oid, commit = self.hub.store.resolve(kind, repo, revision)
        return {
            "_id": oid[:24],
            "id": repo,
            "modelId": repo,
            "author": repo.partition("/")[0],
            "sha": oid,
            "private": state["private"],
            "gated": False,
            "disabled": False,
            "createdAt": state["created"],
            "lastModified": commit.date,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [
                {"rfilename": path, "size": entry.size, "blobId": entry.git_oid} | _lfs(entry)
                for path, entry in sorted(commit.files.items())
            ],
        }

    def _refs(self, kind: str, repo: str) -> None:
        state = self._need_read(kind, repo)

        def listed(sort: str, place: str) -> list[dict[str, str]]:
            refs = sorted(state[sort].items())
            return [{"name": name, "ref": f"refs/{place}/{name}", "targetCommit": oid} for name, oid in refs]

        branches, tags = listed("branches", "heads"), listed("tags", "tags")
        self._json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    def _commits(self, kind: str, repo: str, revision: str) -> None:
        self._need_read(kind, repo)
        self._json(
            [
                {
                    "id": oid,
                    "title": commit.message,
                    "message": commit.description,
                    "date": commit.date,
                    "authors": [{"user": USER}],
                }
                for oid, commit in self.hub.store.history(kind, repo, revision)
            ]
        )

    def _add_tag(self, kind: str, repo: str, revision: str) -> None:
        self._need_token()
        self.hub.store.add_ref(kind, repo, "tags", str(self._body_json().get("tag", "")), revision)
        self._json({})

    def _remove_tag(self, kind: str, repo: str, revision: str) -> None:
        self._need_token()
        self.hub.store.remove_ref(kind, repo, "tags", revision)
        self._json({})

    def _add_branch(self, kind: str, repo: str, revision: str) -> None:
        self._need_token()
        start = str(self._body_json().get("startingPoint") or "main")
        self.hub.store.add_ref(kind, repo, "branches", revision, start)
        self._json({})

    def _remove_branch(self, kind: str, repo: str, revision: str) -> None:
        self._need_token()
        self.hub.store.remove_ref(kind, repo, "branches", revision)
        self._json({})

    # Reading files

    def _tree(self, kind: str, repo: str, revision: str, path: str) -> None:
        self._need_read(kind, repo)
        _, commit = self.hub.store.resolve(kind, repo, revision)
        recursive = self._query.get("recursive", ["false"])[0].lower() in ("true", "1")
        rows = _tree_rows(commit, path.strip("/"), recursive=recursive)
        if path and not rows:
            raise HubError(404, f"{repo} has no folder {path!r}", "EntryNotFound")
        self._json(rows)

    def _paths_info(self, kind: str, repo: str, revision: str) -> None:
        self._need_read(kind, repo)
        body = self._body()
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = _json_object(body).get("paths", [])
        else:
            paths = parse_qs(body.decode(errors="replace")).get("paths", [])
        _, commit = self.hub.store.resolve(kind, repo, revision)
        rows = {row["path"]: row for row in _tree_rows(commit, "", recursive=True)}
        self._json([rows[path] for path in paths if path in rows])

    def _resolve(self, kind: str, repo: str, revision: str, path: str) -> None:
        self._need_read(kind, repo)
        oid, commit = self.hub.store.resolve(kind, repo, revision)
        entry = commit.files.get(path)
        if entry is None:
            raise HubError(404, f"{repo} has no file {path!r} at {revision!r}", "EntryNotFound")
        start, end = _range(self.headers.get("Range", ""), entry.size)
        partial = (start, end) != (0, entry.size)
        self.send_response(206 if partial else 200)
        self.send_header("X-Repo-Commit", oid)
        self.send_header("ETag", f'"{entry.etag}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        if entry.lfs:
            self.send_header("X-Linked-Etag", f'"{entry.etag}"')
            self.send_header("X-Linked-Size", str(entry.size))
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{entry.size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        with self.hub.store.blob_path(entry.sha256).open("rb") as source:
            source.seek(start)
            for chunk in read_chunks(source, end - start):
                self.wfile.write(chunk)

    # Writing files

    def _preupload(self, kind: str, repo: str, revision: str) -> None:
        self._need_token()
        wishes = self._body_json().get("files", [])
        _, commit = self.hub.store.resolve(kind, repo, revision)
        answers = []
        for wish in wishes:
            path = check_file_path(str(wish.get("path", "")))
            sample = base64.b64decode(wish.get("sample", ""))
            mode = "lfs" if _is_large(path, int(wish.get("size", 0)), sample) else "regular"
            known = commit.files.get(path)
            # The hash by which the client finds out that a file has not changed.
            oid = known.etag if known is not None and known.lfs == (mode == "lfs") else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def _lfs_batch(self, kind: str, repo: str) -> None:
        self._need_token()
        self.hub.store.state(kind, repo)
        answers = []
        for wish in self._body_json().get("objects", []):
            oid, size = str(wish.get("oid", "")), wish.get("size")
            if not re.fullmatch(r"[0-9a-f]{64}", oid) or not isinstance(size, int):
                raise HubError(422, f"large file {oid!r} needs a SHA-256 and a size")
            answer: dict[str, Any] = {"oid": oid, "size": size}
            if not self.hub.store.has_blob(oid):
                href = f"{self.hub.url}/lfs/{oid}/{size}"
                signature = self.hub.sign(f"{oid}/{size}")
                answer["actions"] = {
                    "upload": {"href": f"{href}?signature={signature}", "header": {}},
                    "verify": {"href": f"{href}/verify", "header": {}},
                }
            answers.append(answer)
        self._json({"transfer": "basic", "objects": answers})

    def _lfs_put(self, oid: str, size: str) -> None:
        given = self._query.get("signature", [""])[0]
        if not hmac.compare_digest(given.encode(), self.hub.sign(f"{oid}/{size}").encode()):
            raise HubError(403, "this upload address was not handed out by this Hub")
        try:
            self.hub.store.add_blob(self._chunks(), sha256=oid, size=int(size))
        except HubError:
            self.close_connection = True  # the rest of the body is still on its way
            raise
        self._json({})

    def _lfs_verify(self, oid: str, size: str) -> None:
        self._need_token()
        self._body()
        if not self.hub.store.has_blob(oid) or self.hub.store.blob_size(oid) != int(size):
            raise HubError(404, f"large file {oid} has not arrived")
        self._json({})

    def _commit(self, kind: str, repo: str, revision: str) -> None:
        self._need_token()
        if self._query.get("create_pr", ["0"])[0] not in ("0", "false"):
            raise HubError(400, "the loopback Hub knows no pull requests; commit to a branch")
        lines = [_json_object(line) for line in self._body().splitlines() if line.strip()]
        header: dict[str, Any] = {}
        changes = []
        for line in lines:
            if line.get("key") == "header":
                header = line.get("value") or {}
            elif line.get("key") == "file":
                changes.append({**line, "entry": self._store_file(line.get("value") or {})})
            else:
                changes.append({key: line.get(key) for key in ("key", "value")})
        oid = self.hub.store.commit(kind, repo, revision, header, changes)
        address = f"{self.hub.url}/{_prefix(kind)}{repo}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": address, "hookOutput": ""})

    def _store_file(self, value: dict[str, Any]) -> FileEntry:
        """Keep the content of a file that came within a commit."""
        if value.get("encoding") != "base64":
            raise HubError(400, f"file {value.get('path')!r} must be encoded in base64")
        try:
            content = base64.b64decode(str(value.get("content", "")), validate=True)
        except binascii.Error:
            raise HubError(400, f"file {value.get('path')!r} is not base64") from None
        sha256 = self.hub.store.add_blob(iter([content]))
        return FileEntry(sha256=sha256, size=len(content), git_oid=git_oid(content), lfs=False)


def _json_object(text: bytes) -> dict[str, Any]:
    """`text` as a JSON object, else a refusal."""
    try:
        value = json.loads(text)
    except ValueError:
        raise HubError(400, "the request's body is not JSON") from None
    if not isinstance(value, dict):
        raise HubError(400, "the request's body is not a JSON object")
    return value


def _prefix(kind: str) -> str:
    """Where repositories of a kind live on the Hub's web address."""
    return "" if kind == "model" else f"{kind}s/"


def _lfs(entry: FileEntry) -> dict[str, Any]:
    """What listings say about a large file."""
    return (
        {"lfs": {"oid": entry.sha256, "sha256": entry.sha256, "size": entry.size, "pointerSize": 134}}
        if entry.lfs
        else {}
    )


def _tree_rows(commit: Commit, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below `folder`, as the tree listing gives them."""
    start = f"{folder}/" if folder else ""
    rows: dict[str, dict[str, Any]] = {}
    for path, entry in commit.files.items():
        if not path.startswith(start):
            continue
        parts = path[len(start) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            name = start + "/".join(parts[:depth])
            oid = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
            rows[name] = {"type": "directory", "path": name, "oid": oid, "size": 0}
        if recursive or len(parts) == 1:
            rows[path] = {"type": "file", "path": path, "size": entry.size, "oid": entry.git_oid} | _lfs(
                entry
            )
    return [rows[name] for name in sorted(rows)]


def _is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether a file is kept as a large file: by its name, its size, or because it is no text."""
    return path.endswith(LARGE_SUFFIXES) or size >= LARGE_FROM_BYTES or b"\0" in sample


def _range(header: str, size: int) -> tuple[int, int]:
    """First byte and one past the last that a `Range` header asks for; without one the whole file.

    Raises:
        HubError: The range lies outside the file.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= end:
        raise HubError(416, f"range {header!r} lies outside the file's {size} bytes")
    return start, end


def _card_problem(content: str) -> str:
    """What is wrong with a card's YAML header, empty when nothing is."""
    import yaml  # type: ignore[import-untyped]  # huggingface_hub brings it

    match = re.match(r"---\r?\n(.*?)\r?\n---\s*(?:\r?\n|$)", content, flags=re.DOTALL)
    if match is None:
        return ""
    try:
        header = yaml.safe_load(match.group(1))
    except yaml.YAMLError as error:
        return f"the header is not YAML: {' '.join(str(error).split())}"
    return "" if header is None or isinstance(header, dict) else "the header must be `key: value` lines"
