# SPDX-License-Identifier: Apache-2.0
"""The loopback Hub against the real `huggingface_hub` client, and against clients that misbehave."""

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub.utils import _http

from lerobot_ext import hub_loopback
from lerobot_ext.testing.hub import HubServer, client_environment
from lerobot_ext.testing.hub_store import HubError, HubStore, check_file_path

AUTH = {"Authorization": "Bearer anything"}


@pytest.fixture
def server(tmp_path):
    with HubServer(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def plain(server):
    """A bare HTTP client, for requests the real one would not send."""
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


@pytest.fixture
def repo(plain):
    assert plain.post(
        "/api/repos/create", json={"organization": "user", "name": "x"}, headers=AUTH
    ).is_success
    return "/api/models/user/x"


def lines(*operations: tuple[str, dict]) -> bytes:
    header = ("header", {"summary": "test", "description": ""})
    return b"".join(json.dumps({"key": k, "value": v}).encode() + b"\n" for k, v in (header, *operations))


def text_file(path: str) -> tuple[str, dict]:
    return "file", {"path": path, "content": "aGVsbG8=", "encoding": "base64"}


def head(server: HubServer) -> str:
    return server.store.resolve("model", "user/x", "main")[0]


def run_client(server: HubServer, home: Path, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh process whose Hub client is set up by environment variables alone."""
    environment = os.environ | client_environment(server.url, home) | more
    environment.pop("HF_HUB_CACHE", None)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


PUSH = """
from lerobot_ext.hub_loopback import install_from_environment
install_from_environment()
import json, pathlib, tempfile
from huggingface_hub import CommitOperationDelete, HfApi, ModelCard, hf_hub_download, snapshot_download
api = HfApi()
assert api.whoami()["name"] == "user"
url = api.create_repo("user/x", exist_ok=True)
assert api.create_repo("user/x", exist_ok=True).repo_id == "user/x" == url.repo_id
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "sub").mkdir()
(folder / "config.json").write_text('{"a": 1}')
(folder / "sub" / "weights.safetensors").write_bytes(bytes(range(256)) * 9000)
(folder / "sub" / "b.txt").write_text("b")
card = ModelCard("---\\nlicense: apache-2.0\\n---\\n# x\\n")
card.validate()
card.save(folder / "README.md")
first = api.upload_folder(repo_id="user/x", folder_path=folder, commit_message="first")
assert sorted(api.list_repo_files("user/x")) == [
    "README.md", "config.json", "sub/b.txt", "sub/weights.safetensors"]
assert api.model_info("user/x").sha == first.oid
tree = {e.path: e for e in api.list_repo_tree("user/x", recursive=True)}
assert tree["sub/weights.safetensors"].lfs.size == 256 * 9000
assert [e.path for e in api.list_repo_tree("user/x", "sub")] == ["sub/b.txt", "sub/weights.safetensors"]
assert api.get_paths_info("user/x", ["config.json"])[0].size == 8
(folder / "config.json").write_text('{"a": 2}')
second = api.upload_folder(repo_id="user/x", folder_path=folder, commit_message="second",
                           delete_patterns="sub/b.txt")
api.create_tag("user/x", tag="v1", revision=first.oid)
pulled = pathlib.Path(snapshot_download("user/x"))
assert json.loads((pulled / "config.json").read_text()) == {"a": 2}
assert pulled.name == second.oid
assert (pulled / "sub" / "weights.safetensors").read_bytes() == bytes(range(256)) * 9000
old = hf_hub_download("user/x", "config.json", revision="v1")
assert json.loads(open(old).read()) == {"a": 1}
assert [c.title for c in api.list_repo_commits("user/x")] == ["second", "first", "initial commit"]
refs = api.list_repo_refs("user/x")
assert [t.name for t in refs.tags] == ["v1"] and refs.tags[0].target_commit == first.oid
assert api.file_exists("user/x", "config.json") and not api.file_exists("user/x", "nope")
same = api.upload_folder(repo_id="user/x", folder_path=folder, commit_message="nothing new")
assert same.oid == second.oid
api.create_repo("user/d", repo_type="dataset", private=True)
api.upload_file(repo_id="user/d", repo_type="dataset", path_or_fileobj=b"rows", path_in_repo="data/a.parquet")
assert open(hf_hub_download("user/d", "data/a.parquet", repo_type="dataset"), "rb").read() == b"rows"
assert [d.id for d in api.list_datasets(author="user")] == ["user/d"]
api.delete_repo("user/d", repo_type="dataset")
assert not api.repo_exists("user/d", repo_type="dataset")
print("done")
"""


def test_the_real_client_pushes_and_pulls_in_a_process_of_its_own(server, tmp_path):
    ran = run_client(server, tmp_path / "home", PUSH)
    assert ran.stdout.strip() == "done", ran.stderr


def test_a_fresh_process_pulls_a_module_that_another_pushed(server, tmp_path):
    code = """
    from lerobot_ext.hub_loopback import install_from_environment
    install_from_environment()
    import sys, torch
    from huggingface_hub import PyTorchModelHubMixin
    class Tiny(torch.nn.Module, PyTorchModelHubMixin):
        def __init__(self, width: int = 2):
            super().__init__()
            self.layer = torch.nn.Linear(width, 1)
    if sys.argv[0] == "-c" and {push}:
        torch.manual_seed(0)
        tiny = Tiny(5)
        tiny.push_to_hub("user/tiny")
    else:
        tiny = Tiny.from_pretrained("user/tiny")
    print(tiny.layer.weight.tolist())
    """
    pushed = run_client(server, tmp_path / "one", code.replace("{push}", "True"))
    pulled = run_client(server, tmp_path / "two", code.replace("{push}", "False"))
    assert pushed.returncode == 0, pushed.stderr
    assert pulled.stdout == pushed.stdout != "", pulled.stderr


def test_without_the_variable_a_card_check_leaves_for_the_internet(server, tmp_path):
    code = """
    from lerobot_ext.hub_loopback import install_from_environment
    install_from_environment()
    from huggingface_hub import ModelCard, get_session
    import httpx
    seen = []
    def note(request): seen.append(str(request.url)); raise SystemExit(" ".join(seen))
    client = get_session()
    client.event_hooks = {"request": [*client.event_hooks["request"], note]}
    ModelCard("---\\nlicense: mit\\n---\\n").validate()
    """
    without = run_client(server, tmp_path / "home", code, LEROBOT_EXT_HUB_LOOPBACK="")
    with_it = run_client(server, tmp_path / "home", code)
    assert without.stderr.strip().endswith("https://huggingface.co/api/validate-yaml")
    assert with_it.stderr.strip().endswith(f"{server.url}/api/validate-yaml")


def test_a_broken_card_is_refused_like_on_the_hub(server, tmp_path):
    code = """
    from lerobot_ext.hub_loopback import install_from_environment
    install_from_environment()
    from huggingface_hub import HfApi
    api = HfApi()
    api.create_repo("user/x")
    try:
        api.upload_file(repo_id="user/x", path_in_repo="README.md", path_or_fileobj=b"---\\na: [\\n---\\n")
    except ValueError as error:
        print(error)
    """
    ran = run_client(server, tmp_path / "home", code)
    assert "Invalid metadata in README.md" in ran.stdout, ran.stderr


@pytest.mark.parametrize(
    "url",
    [
        "https://huggingface.co",
        "http://10.0.0.5:80",
        "http://127.0.0.1.evil.org",
        "https://127.0.0.1",
        "x",
        "http://",
    ],
)
def test_only_addresses_on_loopback_are_accepted(url, monkeypatch):
    monkeypatch.setenv(hub_loopback.VARIABLE, url)
    with pytest.raises(ValueError, match=hub_loopback.VARIABLE):
        hub_loopback.install_from_environment()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "http://localhost:1", "http://[::1]:80", "http://127.9.9.9"]
)
def test_loopback_comes_in_several_spellings(url):
    hub_loopback.check_loopback(url)


def test_the_rest_of_the_client_is_untouched(server):
    """Only the hard-coded request moves; another one to the same host does not."""
    before = _http._GLOBAL_CLIENT_FACTORY
    try:
        hub_loopback.install(server.url)
        client = huggingface_hub.get_session()
        for path, host in (("/api/validate-yaml", "127.0.0.1"), ("/api/models", "huggingface.co")):
            request = client.build_request("POST", f"https://huggingface.co{path}")
            # The client's own hooks come first; they refuse to go anywhere when HF_HUB_OFFLINE is set.
            client.event_hooks["request"][-1](request)
            assert request.url.host == host
            assert request.headers["host"].startswith(host)
    finally:
        huggingface_hub.set_client_factory(before)


# Atomic commits


def test_a_commit_with_one_bad_line_changes_nothing(server, plain, repo):
    before = head(server)
    bad = [
        lines(text_file("good.txt"), text_file("../evil.txt")),
        lines(
            text_file("good.txt"),
            ("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": "0" * 64, "size": 3}),
        ),
        lines(text_file("good.txt"), ("deletedFile", {"path": "absent"})),
        lines(text_file("good.txt"), ("rename", {"path": "a"})),
        lines(text_file("good.txt")) + b"not json\n",
        lines(text_file("good.txt"), ("file", {"path": "a", "content": "!", "encoding": "base64"})),
        lines(text_file("good.txt"), ("file", {"path": "a", "content": "hello"})),
    ]
    for body in bad:
        answer = plain.post(f"{repo}/commit/main", content=body, headers=AUTH)
        assert answer.status_code in (400, 404), body
        assert answer.json()["error"]
    assert head(server) == before
    assert server.store.resolve("model", "user/x", "main")[1].files == {}


def test_a_commit_that_is_killed_before_the_last_rename_is_not_seen(server, plain, repo, monkeypatch):
    before = head(server)
    real = os.replace

    def killed(source, target) -> None:
        if Path(target).name == "refs.json":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("lerobot_ext.testing.hub_store.os.replace", killed)
    change = {"key": "file", "value": {"path": "a"}, "entry": None}
    monkeypatch.setattr(HubStore, "_apply", lambda *args: None)
    with pytest.raises(KeyboardInterrupt):
        server.store.commit("model", "user/x", "main", {"summary": "s"}, [change])
    monkeypatch.undo()
    assert head(server) == before
    assert HubStore(server.store.root).resolve("model", "user/x", "main")[0] == before


def test_a_commit_on_an_outdated_parent_is_refused(server, plain, repo):
    old = head(server)
    assert plain.post(f"{repo}/commit/main", content=lines(text_file("a")), headers=AUTH).is_success
    header = {"key": "header", "value": {"summary": "late", "parentCommit": old}}
    body = json.dumps(header).encode() + b"\n" + lines(text_file("b")).split(b"\n", 1)[1]
    answer = plain.post(f"{repo}/commit/main", content=body, headers=AUTH)
    assert answer.status_code == 412
    assert list(server.store.resolve("model", "user/x", "main")[1].files) == ["a"]


def test_commits_from_many_threads_all_arrive(server, repo):
    def commit(name: str) -> None:
        answer = httpx.post(
            f"{server.url}{repo}/commit/main", content=lines(text_file(name)), headers=AUTH, trust_env=False
        )
        assert answer.is_success

    names = [f"f{i}" for i in range(12)]
    threads = [threading.Thread(target=commit, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(server.store.resolve("model", "user/x", "main")[1].files) == sorted(names)
    assert len(server.store.history("model", "user/x", "main")) == len(names) + 1


# Large files


def upload_address(plain: httpx.Client, content: bytes, size: int | None = None) -> str:
    wish = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content) if size is None else size}
    answer = plain.post("/user/x.git/info/lfs/objects/batch", json={"objects": [wish]}, headers=AUTH)
    return answer.json()["objects"][0]["actions"]["upload"]["href"]


@pytest.mark.parametrize(
    ("sent", "problem"),
    [(b"other", "SHA-256"), (b"weigh", "SHA-256"), (b"weights", "larger than"), (b"w", "were announced")],
)
def test_a_large_file_that_is_not_what_was_announced_is_not_kept(server, plain, repo, sent, problem):
    address = upload_address(plain, b"thing")
    answer = plain.put(address, content=sent)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]
    assert list((server.store.root / "blobs").iterdir()) == []


def test_an_upload_address_that_was_not_handed_out_is_refused(server, plain, repo):
    address = upload_address(plain, b"thing")
    for forged in (address.partition("?")[0], address[:-1] + "x", address.replace("/5?", "/6?")):
        assert plain.put(forged, content=b"thing").status_code == 403
    assert plain.put(address, content=b"thing").is_success


def test_a_large_file_of_the_wrong_size_does_not_get_into_a_commit(server, plain, repo):
    plain.put(upload_address(plain, b"thing"), content=b"thing")
    value = {"path": "w.bin", "algo": "sha256", "oid": hashlib.sha256(b"thing").hexdigest(), "size": 6}
    answer = plain.post(f"{repo}/commit/main", content=lines(("lfsFile", value)), headers=AUTH)
    assert answer.status_code == 400
    assert "5 bytes" in answer.json()["error"]


# Paths and names


@pytest.mark.parametrize(
    "path", ["../a", "a/../b", "/etc/passwd", "a//b", "./a", "a\\b", "c:/x", "a\0b", ".git/config", "", ".."]
)
def test_paths_that_lead_out_are_refused(plain, repo, path):
    with pytest.raises(HubError, match="not allowed"):
        check_file_path(path)
    answer = plain.post(f"{repo}/commit/main", content=lines(text_file(path)), headers=AUTH)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "name", ["..", "a/../../b", "../../etc", "", ".hidden", "a..b", "x.git", "a b", "a/b/c"]
)
def test_repository_names_that_lead_out_are_refused(server, plain, name):
    answer = plain.post("/api/repos/create", json={"organization": "user", "name": name}, headers=AUTH)
    assert answer.status_code == 400
    assert not (server.store.root / "repos").exists()


def test_reading_with_encoded_dots_finds_nothing(server, plain, repo):
    for path in (
        "/user/x/resolve/main/%2e%2e%2f%2e%2e%2frefs.json",
        "/user/x/resolve/..%2f..%2fmain/a",
        "/..%2f..%2f/x/resolve/main/a",
        "/api/models/user/..%2f..",
    ):
        assert plain.get(path).status_code in (400, 404), path


# Tokens


def test_writing_needs_a_token(server, plain, repo):
    assert plain.post("/api/repos/create", json={"name": "y"}).status_code == 401
    assert plain.post(f"{repo}/commit/main", content=lines(text_file("a"))).status_code == 401
    assert plain.post(f"{repo}/preupload/main", json={"files": []}).status_code == 401
    assert plain.post("/user/x.git/info/lfs/objects/batch", json={}).status_code == 401
    assert plain.post(f"{repo}/tag/main", json={"tag": "t"}).status_code == 401
    assert plain.request("DELETE", "/api/repos/delete", json={"name": "x"}).status_code == 401
    assert plain.get(repo).is_success


def test_a_private_repository_looks_missing_without_a_token(plain):
    plain.post("/api/repos/create", json={"name": "p", "visibility": "private"}, headers=AUTH)
    answer = plain.get("/api/models/user/p")
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (401, "RepoNotFound")
    assert plain.get("/api/models/user/p", headers=AUTH).is_success
    assert plain.get("/api/models").json() == []


def test_a_configured_token_is_the_only_one(tmp_path):
    with HubServer(tmp_path / "hub", token="right") as server:
        for token, status in (("right", 200), ("wrong", 401), ("", 401)):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            assert (
                httpx.get(f"{server.url}/api/whoami-v2", headers=headers, trust_env=False).status_code
                == status
            )


# Details of the protocol


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [("bytes=1-3", 206, b"ell"), ("bytes=2-", 206, b"llo"), ("bytes=-2", 206, b"lo"), ("", 200, b"hello")],
)
def test_ranges(plain, repo, asked, status, content):
    plain.post(f"{repo}/commit/main", content=lines(text_file("a.txt")), headers=AUTH)
    answer = plain.get("/user/x/resolve/main/a.txt", headers={"Range": asked} if asked else {})
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers["ETag"] == '"b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"'
    assert plain.get("/user/x/resolve/main/a.txt", headers={"Range": "bytes=9-"}).status_code == 416


def test_one_connection_survives_refusals_and_streams(plain, repo):
    """A refused request must not leave its body behind as the next request's first line."""
    for _ in range(3):
        assert (
            plain.post(f"{repo}/commit/nope", content=lines(text_file("a")), headers=AUTH).status_code == 404
        )
        assert plain.post(f"{repo}/commit/main", content=b"x" * 100_000).status_code == 401
        stream = iter([lines(text_file("a")), lines(text_file("b"))])
        assert plain.post(f"{repo}/commit/main", content=stream, headers=AUTH).is_success
    assert plain.post(f"{repo}/commit/main", content=b"[1]", headers=AUTH).status_code == 400
    assert plain.get("/api/nothing").status_code == 404


def test_it_listens_on_loopback_only(server):
    assert server._http.server_address[0] == "127.0.0.1"


def test_what_was_pushed_is_there_after_a_restart(tmp_path):
    with HubServer(tmp_path / "hub") as server:
        httpx.post(f"{server.url}/api/repos/create", json={"name": "x"}, headers=AUTH, trust_env=False)
    with HubServer(tmp_path / "hub") as server:
        assert httpx.get(f"{server.url}/api/models/user/x", trust_env=False).is_success
