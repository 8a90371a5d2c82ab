# SPDX-License-Identifier: Apache-2.0
"""A push through LeRobot's own code, with connections that break at every request of it."""

import ast
import inspect
import json
import shutil
import textwrap
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import torch
from hub_push_parts import tiny_training
from hub_push_parts.breaks import ERRORS, MIXTURE, NEW, NOTHING, OLD, STOCK, cut_off, forget_push, start_anew
from hub_push_parts.tiny_training import REPO
from huggingface_hub import HfApi
from lerobot.optim import AdamConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.scripts import lerobot_train

from lerobot_ext import lerobot_window
from lerobot_ext.hub import hook, push, train_hooks
from lerobot_ext.hub.checkpoint import examine
from lerobot_ext.hub.push import PushError
from lerobot_ext.hub.requirements import read_requirements
from lerobot_ext.testing.hub import in_this_process
from lerobot_ext.testing.hub_faults import PLACES, FaultyHub
from lerobot_ext.testing.hub_store import HubError

STATE = "policy_preprocessor_step_3_normalizer_processor.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's waits between tries
    with FaultyHub(tmp_path / "hub") as server, in_this_process(server, tmp_path / "home"):
        yield server


@pytest.fixture(autouse=True)
def stock():
    """LeRobot as it is: another test may have loaded our plugins, and they the hooks."""
    train_hooks.uninstall()
    yield
    train_hooks.uninstall()


@pytest.fixture
def script(stock):
    """The training script, with our hooks in it."""
    stand_in = tiny_training.training_script()
    train_hooks.install(stand_in)
    return stand_in


def read(hub: FaultyHub, folder: Path) -> Path | None:
    """What a reader gets; `None` if the repository is not there or empty."""
    try:
        _, commit = hub.store.resolve("model", REPO, "main")
    except HubError:
        return None
    if not commit.files:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, entry in commit.files.items():
        shutil.copy(hub.store.blob_path(entry.sha256), folder / name)
    return folder


def load(folder: Path) -> tuple[int, torch.Tensor]:
    """The seed a checkpoint was trained with, and its normalised action for a fixed observation."""
    policy = ACTPolicy.from_pretrained(folder, local_files_only=True)
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(folder))
    observation = {"observation.state": torch.ones(3), "observation.environment_state": torch.ones(2)}
    action = after(policy.select_action(before(observation)))
    return json.loads((folder / "train_config.json").read_text())["seed"], action


def count_requests(hub: FaultyHub, training: tiny_training.Training) -> int:
    hub.mend()
    training.push()
    return len(hub.requests)


# One commit


def test_a_push_needs_few_requests_and_leaves_one_commit(hub, script, tmp_path):
    training = tiny_training.train(tmp_path, script)
    training.push()
    history = hub.store.history("model", REPO, "main")
    assert [commit.message for _, commit in history] == [train_hooks.MESSAGE, "initial commit"]
    assert examine(read(hub, tmp_path / "read")) == []
    assert len(hub.requests) == 12
    commits = [request for request in hub.requests if "/commit/" in request]
    assert hub.requests[-1:] == commits, "the commit is the last request"


def test_stock_pushes_three_times(hub, tmp_path):
    tiny_training.train(tmp_path).push()
    assert len(hub.store.history("model", REPO, "main")) == 1 + 3


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("place", PLACES)
def test_wherever_a_first_push_breaks_a_reader_sees_nothing_or_all_of_it(
    hub, script, tmp_path, place, lasting
):
    training = tiny_training.train(tmp_path, script)
    expected = None
    total = count_requests(hub, training)
    seen = []
    for number in range(1, total + 1):
        start_anew(hub)
        forget_push(training)
        hub.break_at(number, place, lasting=lasting)
        try:
            training.push()
        except ERRORS:
            assert lasting, f"request {number} of {hub.requests} was not tried again"
        found = read(hub, tmp_path / "read")
        if found is not None:
            assert examine(found) == []
            seed, action = load(found)
            expected = action if expected is None else expected
            assert seed == 0
            assert torch.equal(action, expected)
        seen.append(found is not None)
        hub.mend()
        training.push()
        assert examine(read(hub, tmp_path / "read")) == []
    # Only when the commit's answer alone is lost has a push that failed for good arrived.
    assert seen == ([False] * (total - 1) + [place == "after"] if lasting else [True] * total)


@pytest.mark.parametrize("place", PLACES)
def test_wherever_a_second_push_breaks_a_reader_sees_the_old_or_the_new_one(hub, script, tmp_path, place):
    old = tiny_training.train(tmp_path, script, seed=1)
    old.push()
    head = hub.store.resolve("model", REPO, "main")[0]
    blobs = frozenset((hub.store.root / "blobs").iterdir())
    actions = {1: load(read(hub, tmp_path / "read"))[1]}
    new = tiny_training.train(tmp_path, script, seed=2)
    total = count_requests(hub, new)
    actions[2] = load(read(hub, tmp_path / "read"))[1]
    assert not torch.equal(actions[1], actions[2])
    for number in range(1, total + 1):
        start_anew(hub, head, blobs)
        forget_push(new)
        hub.break_at(number, place, lasting=True)
        with pytest.raises(ERRORS):
            new.push()
        seed, action = load(read(hub, tmp_path / "read"))
        assert torch.equal(action, actions[seed]), f"a mixture after request {number}"


def test_stock_leaves_a_mixture_where_we_leave_the_old_or_the_new_one(hub, tmp_path):
    """The contrast, and the numbers in docs/hub.md."""
    found = cut_off(hub, STOCK, tmp_path, second=False, told=lambda count: None)
    assert (found["requests"], found["commits"]) == (19, 3)
    assert found["found"] == {NOTHING: 26, OLD: 0, NEW: 1, MIXTURE: 30}
    assert (found["arrived"], found["lost_once"]) == (30, 57)


# What the hooks do beside it


def test_the_later_pushes_of_a_processor_that_has_changed_are_stocks(hub, script, tmp_path):
    training = tiny_training.train(tmp_path, script)
    training.push()
    hub.mend()
    training.preprocessor.push_to_hub(REPO)
    assert hub.requests == []
    training.preprocessor.steps[3].eps = 0.5
    training.preprocessor.push_to_hub(REPO)
    assert json.loads((read(hub, tmp_path / "read") / "policy_preprocessor.json").read_text())["steps"][3][
        "config"
    ]["eps"] == pytest.approx(0.5)
    hub.mend()
    training.postprocessor.push_to_hub("user/elsewhere")
    assert any("/user/elsewhere/commit/" in request for request in hub.requests)


def test_a_public_repository_gets_nothing_that_was_to_be_private(hub, script, tmp_path):
    HfApi().create_repo(REPO, private=False)
    training = tiny_training.train(tmp_path, script, private=True)
    with pytest.raises(PushError, match="public repository already") as refused:
        training.push()
    assert "--private" in refused.value.remedy
    assert hub.store.resolve("model", REPO, "main")[1].files == {}


def test_stock_pushes_into_the_public_one(hub, tmp_path):
    """The contrast, as docs/hub.md says it."""
    HfApi().create_repo(REPO, private=False)
    tiny_training.train(tmp_path, private=True).push()
    assert not hub.store.state("model", REPO)["private"]
    assert "model.safetensors" in hub.store.resolve("model", REPO, "main")[1].files


def test_a_new_repository_is_private_before_anything_is_in_it(hub, script, tmp_path):
    tiny_training.train(tmp_path, script, private=True).push()
    assert hub.store.state("model", REPO)["private"]
    first = next(index for index, line in enumerate(hub.requests) if line.startswith("PUT"))
    assert "POST /api/repos/create" in hub.requests[:first]


def test_a_push_that_fails_keeps_the_policy_and_says_how_to_push_it(hub, script, tmp_path, caplog):
    training = tiny_training.train(tmp_path / "out", script, private=True)
    hub.break_at(1, "before", lasting=True)
    with pytest.raises(PushError):
        training.push()
    kept = tmp_path / "out" / "not_pushed"
    assert examine(kept) == []
    assert f"lerobot-ext push {kept} {REPO} --private" in caplog.text


def test_evaluations_of_the_training_get_into_checkpoint_and_card(hub, script, tmp_path, caplog):
    metrics = {"successes": [True, False], "sum_rewards": [1.0, 0.0]}
    training = tiny_training.train(tmp_path, script)
    training.cfg.steps = 20
    result = {"per_task": [{"task_group": "koch", "task_id": 0, "metrics": metrics}]}
    train_hooks._noter.evaluated(None, 20, result)
    train_hooks._noter.evaluated(None, 20, {"odd": 1})
    assert "will not be in the model card" in caplog.text
    training.push()
    found = read(hub, tmp_path / "read")
    assert "| koch | 20 | 1/2 | 50.0 % (9-91 %) | 0.5 |" in (found / "README.md").read_text()
    assert (found / "training.png").exists()


def test_a_resumed_training_goes_on_with_the_history_of_its_checkpoint(script, tmp_path):
    training = tiny_training.train(tmp_path / "first", script)
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.5)):
        train_hooks._run.history.add_loss(step, loss)
    save(script, training, tmp_path / "first", step=2)
    checkpoint = tmp_path / "first" / "pretrained_model"
    assert read_requirements(checkpoint / "lerobot_ext.json").history["loss"] == [[1, 3.0], [2, 2.0]]
    resumed = tiny_training.train(tmp_path / "second", script)
    train_hooks._run.source = str(checkpoint)
    train_hooks._run.history.add_loss(3, 1.0)
    for resume, expected in ((True, [[1, 3.0], [2, 2.0], [3, 1.0]]), (False, [[3, 1.0]])):
        resumed.cfg.resume = resume
        save(script, resumed, tmp_path / "second", step=3)
        needs = read_requirements(tmp_path / "second" / "pretrained_model" / "lerobot_ext.json")
        assert needs.history["loss"] == expected


def save(script, training: tiny_training.Training, folder: Path, step: int) -> None:
    """What `lerobot-train` does at a checkpoint."""
    script.save_checkpoint(
        checkpoint_dir=folder,
        step=step,
        cfg=training.cfg,
        policy=training.policy,
        optimizer=AdamConfig().build(training.policy.parameters()),
        preprocessor=training.preprocessor,
        postprocessor=training.postprocessor,
    )


def test_a_note_that_cannot_be_written_costs_no_checkpoint(script, tmp_path, monkeypatch, caplog):
    training = tiny_training.train(tmp_path, script)

    def fail(*words, **named):
        raise KeyError("odd")

    monkeypatch.setattr(train_hooks, "describe", fail)
    save(script, training, tmp_path, step=1)
    assert (tmp_path / "pretrained_model" / "model.safetensors").exists()
    assert "does not say what it needs" in caplog.text


def test_a_push_during_which_someone_else_pushes_is_made_again_on_theirs(hub, script, tmp_path, monkeypatch):
    training = tiny_training.train(tmp_path, script)
    real, others = HfApi.create_commit, []

    def interrupted(self, **named):
        if not others:
            others.append(tiny_training.train(tmp_path, seed=9))
            monkeypatch.setattr(HfApi, "create_commit", real)
            with_stock_api(others[0])
        return real(self, **named)

    def with_stock_api(other: tiny_training.Training) -> None:
        folder = tmp_path / "other"
        other.policy.save_pretrained(folder)
        self_api = HfApi()
        self_api.upload_folder(repo_id=REPO, folder_path=folder, commit_message="theirs")

    monkeypatch.setattr(HfApi, "create_commit", interrupted)
    training.push()
    messages = [commit.message for _, commit in hub.store.history("model", REPO, "main")]
    assert messages == [train_hooks.MESSAGE, "theirs", "initial commit"]
    assert load(read(hub, tmp_path / "read"))[0] == 0


def test_states_of_another_checkpoint_are_deleted_with_the_same_commit(hub, script, tmp_path):
    HfApi().create_repo(REPO)
    for name in ("policy_preprocessor_step_7_gone.safetensors", "notes.txt"):
        HfApi().upload_file(repo_id=REPO, path_or_fileobj=b"old", path_in_repo=name)
    tiny_training.train(tmp_path, script).push()
    files = hub.store.resolve("model", REPO, "main")[1].files
    assert STATE in files
    assert "policy_preprocessor_step_7_gone.safetensors" not in files
    assert "notes.txt" in files


def test_a_refusal_is_not_tried_again(hub, script, tmp_path, monkeypatch):
    training = tiny_training.train(tmp_path, script)
    with monkeypatch.context() as without_token:
        without_token.setenv("HF_TOKEN", "")
        with pytest.raises(PushError, match="does not know who you are") as refused:
            training.push()
    assert "hf auth login" in refused.value.remedy
    assert hub.requests == ["POST /api/repos/create", f"GET /api/models/{REPO}"], "the client looks once more"


def test_adapters_are_pushed_with_the_configuration_and_the_processors(hub, script, tmp_path, caplog):
    """PEFT saves its own files; stock's code for that stays in charge."""

    class Adapter:
        def __init__(self, policy: ACTPolicy) -> None:
            self.policy = policy
            self.config = policy.config
            self.peft_config = {}
            self.base_model = SimpleNamespace(model=policy)

        def save_pretrained(self, folder: Path) -> None:
            folder.mkdir(parents=True)
            base = {"base_model_name_or_path": str(tmp_path)}
            (folder / "adapter_config.json").write_text(json.dumps(base))
            ACTPolicy.save_pretrained(self.policy, folder / "x")
            shutil.move(folder / "x" / "model.safetensors", folder / "adapter_model.safetensors")

    training = tiny_training.train(tmp_path, script)
    training.policy.push_model_to_hub(training.cfg, peft_model=Adapter(training.policy), dataset_meta=None)
    found = read(hub, tmp_path / "read")
    assert examine(found) == []
    assert f"change the policy in {tmp_path}, a folder of this machine" in caplog.text
    assert (found / "adapter_model.safetensors").exists()
    assert not (found / "model.safetensors").exists()
    assert len(hub.store.history("model", REPO, "main")) == 2


def test_a_policy_that_writes_its_own_card_keeps_it(hub, script, tmp_path, monkeypatch):
    from huggingface_hub import ModelCard

    monkeypatch.setattr(
        ACTPolicy, "generate_model_card", lambda *a, **k: ModelCard("---\nlicense: mit\n---\n# Theirs\n")
    )
    tiny_training.train(tmp_path, script).push()
    text = (read(hub, tmp_path / "read") / "README.md").read_text()
    assert text.startswith("---\nlicense: mit\n---\n# Theirs\n")
    assert "pip install lerobot" in text


def test_without_the_hooks_everything_is_stocks(hub, tmp_path):
    before = PreTrainedPolicy.push_model_to_hub
    stand_in = tiny_training.training_script()
    functions = dict(vars(stand_in))
    train_hooks.install(stand_in)
    assert train_hooks.install(stand_in), "a second time changes nothing"
    train_hooks.uninstall()
    assert {name: vars(stand_in)[name] for name in functions} == functions
    assert PreTrainedPolicy.push_model_to_hub is before


def test_another_lerobot_is_left_alone(monkeypatch, caplog):
    monkeypatch.setattr(lerobot_window, "TESTED_BELOW", (0, 6))
    stand_in = tiny_training.training_script()
    stock = stand_in.save_checkpoint
    assert not train_hooks.install(stand_in)
    assert stand_in.save_checkpoint is stock
    assert "lerobot>=0.6.1,<0.7" in caplog.text


def test_the_switch_is_read(monkeypatch):
    monkeypatch.setenv(hook.SWITCH, "off")
    monkeypatch.setattr(train_hooks, "install", lambda script: pytest.fail("installed"))
    hook.install_where_policies_are_trained()
    monkeypatch.setenv(hook.SWITCH, "maybe")
    with pytest.raises(ValueError, match=hook.SWITCH):
        hook.install_where_policies_are_trained()


def test_lerobot_still_is_as_the_hooks_expect():
    """Fails when a new LeRobot changes what `train_hooks` relies on: read that module again then."""
    for name in ("make_pre_post_processors", "save_checkpoint"):
        assert callable(getattr(lerobot_train, name))
    train = inspect.getsource(lerobot_train)
    assert train.count(".push_model_to_hub(cfg, ") == 2
    assert "preprocessor.push_to_hub(active_cfg.repo_id)\n" in train
    assert "postprocessor.push_to_hub(active_cfg.repo_id)\n" in train
    assert "logging.info(train_tracker)" in train
    assert 'videos_dir=cfg.output_dir / "eval" / f"videos_step_{step_id}"' in train
    tree = ast.parse(textwrap.dedent(inspect.getsource(PreTrainedPolicy.push_model_to_hub)))
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert sorted(name for name in calls if name.startswith(("api.", "HfApi"))) == [
        "HfApi",
        "api.create_repo",
        "api.upload_folder",
    ]
    assert list(inspect.signature(PreTrainedPolicy.push_model_to_hub).parameters) == [
        "self",
        "cfg",
        "peft_model",
        "state_dict",
        "dataset_meta",
    ]
    assert "card.validate()" in inspect.getsource(PreTrainedPolicy.generate_model_card)


def test_a_wait_between_tries_grows(monkeypatch):
    waits = []
    monkeypatch.setattr(push.time, "sleep", waits.append)

    def fail() -> None:
        raise httpx.ConnectError("gone")

    with pytest.raises(PushError, match="cannot be reached"):
        push._persist(fail, REPO)
    assert waits == [1.0, 2.0, 4.0]
