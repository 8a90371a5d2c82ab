# SPDX-License-Identifier: Apache-2.0
"""The loopback Hub's answers about accounts, repositories and their revisions."""

from __future__ import annotations

import re
from typing import Any

from lerobot_ext.testing.hub_http import HubRequest, web_prefix
from lerobot_ext.testing.hub_store import HubError, large_file_fields


class RepositoryRequests(HubRequest):
    """Requests about repositories as wholes; the methods are named by the routes."""

    def _whoami(self) -> None:
        user = self._need_token()
        auth = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": "write"}}
        self._json({"type": "user", "id": user, "name": user, "fullname": user, "orgs": [], "auth": auth})

    def _validate_card(self) -> None:
        problem = _card_problem(str(self._body_json().get("content", "")))
        errors = [{"message": problem}] if problem else []
        self._json({"errors": errors, "warnings": []}, status=400 if problem else 200)

    def _create_repo(self) -> None:
        user = self._need_token()
        wish = self._body_json()
        kind = wish.get("type") or "model"
        repo = f"{wish.get('organization') or user}/{wish.get('name')}"
        self._need_namespace(user, repo)
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        answer = {"url": f"{self._base()}/{web_prefix(kind)}{repo}", "name": repo, "id": repo}
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
        user = self._need_token()
        wish = self._body_json()
        kind, repo = wish.get("type") or "model", f"{wish.get('organization') or user}/{wish.get('name')}"
        self._need_write(kind, repo)
        self.hub.store.delete(kind, repo)
        self._json({})

    def _list_repos(self, kind: str) -> None:
        user = self._who()
        author = self._query.get("author", [""])[0]
        search = self._query.get("search", [""])[0].lower()
        found = []
        for repo in self.hub.store.list_repos(kind):
            state = self.hub.store.state(kind, repo)
            wanted = repo.startswith(f"{author}/" if author else "") and search in repo.lower()
            if wanted and (not state["private"] or self._may_use(user, repo)):
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
                {"rfilename": path, "size": entry.size, "blobId": entry.git_oid} | large_file_fields(entry)
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
                    "authors": [{"user": commit.author}],
                }
                for oid, commit in self.hub.store.history(kind, repo, revision)
            ]
        )

    def _add_tag(self, kind: str, repo: str, revision: str) -> None:
        self._need_write(kind, repo)
        self.hub.store.add_ref(kind, repo, "tags", str(self._body_json().get("tag", "")), revision)
        self._json({})

    def _remove_tag(self, kind: str, repo: str, revision: str) -> None:
        self._need_write(kind, repo)
        self.hub.store.remove_ref(kind, repo, "tags", revision)
        self._json({})

    def _add_branch(self, kind: str, repo: str, revision: str) -> None:
        self._need_write(kind, repo)
        start = str(self._body_json().get("startingPoint") or "main")
        self.hub.store.add_ref(kind, repo, "branches", revision, start)
        self._json({})

    def _remove_branch(self, kind: str, repo: str, revision: str) -> None:
        self._need_write(kind, repo)
        self.hub.store.remove_ref(kind, repo, "branches", revision)
        self._json({})


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
