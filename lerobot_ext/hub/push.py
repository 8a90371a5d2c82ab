# SPDX-License-Identifier: Apache-2.0
"""Pushes the files of a checkpoint in one commit: a reader sees the old state or the new one, no mixture.

Large files are uploaded first and belong to nobody until the commit names them. The commit names the state
it was made for: when someone else has pushed meanwhile the Hub refuses it, and it is made again on theirs. A
lost answer is no danger: repeated, the commit has nothing left to change.
"""

import logging
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from lerobot_ext.hub import plot
from lerobot_ext.hub.checkpoint import STATE_PATTERNS

TRIES = 4
_WAIT_S = 1.0
# Worth another try: outdated parent, too busy, timed out, and what a server or proxy says of itself.
_PASSING = {408, 412, 425, 429, 500, 502, 503, 504}

logger = logging.getLogger(__name__)


class PushError(RuntimeError):
    """A push that came to nothing; the repository is as it was. `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def open_repository(api: HfApi, repo_id: str, private: bool | None = None) -> str:
    """Make sure of a model repository.

    Args:
        api (`HfApi`): The client to use.
        repo_id (`str`): Its name; without a namespace it is the user's own.
        private (`bool`, *optional*): Whether a new one is private; the account's default if `None`.

    Returns:
        Its full name.

    Raises:
        PushError: The Hub cannot be reached or refuses, or the repository is public and must not be.
    """
    return _persist(lambda: _open(api, repo_id, private), repo_id)


def push_files(api: HfApi, repo_id: str, files: Mapping[str, Path], message: str) -> CommitInfo:
    """Push `files` to model repository `repo_id` in one commit.

    Processor states and the picture of an earlier push that the new one does not have are deleted in the same
    commit; other files of the repository stay.

    Args:
        api (`HfApi`): The client to use.
        repo_id (`str`): An existing repository's full name.
        files (`Mapping[str, Path]`): Files by their name in the repository.
        message (`str`): The commit's message.

    Returns:
        The commit, or the one that was there already when nothing has changed.

    Raises:
        PushError: The Hub cannot be reached or refuses. Nothing of this push is visible then, unless the last
            answer alone was lost.
    """
    return _persist(lambda: _commit(api, repo_id, files, message), repo_id)


def explain(error: Exception, repo_id: str) -> tuple[str, str]:
    """What went wrong with a request about `repo_id`, in one line, and what to do about it."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if kind == "OfflineModeIsEnabled":
        return "the Hub is switched off by HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE, or use a Hub of your own"
    if status == 401:
        return (
            f"the Hub does not know who you are, or hides {repo_id}: {text}",
            "run `hf auth login`, or set HF_TOKEN to a token that may write",
        )
    if status == 403:
        return f"this token may not do that with {repo_id}: {text}", "use a token that may write there"
    if status == 404:
        return f"the Hub has no {repo_id} that you may see: {text}", "check the name and the token"
    if status is not None:
        return f"the Hub refused: {status} {text}", "read the Hub's message above"
    if isinstance(error, httpx.HTTPError):
        return f"the Hub cannot be reached: {kind}: {text}", "check the network and HF_ENDPOINT"
    return f"{kind}: {text}", "read the message above"


def _open(api: HfApi, repo_id: str, private: bool | None) -> str:
    full = str(api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id)
    if private and not api.repo_info(full).private:
        raise PushError(
            f"{full} is a public repository already, a private one is asked for; nothing was pushed",
            f"make it private (`hf repos settings {full} --private`), or push to another name",
        )
    return full


def _commit(api: HfApi, repo_id: str, files: Mapping[str, Path], message: str) -> CommitInfo:
    """One commit on the newest state."""
    info = api.repo_info(repo_id)
    there = [entry.rfilename for entry in info.siblings or []]
    operations: list[Any] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in files.items()
    ]
    operations += [CommitOperationDelete(path_in_repo=name) for name in there if _stale(name, files)]
    return api.create_commit(
        repo_id=repo_id, operations=operations, commit_message=message, parent_commit=info.sha
    )


def _stale(name: str, files: Mapping[str, Path]) -> bool:
    """Whether a file in the repository is left over from another checkpoint."""
    ours = name == plot.FILE_NAME or any(fnmatch(name, pattern) for pattern in STATE_PATTERNS)
    return ours and name not in files


def _persist[Result](attempt: Callable[[], Result], repo_id: str) -> Result:
    """`attempt`'s result, after up to `TRIES` tries when what went wrong may pass.

    Raises:
        PushError: The last try failed too, or what went wrong will not pass.
    """
    for number in range(1, TRIES + 1):
        try:
            return attempt()
        except PushError:
            raise
        except (httpx.HTTPError, HfHubHTTPError, OSError, ValueError, RuntimeError) as raised:
            error = _cause(raised)
            if number == TRIES or not _may_pass(error):
                raise PushError(*explain(error, repo_id)) from raised
            wait_s = _WAIT_S * 2 ** (number - 1)
            logger.warning(
                "lerobot_ext: push interrupted (%s); try %d of %d in %g s.",
                explain(error, repo_id)[0][:200],
                number + 1,
                TRIES,
                wait_s,
            )
            time.sleep(wait_s)
    raise AssertionError("unreachable: the last try returns or raises")


def _cause(error: Exception) -> Exception:
    """The network's error behind what the client makes of it when a large file does not get through."""
    cause = error.__cause__
    network = isinstance(cause, (httpx.HTTPError, HfHubHTTPError))
    return cause if type(error) is RuntimeError and network and isinstance(cause, Exception) else error


def _may_pass(error: Exception) -> bool:
    """Whether another try may end better."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx.TransportError)
