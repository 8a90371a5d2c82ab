# SPDX-License-Identifier: Apache-2.0
"""Gets a checkpoint from the Hub: first what it needs, then its files, each compared with the Hub's hash."""

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars

from lerobot_ext.hub.checkpoint import CONFIG, PATTERNS, PROCESSORS
from lerobot_ext.hub.requirements import FILE_NAME

_SMALL = (CONFIG, FILE_NAME, "train_config.json", *PROCESSORS)


class PullError(RuntimeError):
    """A checkpoint that cannot be got; `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class RemoteFile:
    """A file in a repository, as the Hub describes it.

    Args:
        size (`int`): Bytes.
        sha256 (`str`): Of a large file; empty otherwise.
        git_oid (`str`): SHA-1 as git computes it, of any other.
    """

    size: int
    sha256: str
    git_oid: str


@dataclass(frozen=True)
class Remote:
    """One state of a repository.

    Args:
        repo_id (`str`): Its name.
        commit (`str`): The state; everything is got from this one, whatever is pushed meanwhile.
        files (`dict[str, RemoteFile]`): The checkpoint's files; folders hold other things.
    """

    repo_id: str
    commit: str
    files: dict[str, RemoteFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def look_up(repo_id: str, revision: str | None = None) -> Remote:
    """Ask the Hub for a repository's files.

    Raises:
        PullError: There is no such repository or revision, it holds no policy, or the Hub cannot be reached.
    """
    try:
        info = HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    except (httpx.HTTPError, HfHubHTTPError, OSError, HFValidationError) as error:
        raise PullError(*_explain(error, repo_id, revision)) from error
    files = {
        entry.rfilename: RemoteFile(
            size=int(entry.size or 0),
            sha256=str(entry.lfs.sha256) if entry.lfs is not None else "",
            git_oid=str(entry.blob_id or ""),
        )
        for entry in info.siblings or []
        if "/" not in entry.rfilename and any(fnmatch(entry.rfilename, pattern) for pattern in PATTERNS)
    }
    if CONFIG not in files:
        raise PullError(
            f"{repo_id} holds no policy: there is no {CONFIG} at its top",
            "a training pushed by --save_checkpoint_to_hub alone has its checkpoints in folders: "
            f"`hf download {repo_id} --include 'checkpoints/*'`",
        )
    return Remote(repo_id, str(info.sha), files)


def fetch_descriptions(remote: Remote, cache: Path | None = None) -> Path:
    """Get the small files that say what a checkpoint is, without its weights.

    Returns:
        The folder they are in.

    Raises:
        PullError: The Hub cannot be reached.
    """
    disable_progress_bars()
    try:
        paths = [
            Path(hf_hub_download(remote.repo_id, name, revision=remote.commit, cache_dir=cache))
            for name in _SMALL
            if name in remote.files
        ]
    except (httpx.HTTPError, HfHubHTTPError, OSError) as error:
        raise PullError(*_explain(error, remote.repo_id, None)) from error
    return paths[0].parent


def fetch(remote: Remote, folder: Path | None = None) -> Path:
    """Get all files of a checkpoint and compare each with the Hub's hash; a damaged one is got once more.

    Args:
        remote (`Remote`): The checkpoint.
        folder (`Path`, *optional*): Where to; the client's cache by default.

    Returns:
        The folder with the files.

    Raises:
        PullError: The Hub cannot be reached, the disk is full, or a file is not what the Hub says.
    """
    got = _download(remote, folder, list(remote.files))
    damaged = _damaged(remote, got)
    if damaged:
        got = _download(remote, folder, damaged, anew=True)
        damaged = _damaged(remote, got)
    if damaged:
        raise PullError(
            f"{', '.join(damaged)} of {remote.repo_id} arrive otherwise than the Hub describes them",
            "a proxy may change downloads: try another network, or tell the author",
        )
    return got


def _download(remote: Remote, folder: Path | None, names: list[str], *, anew: bool = False) -> Path:
    try:
        path = snapshot_download(
            remote.repo_id,
            revision=remote.commit,
            local_dir=folder,
            allow_patterns=names,
            force_download=anew,
        )
    except (httpx.HTTPError, HfHubHTTPError, OSError) as error:
        raise PullError(*_explain(error, remote.repo_id, None)) from error
    return Path(path)


def _damaged(remote: Remote, folder: Path) -> list[str]:
    """Files that are missing or not what the Hub says they are."""
    return [name for name, file in remote.files.items() if not _matches(folder / name, file)]


def _matches(path: Path, file: RemoteFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as source:
        if file.sha256:
            return hashlib.file_digest(source, "sha256").hexdigest() == file.sha256
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return not file.git_oid or digest.hexdigest() == file.git_oid


def _explain(error: Exception, repo_id: str, revision: str | None) -> tuple[str, str]:
    """What went wrong, in one line, and what to do about it."""
    text = " ".join(str(error).split())[:300]
    status: Any = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, OfflineModeIsEnabled):
        return (
            "the Hub is switched off by HF_HUB_OFFLINE",
            "unset it, or name a folder that holds the checkpoint",
        )
    if isinstance(error, HFValidationError):
        return f"{repo_id!r} is no name of a repository: {text}", "write USER/REPO, or a folder that exists"
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{repo_id} has no revision {revision!r}",
            "name a branch, a tag or a commit; `main` by default",
        )
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        if status == 401:
            return (
                f"{repo_id} is private, or does not exist: the Hub tells only who may see it",
                "check the name; for a private one run `hf auth login` or set HF_TOKEN",
            )
        return f"the Hub has no {repo_id} that this token may see", "check the name, or use its owner's token"
    if status == 401:
        return f"the Hub does not know your token: {text}", "run `hf auth login`, or set HF_TOKEN anew"
    if status == 403:
        return f"you may not read {repo_id}: {text}", "ask for access on its page, or use its owner's token"
    if isinstance(error, httpx.HTTPError) and status is None:
        return (
            f"the Hub cannot be reached: {type(error).__name__}: {text}",
            "check the network and HF_ENDPOINT",
        )
    return f"{repo_id}: {type(error).__name__}: {text}", "try again; what has arrived is kept"
