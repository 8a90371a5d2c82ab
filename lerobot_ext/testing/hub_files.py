# SPDX-License-Identifier: Apache-2.0
"""The loopback Hub's answers about files: listing, downloading, uploading, committing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any
from urllib.parse import parse_qs

from lerobot_ext.testing.hub_http import HubRequest, json_object, values_of, web_prefix
from lerobot_ext.testing.hub_store import (
    Commit,
    FileEntry,
    HubError,
    check_file_path,
    git_oid,
    large_file_fields,
    read_chunks,
)

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


class FileRequests(HubRequest):
    """Requests about the files of a repository; the methods are named by the routes."""

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
            paths = values_of(json_object(body), "paths", str)
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
        self._need_write(kind, repo)
        wishes = values_of(self._body_json(), "files", dict)
        _, commit = self.hub.store.resolve(kind, repo, revision)
        answers = []
        for wish in wishes:
            path = check_file_path(str(wish.get("path", "")))
            size, sample = wish.get("size", 0), wish.get("sample", "")
            if not isinstance(size, int) or not isinstance(sample, str):
                raise HubError(400, f"file {path!r} needs a number `size` and a text `sample`")
            mode = "lfs" if _is_large(path, size, _decoded(path, sample)) else "regular"
            known = commit.files.get(path)
            # The hash by which the client finds out that a file has not changed.
            oid = known.etag if known is not None and known.lfs == (mode == "lfs") else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def _lfs_batch(self, kind: str, repo: str) -> None:
        self._need_write(kind, repo)
        limit = self.hub.max_file_bytes
        answers = []
        for wish in values_of(self._body_json(), "objects", dict):
            oid, size = str(wish.get("oid", "")), wish.get("size")
            if not re.fullmatch(r"[0-9a-f]{64}", oid) or type(size) is not int or size < 0:
                raise HubError(422, f"large file {oid!r} needs a SHA-256 and a size")
            answer: dict[str, Any] = {"oid": oid, "size": size}
            if limit is not None and size > limit:
                message = f"a file of {size} bytes is larger than this Hub takes ({limit})"
                answers.append({**answer, "error": {"code": 413, "message": message}})
                continue
            if not self.hub.store.has_blob(oid):
                href = f"{self._base()}/lfs/{oid}/{size}"
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
        user = self._need_token()
        self._need_write(kind, repo)
        if self._query.get("create_pr", ["0"])[0] not in ("0", "false"):
            raise HubError(400, "the loopback Hub knows no pull requests; commit to a branch")
        lines = [json_object(line) for line in self._body().splitlines() if line.strip()]
        header: dict[str, Any] = {}
        changes = []
        for line in lines:
            key, value = line.get("key"), line.get("value")
            if not isinstance(value, dict):
                raise HubError(400, f"operation {key!r} has no object `value`")
            if key == "header":
                header = value
            else:
                entry = self._store_file(value) if key == "file" else None
                changes.append({"key": key, "value": value, "entry": entry})
        oid = self.hub.store.commit(kind, repo, revision, header, changes, author=user)
        address = f"{self._base()}/{web_prefix(kind)}{repo}/commit/{oid}"
        self._json({"success": True, "commitOid": oid, "commitUrl": address, "hookOutput": ""})

    def _store_file(self, value: dict[str, Any]) -> FileEntry:
        """Keep the content of a file that came within a commit."""
        if value.get("encoding") != "base64":
            raise HubError(400, f"file {value.get('path')!r} must be encoded in base64")
        content = _decoded(value.get("path"), value.get("content", ""))
        limit = self.hub.max_file_bytes
        if limit is not None and len(content) > limit:
            raise HubError(413, f"file {value.get('path')!r} is larger than this Hub takes ({limit} bytes)")
        sha256 = self.hub.store.add_blob(iter([content]))
        return FileEntry(sha256=sha256, size=len(content), git_oid=git_oid(content), lfs=False)


def _decoded(path: object, content: object) -> bytes:
    """The bytes of a file that came as base64."""
    try:
        return base64.b64decode(str(content), validate=True)
    except ValueError:  # also characters beyond ASCII
        raise HubError(400, f"file {path!r} is not base64") from None


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
            rows[path] = {
                "type": "file",
                "path": path,
                "size": entry.size,
                "oid": entry.git_oid,
            } | large_file_fields(entry)
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
