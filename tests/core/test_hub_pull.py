# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext push` and `pull` in this process, against a loopback Hub with all kinds of checkpoints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hub_push_parts import tiny_training
from hub_push_parts.tiny_training import REPO
from huggingface_hub import HfApi, ModelCard, constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lerobot_ext.cli.main import main
from lerobot_ext.hub import derive, pull, train_hooks
from lerobot_ext.hub.checkpoint import examine, files_of, safetensors_fault
from lerobot_ext.testing.hub import HubServer, in_this_process
from lerobot_ext.testing.hub_faults import FaultyHub

STATE = "policy_preprocessor_step_3_normalizer_processor.safetensors"
FOREIGN = {"name": "lerobot_policy_not_here", "version": "1.2", "provides": ["policy not_here"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkpoint as `lerobot-train` with our plugins leaves it."""
    folder = tmp_path_factory.mktemp("trained")
    script = tiny_training.training_script()
    train_hooks.uninstall()  # another test may have loaded our plugins
    train_hooks.install(script)
    try:
        training = tiny_training.train(folder, script)
        from lerobot.optim import AdamConfig

        optimizer = AdamConfig().build(training.policy.parameters())
        script.save_checkpoint(
            checkpoint_dir=folder / "checkpoints" / "000007",
            step=7,
            cfg=training.cfg,
            policy=training.policy,
            optimizer=optimizer,
            preprocessor=training.preprocessor,
            postprocessor=training.postprocessor,
        )
    finally:
        train_hooks.uninstall()
    (folder / "checkpoints" / "last").symlink_to("000007")
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of it to spoil."""
    copy = tmp_path / "checkpoint"
    shutil.copytree(trained / "checkpoints" / "000007" / "pretrained_model", copy)
    return copy


@pytest.fixture
def hub(loopback_hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return loopback_hub


def put(folder: Path, repo: str = REPO, *, private: bool = False) -> None:
    """Upload a folder as it is, without our checks."""
    api = HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path=folder)


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def say(capsys):
    """Run a command; its exit code, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


# Push


def test_a_folder_goes_out_in_one_commit_with_a_card_and_comes_back_whole(hub, trained, say, tmp_path):
    code, out, _ = say("push", trained, REPO, "--json")
    pushed = json.loads(out)
    assert (code, pushed["repo_id"], pushed["commit"]) == (
        0,
        REPO,
        hub.store.resolve("model", REPO, "main")[0],
    )
    history = hub.store.history("model", REPO, "main")
    assert len(history) == 2
    assert {"README.md", "lerobot_ext.json", "model.safetensors", STATE} <= set(history[0][1].files)
    code, out, _ = say("pull", f"--policy.path={REPO}", "--to", tmp_path / "to", "--json")
    pulled = json.loads(out)
    assert (code, pulled["missing"], pulled["other_version"], pulled["unknown"]) == (0, [], [], [])
    assert pulled["commit"] == pushed["commit"]
    assert examine(tmp_path / "to") == []
    assert pulled["commands"][0].startswith("lerobot-rollout ")
    assert f"--policy.path={tmp_path / 'to'}" in pulled["commands"][0]
    card = ModelCard.load(tmp_path / "to" / "README.md")
    assert "| steps | 7 |" in card.text


def test_a_second_push_of_the_same_is_no_new_commit(hub, folder, say):
    first = json.loads(say("push", folder, REPO, "--json")[1])["commit"]
    assert json.loads(say("push", folder, REPO, "--json")[1])["commit"] == first


def test_a_dry_run_sends_nothing(tmp_path, folder, say):
    with FaultyHub(tmp_path / "hub") as server, in_this_process(server, tmp_path / "home"):
        code, out, _ = say("push", folder, REPO, "--dry-run")
        assert server.requests == []
    assert code == 0
    assert "model.safetensors" in out
    assert "Nothing was sent" in out


def test_results_of_lerobot_eval_get_into_card_picture_and_requirements(hub, folder, say, tmp_path):
    metrics = {"successes": [True] * 9 + [False], "sum_rewards": [0.5] * 10}
    info = {"per_task": [{"task_group": "koch", "task_id": 0, "metrics": metrics}]}
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "eval_info.json").write_text(json.dumps(info))
    say("push", folder, REPO, "--eval", tmp_path / "eval")
    _, commit = hub.store.resolve("model", REPO, "main")
    card = hub.store.blob_path(commit.files["README.md"].sha256).read_text()
    assert "| koch | 7 | 9/10 | 90.0 % (60-98 %) | 0.5 |" in card
    assert "training.png" in commit.files
    assert "evaluations" in hub.store.blob_path(commit.files["lerobot_ext.json"].sha256).read_text()
    assert json.loads((folder / "lerobot_ext.json").read_text())["history"]["evaluations"] == []


def test_a_card_of_ones_own_goes_out_as_it_is(hub, folder, say):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    say("push", folder, REPO)
    _, commit = hub.store.resolve("model", REPO, "main")
    assert hub.store.blob_path(commit.files["README.md"].sha256).read_text().endswith("# Mine\n")


def test_a_card_that_nobody_has_filled_in_is_replaced(hub, folder, say):
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n[More Information Needed]\n")
    say("push", folder, REPO)
    _, commit = hub.store.resolve("model", REPO, "main")
    assert "pip install" in hub.store.blob_path(commit.files["README.md"].sha256).read_text()


def test_a_checkpoint_of_stock_lerobot_is_pushed_too(hub, folder, say):
    (folder / "lerobot_ext.json").unlink()
    assert say("push", folder, REPO)[0] == 0
    _, commit = hub.store.resolve("model", REPO, "main")
    needs = json.loads(hub.store.blob_path(commit.files["lerobot_ext.json"].sha256).read_text())
    assert [package["name"] for package in needs["packages"]] == ["lerobot"]
    assert needs["training"]["dataset"] == {"repo_id": "user/tiny"}


def test_a_private_push_does_not_go_into_a_public_repository(hub, folder, say):
    HfApi().create_repo(REPO)
    code, _, err = say("push", folder, REPO, "--private")
    assert code == 2
    assert "is a public repository already" in err
    assert hub.store.resolve("model", REPO, "main")[1].files == {}


@pytest.mark.parametrize(
    ("spoil", "said", "remedy"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "the weights are missing", "get the checkpoint again"),
        (lambda f: (f / STATE).unlink(), "normalizer_processor keeps its state there", "again"),
        (lambda f: (f / "policy_postprocessor.json").unlink(), "the normalisation", "migrate_policy"),
        (lambda f: (f / "config.json").unlink(), "holds no checkpoint", "pretrained_model"),
        (lambda f: (f / "config.json").write_text("{"), "is not JSON", "another one"),
        (lambda f: change(f / "config.json", type=3), "field `type`", "another one"),
        (lambda f: (f / "lerobot_ext.json").write_text("[]"), "`format`", "delete"),
        (lambda f: change(f / "lerobot_ext.json", history={"loss": 1}), "`history`", "delete"),
        (lambda f: truncate(f / "model.safetensors", 100), "its header asks for", "again"),
        (lambda f: truncate(f / "model.safetensors", None), "has 5 bytes", "again"),
        (lambda f: change(f / "policy_preprocessor.json", steps=None), "`steps` is None", "again"),
    ],
)
def test_what_is_not_whole_is_not_pushed(hub, folder, say, spoil, said, remedy):
    spoil(folder)
    code, _, err = say("push", folder, REPO)
    assert code == 2
    message, hint = err.splitlines()
    assert said in message
    assert remedy in hint
    assert hub.store.list_repos("model") == []


@pytest.mark.parametrize(
    ("base", "local"),
    [("user/base", False), ("/gone/base", True), ("outputs", True), (None, False), (3, False)],
)
def test_adapters_of_a_policy_in_a_folder_that_is_not_here_cannot_be_loaded(
    folder, base, local, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # `outputs` may well be there where the tests are started
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    said = [str(problem) for problem in examine(folder)]
    expected = [f"adapter_config.json: adapts {base}, a folder of the machine that trained it"]
    assert said == (expected if local else [])


@given(st.data())
def test_a_weights_file_of_another_length_never_passes(tmp_path_factory, data):
    whole = save({"a": np.zeros(3, np.float32), "b": np.ones((2, 2), np.float64)})
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    path.write_bytes(whole)
    assert safetensors_fault(path) == ""
    cut = data.draw(st.integers(0, len(whole) - 1))
    for content in (whole[:cut], whole + data.draw(st.binary(min_size=1)), data.draw(st.binary(max_size=64))):
        path.write_bytes(content)
        assert safetensors_fault(path), content
        with pytest.raises(SafetensorError), safe_open(path, framework="np"):
            pass


def truncate(path: Path, cut: int | None) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-cut] if cut else content[:5])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["user/a/b"], "no name of a repository"),
        ([REPO, "--eval=nowhere"], "there is no nowhere/eval_info.json"),
        ([REPO, "--eval={folder}/config.json"], "not a result of lerobot-eval"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_is_sent(hub, folder, say, words, said):
    code, _, err = say("push", folder, *(word.format(folder=folder) for word in words))
    assert code == 2
    assert said in err
    assert hub.store.list_repos("model") == []


# Pull


def test_a_missing_package_is_named_before_any_weight_is_fetched(hub, folder, say, tmp_path):
    needs = json.loads((folder / "lerobot_ext.json").read_text())
    change(folder / "lerobot_ext.json", policy="not_here", packages=[*needs["packages"], FOREIGN])
    change(folder / "config.json", type="not_here")
    put(folder)
    code, out, _ = say("pull", f"--policy.path={REPO}")
    assert code == 3
    assert "MISSING" in out
    assert "  pip install lerobot_policy_not_here==1.2\n" in out
    cache = Path(constants.HF_HUB_CACHE)
    assert list(cache.rglob("config.json"))
    assert not list(cache.rglob("model.safetensors"))
    code, out, _ = say("pull", f"--policy.path={REPO}", "--anyway", "--to", tmp_path / "to", "--json")
    assert code == 3
    assert json.loads(out)["missing"] == ["lerobot_policy_not_here"]
    assert examine(tmp_path / "to") == []


def test_another_version_is_said_and_with_strict_refused(hub, folder, say):
    packages = [{"name": "lerobot", "version": "0.6.0", "provides": []}]
    change(folder / "lerobot_ext.json", packages=packages)
    put(folder)
    code, out, _ = say("pull", f"--policy.path={REPO}")
    assert code == 0
    assert "  pip install lerobot==0.6.0\n" in out
    assert "lerobot-rollout" in out
    code, out, _ = say("pull", f"--policy.path={REPO}", "--strict")
    assert code == 3
    assert "lerobot-rollout" not in out


def test_a_stock_checkpoint_is_pulled_with_what_its_files_tell(hub, folder, say):
    (folder / "lerobot_ext.json").unlink()
    put(folder)
    code, out, _ = say("pull", f"--policy.path={REPO}", "--json")
    report = json.loads(out)
    assert (code, report["policy"], report["unknown"]) == (0, "act", [])
    [package] = report["packages"]
    assert {"policy act", "step normalizer_processor"} <= set(package["provides"])


def test_a_stock_checkpoint_of_an_unknown_policy_gets_a_guess(hub, folder, say, monkeypatch):
    (folder / "lerobot_ext.json").unlink()
    change(folder / "config.json", type="not_here")
    steps = json.loads((folder / "policy_preprocessor.json").read_text())["steps"]
    more = [{"registry_name": "odd_step", "config": {}}, {"class": "odd_package.steps.Gain", "config": {}}]
    change(folder / "policy_preprocessor.json", steps=steps + more)
    put(folder)
    code, out, _ = say("pull", f"--policy.path={REPO}")
    assert code == 3
    assert "policy not_here: no installed package provides it; by LeRobot's naming rule" in out
    assert "lerobot_policy_not_here" in out
    assert "step odd_step: no installed package provides it; ask the author" in out
    assert "odd_package" in out
    assert "pip install" not in out, "a guess is no install line"
    monkeypatch.setitem(derive.PROVIDERS, ("--policy.type", "not_here"), "lerobot_policy_known")
    code, out, _ = say("pull", f"--policy.path={REPO}")
    assert code == 3
    assert "  pip install lerobot_policy_known\n" in out


def test_a_folder_of_this_machine_is_checked_the_same_way(folder, say):
    code, out, _ = say("pull", f"--policy.path={folder}")
    assert code == 0
    assert f"Whole, in {folder}" in out
    (folder / STATE).unlink()
    code, _, err = say("pull", f"--policy.path={folder}")
    assert code == 2
    assert STATE in err


def test_folders_in_a_repository_are_not_fetched(hub, folder, say, tmp_path):
    (folder / "checkpoints" / "000001").mkdir(parents=True)
    (folder / "checkpoints" / "000001" / "optimizer.json").write_text("{}")
    put(folder)
    say("pull", f"--policy.path={REPO}", "--to", tmp_path / "to")
    assert not (tmp_path / "to" / "checkpoints").exists()


def test_a_revision_is_got_as_it_was(hub, folder, say, tmp_path):
    put(folder)
    HfApi().create_tag(REPO, tag="v1")
    change(folder / "train_config.json", seed=77)
    put(folder)
    for revision, seed in (("v1", 0), ("main", 77)):
        to = tmp_path / revision
        assert say("pull", f"--policy.path={REPO}", f"--revision={revision}", "--to", to)[0] == 0
        assert json.loads((to / "train_config.json").read_text())["seed"] == seed


def test_a_file_that_is_not_what_the_hub_says_is_refused_and_got_anew_first(
    hub, folder, say, tmp_path, monkeypatch
):
    put(folder)
    _, commit = hub.store.resolve("model", REPO, "main")
    blob = hub.store.blob_path(commit.files["model.safetensors"].sha256)
    good = blob.read_bytes()
    blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    code, _, err = say("pull", f"--policy.path={REPO}", "--to", tmp_path / "to")
    assert code == 2
    assert "model.safetensors of user/pushed arrive otherwise" in err
    blob.write_bytes(good)
    assert say("pull", f"--policy.path={REPO}", "--to", tmp_path / "to")[0] == 0
    assert (tmp_path / "to" / "model.safetensors").read_bytes() == good


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / STATE).unlink(), "keeps its state there"),
        (lambda f: (f / "policy_preprocessor.json").unlink(), "migrate_policy_normalization"),
        (lambda f: truncate(f / "model.safetensors", 9), "its header asks for"),
        (lambda f: (f / "policy_preprocessor.json").write_text("[]"), "is no processor"),
        (lambda f: (f / "lerobot_ext.json").write_text("{"), "is not JSON"),
    ],
)
def test_a_broken_checkpoint_is_named(hub, folder, say, tmp_path, spoil, said):
    spoil(folder)
    put(folder)
    code, _, err = say("pull", f"--policy.path={REPO}", "--to", tmp_path / "to")
    assert code == 2
    assert said in err


def test_private_missing_and_wrong_are_told_with_a_remedy(tmp_path, folder, say, monkeypatch):
    tokens = {"a-secret": "user", "b-secret": "bob"}
    with (
        HubServer(tmp_path / "hub", tokens=tokens) as server,
        in_this_process(server, tmp_path / "home", token="a-secret"),
        monkeypatch.context() as monkeypatch,  # taken back while the token is still this process's
    ):
        put(folder, private=True)
        assert say("pull", f"--policy.path={REPO}")[0] == 0
        for token, said, remedy in (
            ("", "is private, or does not exist", "hf auth login"),
            ("b-secret", "that this token may see", "its owner's token"),
            ("wrong", "does not know your token", "hf auth login"),
        ):
            monkeypatch.setenv("HF_TOKEN", token)
            code, _, err = say("pull", f"--policy.path={REPO}")
            message, hint = err.splitlines()
            assert (code, said in message, remedy in hint) == (2, True, True), err
        monkeypatch.setenv("HF_TOKEN", "a-secret")
        code, _, err = say("pull", f"--policy.path={REPO}", "--revision=nope")
        assert (code, "has no revision 'nope'" in err) == (2, True), err
        code, _, err = say("pull", "--policy.path=a/b/c")
        assert (code, "is no name of a repository" in err) == (2, True), err
        with monkeypatch.context() as offline:
            offline.setattr(constants, "HF_HUB_OFFLINE", True)
            code, _, err = say("pull", f"--policy.path={REPO}")
        assert (code, "switched off by HF_HUB_OFFLINE" in err) == (2, True), err


def test_a_repository_without_a_policy_is_said(hub, say):
    HfApi().create_repo(REPO)
    code, _, err = say("pull", f"--policy.path={REPO}")
    assert (code, "holds no policy" in err) == (2, True)


def test_other_files_are_not_written_over(hub, folder, say, tmp_path):
    put(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    code, _, err = say("pull", f"--policy.path={REPO}", "--to", tmp_path / "mine")
    assert (code, "holds other files" in err) == (2, True)
    code, _, err = say("pull", f"--policy.path={REPO}", "--to", tmp_path / "mine" / "config.json")
    assert (code, "is a file" in err) == (2, True)
    code, _, err = say("pull", f"--policy.path={folder}", "--to", tmp_path / "x")
    assert (code, "folder of this machine" in err) == (2, True)
    assert (tmp_path / "mine" / "config.json").read_text() == "{}"


@pytest.mark.parametrize("place", ["before", "after"])
def test_wherever_a_pull_breaks_it_says_so_and_can_be_repeated(tmp_path, folder, say, monkeypatch, place):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with FaultyHub(tmp_path / "hub") as server, in_this_process(server, tmp_path / "home"):
        put(folder)
        server.mend()
        assert say("pull", f"--policy.path={REPO}", "--to", tmp_path / "counted")[0] == 0
        total = len(server.requests)
        assert total >= len(files_of(folder))
        for number in range(1, total + 1):
            to, cache = tmp_path / f"to{number}", tmp_path / f"cache{number}"
            server.mend()
            server.break_at(number, place, lasting=True)
            with monkeypatch.context() as fresh:
                fresh.setattr(constants, "HF_HUB_CACHE", str(cache))
                code, _, err = say("pull", f"--policy.path={REPO}", "--to", to)
                assert code in (0, 2)
                assert code == 0 or "cannot be reached" in err or "try again" in err, err
                server.mend()
                assert say("pull", f"--policy.path={REPO}", "--to", to)[0] == 0
            assert examine(to) == []


def test_a_file_is_compared_by_git_hash_too(tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    oid = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"  # git hash-object
    assert pull._matches(tmp_path / "a", pull.RemoteFile(5, "", oid))
    assert not pull._matches(tmp_path / "a", pull.RemoteFile(5, "", "0" * 40))
    assert not pull._matches(tmp_path / "a", pull.RemoteFile(6, "", oid))
    assert not pull._matches(tmp_path / "b", pull.RemoteFile(5, "", oid))
