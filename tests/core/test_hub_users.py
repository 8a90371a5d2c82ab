# SPDX-License-Identifier: Apache-2.0
"""The loopback Hub with several users, limits, and a folder that outlives a power loss."""

import errno
import json
import os
import socket
import struct
import threading
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_ext.data import durable
from lerobot_ext.testing.hub import HubBusyError, HubServer, in_this_process, is_loopback
from lerobot_ext.testing.hub_store import HubStore

TOKENS = {"a-secret": "alice", "b-secret": "bob"}


@pytest.fixture
def hub(tmp_path):
    with HubServer(tmp_path / "hub", tokens=TOKENS) as server, in_this_process(server, tmp_path / "home"):
        yield server


@pytest.fixture
def alice(hub):
    return HfApi(token="a-secret")


@pytest.fixture
def bob(hub):
    return HfApi(token="b-secret")


def request(hub: HubServer, method: str, path: str, token: str = "", **more) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.request(method, hub.url + path, headers=headers, trust_env=False, **more)


def test_a_private_repository_is_its_owners_alone(alice, bob, hub):
    alice.create_repo("alice/secret", private=True)
    alice.upload_file(repo_id="alice/secret", path_or_fileobj=b"weights", path_in_repo="w.safetensors")
    assert alice.model_info("alice/secret").private
    with pytest.raises(RepositoryNotFoundError):
        bob.model_info("alice/secret")
    assert [model.id for model in bob.list_models()] == []
    assert [model.id for model in alice.list_models()] == ["alice/secret"]
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("alice/secret", "w.safetensors", token="b-secret")


PATHS = [
    ("GET", "/api/models/{repo}"),
    ("GET", "/api/models/{repo}/tree/main"),
    ("GET", "/api/models/{repo}/refs"),
    ("GET", "/api/models/{repo}/commits/main"),
    ("GET", "/{repo}/resolve/main/w.safetensors"),
    ("POST", "/api/models/{repo}/paths-info/main"),
    ("POST", "/api/models/{repo}/preupload/main"),
    ("POST", "/api/models/{repo}/commit/main"),
    ("POST", "/{repo}.git/info/lfs/objects/batch"),
    ("POST", "/api/models/{repo}/tag/main"),
    ("POST", "/api/models/{repo}/branch/x"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_nobody_else_can_tell_a_private_repository_from_none(alice, hub, method, path):
    alice.create_repo("alice/secret", private=True)
    alice.upload_file(repo_id="alice/secret", path_or_fileobj=b"weights", path_in_repo="w.safetensors")
    for token, status in (("", 401), ("wrong", 401), ("b-secret", 404)):
        there, absent = (
            request(hub, method, path.format(repo=repo), token, json={})
            for repo in ("alice/secret", "alice/absent")
        )
        assert there.status_code == absent.status_code == status, token
        assert there.headers.get("X-Error-Code") == absent.headers.get("X-Error-Code")
        assert there.text.replace("secret", "absent") == absent.text


def test_one_user_does_not_write_below_anothers_name(alice, bob, hub):
    alice.create_repo("alice/open")
    assert bob.model_info("alice/open").id == "alice/open"
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.upload_file(repo_id="alice/open", path_or_fileobj=b"x", path_in_repo="x")
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.delete_repo("alice/open")
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.create_repo("alice/other")
    assert alice.model_info("alice/open").siblings == []


def test_below_a_name_that_is_no_users_all_users_work_together(alice, bob, hub):
    alice.create_repo("lab/shared", private=True)
    bob.upload_file(repo_id="lab/shared", path_or_fileobj=b"x", path_in_repo="x")
    assert next(commit.authors for commit in alice.list_repo_commits("lab/shared")) == ["bob"]
    assert request(hub, "GET", "/api/models/lab/shared").status_code == 401


def test_a_repository_without_a_namespace_is_ones_own(alice, hub):
    assert alice.create_repo("mine").repo_id == "alice/mine"
    assert alice.whoami()["name"] == "alice"


def test_a_wrong_token_is_refused_even_where_none_is_needed(alice, hub):
    alice.create_repo("alice/open")
    assert request(hub, "GET", "/api/models/alice/open").is_success
    assert request(hub, "GET", "/api/models/alice/open", "wrong").status_code == 401


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["key", "value", "path", "files", "objects", "oid", "size", "content", "paths", "sample"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
BODIES = st.binary(max_size=64) | JSON.map(json.dumps).map(str.encode)


# Beyond loopback


def test_beyond_loopback_tokens_are_needed_to_serve_and_to_ask(tmp_path):
    with pytest.raises(ValueError, match="give `tokens`"):
        HubServer(tmp_path / "hub", host="0.0.0.0")
    with HubServer(tmp_path / "hub", host="0.0.0.0", tokens=TOKENS) as server:
        url = f"http://127.0.0.1:{server.url.rpartition(':')[2]}"
        headers = {"Authorization": "Bearer a-secret"}
        with httpx.Client(base_url=url, trust_env=False) as client:
            made = client.post("/api/repos/create", json={"name": "x"}, headers=headers)
            # Addresses are given as this client reaches the Hub, not as it listens.
            assert made.json()["url"] == f"{url}/alice/x"
            assert client.get("/api/models/alice/x").status_code == 401
            assert client.get("/api/models/alice/x", headers=headers).is_success


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False), ("lab.example", False)]
)
def test_hosts_are_told_apart(host, local):
    assert is_loopback(host) is local


# Limits


def test_a_file_above_the_limit_is_refused_large_or_small(tmp_path):
    with (
        HubServer(tmp_path / "hub", max_file_bytes=1000) as server,
        in_this_process(server, tmp_path / "home"),
    ):
        api = HfApi()
        api.create_repo("user/x")
        for name in ("big.safetensors", "big.txt"):
            with pytest.raises((HfHubHTTPError, ValueError), match="larger than this Hub takes"):
                api.upload_file(repo_id="user/x", path_or_fileobj=b"x" * 1001, path_in_repo=name)
        api.upload_file(repo_id="user/x", path_or_fileobj=b"x" * 1000, path_in_repo="small.txt")
        assert list(server.store.resolve("model", "user/x", "main")[1].files) == ["small.txt"]


def test_a_full_disk_is_said_and_nothing_is_committed(tmp_path, monkeypatch):
    with HubServer(tmp_path / "hub") as server, in_this_process(server, tmp_path / "home"):
        api = HfApi()
        api.create_repo("user/x")

        def full(*words, **named):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(HubStore, "add_blob", full)
        with pytest.raises(HfHubHTTPError, match="507"):
            api.upload_file(repo_id="user/x", path_or_fileobj=b"x", path_in_repo="x.txt")
        monkeypatch.undo()
        assert server.store.resolve("model", "user/x", "main")[1].files == {}


# Two at once, and sudden ends


def test_two_clients_that_commit_on_one_parent_lose_nothing(tmp_path):
    """One is told that the branch has moved on, as by the Hub; on the new parent it gets through."""
    with HubServer(tmp_path / "hub") as server, in_this_process(server, tmp_path / "home"):
        api = HfApi()
        api.create_repo("user/x")
        start = threading.Barrier(2)
        refused = []

        def push(name: str) -> None:
            parent = api.model_info("user/x").sha
            start.wait()
            while True:
                try:
                    api.upload_file(
                        repo_id="user/x",
                        path_or_fileobj=name.encode(),
                        path_in_repo=name,
                        parent_commit=parent,
                    )
                    return
                except HfHubHTTPError as error:
                    refused.append(error.response.status_code)
                    parent = api.model_info("user/x").sha

        threads = [threading.Thread(target=push, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert sorted(server.store.resolve("model", "user/x", "main")[1].files) == ["a", "b"]
        assert refused == [412]


def test_a_second_server_does_not_get_the_folder(tmp_path):
    with (
        HubServer(tmp_path / "hub"),
        pytest.raises(HubBusyError, match="served by another process"),
    ):
        HubServer(tmp_path / "hub")
    with HubServer(tmp_path / "hub"):
        pass


def test_each_file_is_on_the_disk_before_the_next_one_names_it(tmp_path, monkeypatch):
    """Power loss: whatever prefix of these steps has reached the disk, refs.json names only what is there."""
    steps: list[tuple[str, str]] = []
    real_flush, real_replace = durable.flush_to_disk, os.replace

    def flush(path: Path) -> None:
        steps.append(("flush", str(path)))
        real_flush(path)

    def replace(source, target) -> None:
        steps.append(("replace", str(target)))
        assert ("flush", str(source)) in steps, (
            f"{target} was put in place before its content was on the disk"
        )
        real_replace(source, target)

    monkeypatch.setattr(durable, "flush_to_disk", flush)
    monkeypatch.setattr("lerobot_ext.testing.hub_store.flush_to_disk", flush)
    monkeypatch.setattr(os, "replace", replace)
    store = HubStore(tmp_path)
    store.create("model", "user/x", private=False)
    sha256 = store.add_blob(iter([b"hello"]))
    order = [Path(target).name for step, target in steps if step == "replace"]
    assert order[1] == "refs.json"
    assert order[-1] == sha256
    assert steps[-1] == ("flush", str(tmp_path / "blobs"))


def test_no_bytes_bring_the_hub_down_or_a_commit_about(tmp_path):
    with HubServer(tmp_path / "hub") as server:
        headers = {"Authorization": "Bearer x"}
        with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:
            client.post("/api/repos/create", json={"name": "x"})
            head = server.store.resolve("model", "user/x", "main")[0]

            @settings(max_examples=200, deadline=None)
            @given(st.sampled_from([path for method, path in PATHS if method == "POST"]), BODIES)
            def send(path: str, body: bytes) -> None:
                answer = client.post(path.format(repo="user/x"), content=body)
                assert answer.status_code < 500, (path, body)
                assert server.store.resolve("model", "user/x", "main")[1].files == {}

            send()
            assert client.get("/api/models/user/x").is_success
            assert server.store.history("model", "user/x", "main")[-1][0] == head


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(tmp_path):
    with HubServer(tmp_path / "hub") as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        headers = {"Authorization": "Bearer x"}
        httpx.post(f"{server.url}/api/repos/create", json={"name": "x"}, headers=headers, trust_env=False)
        for linger in (0, 1):
            with socket.create_connection(address) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger))
                client.sendall(
                    b"POST /api/models/user/x/commit/main HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
                    b'Content-Length: 1000\r\n\r\n{"key": "file"'
                )
        assert httpx.get(f"{server.url}/api/models/user/x", trust_env=False).json()["siblings"] == []


def test_the_fixture_points_the_client_of_this_process_and_its_children(loopback_hub):
    assert HfApi().endpoint == loopback_hub.url == os.environ["HF_ENDPOINT"]
    HfApi().create_repo("user/x")
    assert loopback_hub.store.list_repos("model") == ["user/x"]
