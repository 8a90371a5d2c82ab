# SPDX-License-Identifier: Apache-2.0
"""What the loopback Hub keeps: repositories as commits over content-addressed blobs in one folder.

    blobs/<sha256>                              contents of all files of all repositories
    repos/<type>/<namespace>/<name>/
        commits/<id>.json                       one commit: parent, message, date, files by path
        refs.json                               branches and tags: the only file that ever changes

A commit becomes visible by one rename of `refs.json`, after all it names is on disk: readers see the whole
commit or nothing of it, also when the process is killed in between. Each file is on the disk before the next
one names it, so that this holds for a power loss too. File paths are keys in JSON and never become paths of
this machine; repository names do, and are checked for it.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from lerobot_ext.data.durable import flush_to_disk, replacing

REPO_TYPES = ("model", "dataset", "space")
_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[\w-])?")
_REF = re.compile(r"[A-Za-z0-9_][\w./-]{0,120}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


class HubError(Exception):
    """A request that is refused: HTTP status, the Hub's error code (may be empty), a message for people."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class FileEntry:
    """One file of a commit.

    Args:
        sha256 (`str`): Its content, a name in `blobs/`.
        size (`int`): Bytes.
        git_oid (`str`): SHA-1 as git computes it, what the client compares regular files by.
        lfs (`bool`): Whether it was uploaded as a large file.
    """

    sha256: str
    size: int
    git_oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        """What identifies the content to a client, as on the Hub: SHA-256 of a large file, else git's."""
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    """One state of a repository.

    Args:
        parent (`str`): Id of the commit before, empty for the first.
        message (`str`), description (`str`): What the client said.
        author (`str`): The user who pushed it.
        date (`str`): ISO 8601, UTC.
        files (`dict[str, FileEntry]`): All files by path.
    """

    parent: str
    message: str
    description: str
    date: str
    files: dict[str, FileEntry] = field(default_factory=dict)
    author: str = "user"

    @property
    def id(self) -> str:
        """40 hexadecimal digits, from everything the commit holds."""
        return hashlib.sha1(self.to_json().encode(), usedforsecurity=False).hexdigest()

    def to_json(self) -> str:
        """The commit as it is stored."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Commit":
        """The commit that `to_json` wrote."""
        raw = json.loads(text)
        files = {path: FileEntry(**entry) for path, entry in raw.pop("files").items()}
        return Commit(**raw, files=files)


def check_file_path(path: str) -> str:
    """`path` if it is a plain relative path with forward slashes.

    Raises:
        HubError: It could lead out of a folder that a client downloads into.
    """
    parts = path.split("/")
    if (
        "\\" in path
        or "\0" in path
        or re.match(r"[A-Za-z]:", path)
        or any(p in ("", ".", "..") for p in parts)
    ):
        raise HubError(
            400, f"path {path!r} is not allowed: it must be relative, without empty or dotted parts"
        )
    if parts[0] == ".git":
        raise HubError(400, f"path {path!r} is not allowed: `.git` belongs to the Hub")
    return path


class HubStore:
    """All repositories of one loopback Hub, safe to use from many threads of one process.

    Args:
        root (`Path`): Folder that holds them; created when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()

    # Blobs

    def has_blob(self, sha256: str) -> bool:
        """Whether this content is stored."""
        return _SHA256.fullmatch(sha256) is not None and (self._blobs / sha256).is_file()

    def blob_path(self, sha256: str) -> Path:
        """File that holds this content."""
        return self._blobs / sha256

    def blob_size(self, sha256: str) -> int:
        """Bytes of a stored content."""
        return self.blob_path(sha256).stat().st_size

    def add_blob(self, chunks: Iterator[bytes], *, sha256: str | None = None, size: int | None = None) -> str:
        """Store a content, checking it against what was announced.

        Args:
            chunks (`Iterator[bytes]`): The content.
            sha256 (`str`, *optional*): Announced hash.
            size (`int`, *optional*): Announced number of bytes.

        Returns:
            Its SHA-256.

        Raises:
            HubError: Hash or size are not as announced; nothing is stored then.
        """
        digest, count = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self._blobs, prefix=".part-", delete=False) as sink:
            part = Path(sink.name)
            try:
                for chunk in chunks:
                    count += len(chunk)
                    if size is not None and count > size:
                        raise HubError(400, f"upload is larger than the {size} bytes announced")
                    digest.update(chunk)
                    sink.write(chunk)
                sink.close()
                found = digest.hexdigest()
                if size is not None and count != size:
                    raise HubError(400, f"upload has {count} bytes, {size} were announced")
                if sha256 is not None and found != sha256:
                    raise HubError(400, f"upload has SHA-256 {found}, {sha256} was announced")
                flush_to_disk(part)
                os.replace(part, self._blobs / found)
                flush_to_disk(self._blobs)
            finally:
                sink.close()
                with contextlib.suppress(FileNotFoundError):
                    part.unlink()
        return found

    # Repositories

    def create(self, kind: str, repo_id: str, *, private: bool) -> None:
        """Make an empty repository.

        Raises:
            HubError: The name is not allowed, or taken.
        """
        folder = self._folder(kind, repo_id)
        with self._lock:
            if (folder / "refs.json").exists():
                raise HubError(409, f"You already created this {kind} repo: {repo_id}")
            first = Commit(parent="", message="initial commit", description="", date=_now())
            self._write_commit(folder, first)
            state = {"private": private, "created": first.date, "branches": {"main": first.id}, "tags": {}}
            _write_json(folder / "refs.json", json.dumps(state))

    def delete(self, kind: str, repo_id: str) -> None:
        """Remove a repository; its blobs stay, others may share them."""
        with self._lock:
            self.state(kind, repo_id)
            shutil.rmtree(self._folder(kind, repo_id))

    def list_repos(self, kind: str) -> list[str]:
        """Ids of all repositories of a kind."""
        found = (self.root / "repos" / kind).glob("*/*/refs.json")
        return sorted(f"{path.parent.parent.name}/{path.parent.name}" for path in found)

    def state(self, kind: str, repo_id: str) -> dict[str, Any]:
        """Visibility, branches and tags of a repository.

        Raises:
            HubError: There is no such repository.
        """
        try:
            text = (self._folder(kind, repo_id) / "refs.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise HubError(404, f"there is no {kind} repository {repo_id!r}", "RepoNotFound") from None
        state: dict[str, Any] = json.loads(text)
        return state

    def resolve(self, kind: str, repo_id: str, revision: str) -> tuple[str, Commit]:
        """The commit that a branch, tag or commit id means.

        Returns:
            Its id and the commit.

        Raises:
            HubError: There is no such repository or revision.
        """
        state = self.state(kind, repo_id)
        oid = state["branches"].get(revision) or state["tags"].get(revision) or revision
        if re.fullmatch(r"[0-9a-f]{40}", oid):
            with contextlib.suppress(FileNotFoundError):
                path = self._folder(kind, repo_id) / "commits" / f"{oid}.json"
                return oid, Commit.from_json(path.read_text(encoding="utf-8"))
        raise HubError(404, f"{kind} {repo_id!r} has no revision {revision!r}", "RevisionNotFound")

    def history(self, kind: str, repo_id: str, revision: str) -> list[tuple[str, Commit]]:
        """All commits up to `revision`, newest first."""
        oid, commit = self.resolve(kind, repo_id, revision)
        found = [(oid, commit)]
        while commit.parent:
            oid, commit = self.resolve(kind, repo_id, commit.parent)
            found.append((oid, commit))
        return found

    def add_ref(self, kind: str, repo_id: str, sort: str, name: str, start: str) -> None:
        """Make a branch or a tag.

        Args:
            kind (`str`): `model` or `dataset`.
            repo_id (`str`): Its `namespace/name`.
            sort (`str`): `branches` or `tags`.
            name (`str`): Its name.
            start (`str`): Revision it points at.

        Raises:
            HubError: The name is not allowed or taken, or `start` does not exist.
        """
        if not _REF.fullmatch(name) or ".." in name:
            raise HubError(400, f"{name!r} is not allowed as a name of a branch or tag")
        with self._lock:
            oid, _ = self.resolve(kind, repo_id, start)
            state = self.state(kind, repo_id)
            if name in state[sort]:
                raise HubError(409, f"{name!r} exists already in {repo_id}")
            state[sort][name] = oid
            _write_json(self._folder(kind, repo_id) / "refs.json", json.dumps(state))

    def remove_ref(self, kind: str, repo_id: str, sort: str, name: str) -> None:
        """Delete a branch or a tag."""
        with self._lock:
            state = self.state(kind, repo_id)
            if state[sort].pop(name, None) is None or name == "main":
                raise HubError(404, f"{repo_id} has no {name!r} that can be deleted", "RevisionNotFound")
            _write_json(self._folder(kind, repo_id) / "refs.json", json.dumps(state))

    def commit(
        self,
        kind: str,
        repo_id: str,
        branch: str,
        header: dict[str, Any],
        changes: list[dict[str, Any]],
        author: str = "user",
    ) -> str:
        """Add one commit to a branch, wholly or not at all.

        Args:
            kind (`str`): `model` or `dataset`.
            repo_id (`str`): Its `namespace/name`.
            branch (`str`): Its branch.
            header (`dict`): `summary`, `description` and maybe `parentCommit`, as the client sends them.
            changes (`list[dict]`): Operations with `key` and `value`; of `file`, `entry` is the stored
                `FileEntry`.
            author (`str`, *optional*, defaults to `"user"`): Who commits.

        Returns:
            The commit's id.

        Raises:
            HubError: A path is not allowed, a large file was not uploaded, what is deleted is not there, or
            the
                branch has moved on from `parentCommit`.
        """
        with self._lock:
            state = self.state(kind, repo_id)
            if branch not in state["branches"]:
                raise HubError(404, f"{repo_id} has no branch {branch!r}", "RevisionNotFound")
            parent, before = self.resolve(kind, repo_id, branch)
            if header.get("parentCommit") not in (None, parent):
                raise HubError(
                    412, f"branch {branch!r} has moved on from {header['parentCommit']}: it is at {parent}"
                )
            files = dict(before.files)
            for change in changes:
                self._apply(files, str(change.get("key")), change.get("value"), change.get("entry"))
            made = Commit(
                parent=parent,
                message=str(header.get("summary", "")),
                description=str(header.get("description", "")),
                date=_now(),
                files=files,
                author=author,
            )
            folder = self._folder(kind, repo_id)
            self._write_commit(folder, made)
            state["branches"][branch] = made.id
            _write_json(folder / "refs.json", json.dumps(state))
            return made.id

    def _apply(self, files: dict[str, FileEntry], key: str, value: Any, entry: FileEntry | None) -> None:
        """Apply one operation of a commit to `files`."""
        if not isinstance(value, dict) or not isinstance(value.get("path"), str):
            raise HubError(400, f"operation {key!r} names no path")
        path = value["path"]
        if key == "deletedFolder":
            inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in inside:
                del files[name]
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "file" and entry is not None:
            files[check_file_path(path)] = entry
        elif key == "lfsFile":
            files[check_file_path(path)] = self._large_file(path, value)
        else:
            raise HubError(400, f"operation {key!r} is not one the loopback Hub knows")

    def _large_file(self, path: str, value: dict[str, Any]) -> FileEntry:
        """The entry of a large file, whose content must have been uploaded."""
        oid = str(value.get("oid", ""))
        if value.get("algo") != "sha256" or not self.has_blob(oid):
            raise HubError(400, f"large file {path!r} ({oid or 'no hash'}) has not been uploaded")
        size = self.blob_size(oid)
        if value.get("size", size) != size:
            raise HubError(400, f"large file {path!r} has {size} bytes, the commit says {value['size']}")
        return FileEntry(sha256=oid, size=size, git_oid=git_oid(_pointer(oid, size)), lfs=True)

    def _folder(self, kind: str, repo_id: str) -> Path:
        """Folder of a repository, after checking that its name stays inside ours."""
        namespace, _, name = repo_id.partition("/")
        for part in (namespace, name):
            if not _NAME.fullmatch(part) or ".." in part or "--" in part or part.endswith(".git"):
                raise HubError(400, f"{repo_id!r} is no repository id; use `namespace/name`")
        if kind not in REPO_TYPES:
            raise HubError(400, f"{kind!r} is no repository type; use one of {', '.join(REPO_TYPES)}")
        return self.root / "repos" / kind / namespace / name

    @staticmethod
    def _write_commit(folder: Path, commit: Commit) -> None:
        (folder / "commits").mkdir(parents=True, exist_ok=True)
        _write_json(folder / "commits" / f"{commit.id}.json", commit.to_json())


def git_oid(content: bytes) -> str:
    """SHA-1 that git gives a file with this content."""
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def read_chunks(stream: BinaryIO, count: int) -> Iterator[bytes]:
    """`count` bytes of `stream` in pieces.

    Raises:
        HubError: The stream ends early.
    """
    while count > 0:
        chunk = stream.read(min(_CHUNK, count))
        if not chunk:
            raise HubError(400, f"the request's body ended {count} bytes early")
        count -= len(chunk)
        yield chunk


def _pointer(oid: str, size: int) -> bytes:
    """The small file that git stores in place of a large one."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def _write_json(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new one, never a part."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def large_file_fields(entry: FileEntry) -> dict[str, Any]:
    """What listings say about a large file."""
    return (
        {"lfs": {"oid": entry.sha256, "sha256": entry.sha256, "size": entry.size, "pointerSize": 134}}
        if entry.lfs
        else {}
    )
