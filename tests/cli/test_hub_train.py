# SPDX-License-Identifier: Apache-2.0
"""Stock `lerobot-train` pushes a policy to a loopback Hub, and a fresh process runs what it pulled."""

import json
import os
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
import warm_start
from huggingface_hub import ModelCard
from stock_cli import BIN
from stock_loop import LOOP, POLICY, write_dataset

from lerobot_ext.hub.requirements import read_requirements
from lerobot_ext.testing.distributions import write_distribution
from lerobot_ext.testing.hub import HubServer, client_environment

pytestmark = pytest.mark.slow


TRAIN = [
    *(word for word in POLICY if not word.startswith("--policy.push_to_hub")),
    *LOOP,
    "--policy.repo_id=user/pushed",
    "--policy.push_to_hub=true",
    "--policy.private=true",
    "--steps=3",
    "--save_checkpoint=true",
    "--wandb.enable=false",
]

PULL = """
import json, torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot_ext.plugins import load_all
load_all()
policy = ACTPolicy.from_pretrained("user/pushed").eval()
before, after = make_pre_post_processors(policy.config, pretrained_path="user/pushed")
batch = before({"observation.state": torch.zeros(3), "observation.environment_state": torch.zeros(2)})
shape = list(after(policy.select_action(batch)).shape)
print(json.dumps([shape, sum(p.numel() for p in policy.parameters())]))
"""


@dataclass
class Run:
    """What one `lerobot-train` with `--policy.push_to_hub=true` left."""

    server: HubServer
    folder: Path
    said: str

    def environment(self, home: str) -> dict[str, str]:
        """The variables of a process that uses the Hub; `LEROBOT_EXT_HUB_LOOPBACK` is not among them."""
        client = client_environment(self.server.url, self.folder / home)
        del client["LEROBOT_EXT_HUB_LOOPBACK"]
        paths = os.pathsep.join([str(self.folder / "site"), os.environ.get("PYTHONPATH", "")])
        more = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
        return os.environ | client | more

    def run(self, *words: str, home: str = "other_home", **more: str) -> subprocess.CompletedProcess[str]:
        """A console script."""
        return warm_start.run([BIN / words[0], *words[1:]], env=self.environment(home) | more, timeout=240)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "out" / "checkpoints" / "last" / "pretrained_model"

    def text(self, name: str, repo: str = "user/pushed") -> str:
        """A file of the pushed repository."""
        _, commit = self.server.store.resolve("model", repo, "main")
        return self.server.store.blob_path(commit.files[name].sha256).read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub_train")
    # Stands for any of our plugins: LeRobot imports it, and it loads the rest.
    write_distribution(
        folder / "site",
        "lerobot_env_stand_in",
        modules={"lerobot_env_stand_in": "from lerobot_ext.plugins import load_all\nload_all()\n"},
    )
    with HubServer(folder / "hub") as server:
        made = Run(server, folder, "")
        trained = made.run(
            "lerobot-train",
            *write_dataset(folder / "data", episodes=1),
            f"--output_dir={folder / 'out'}",
            *TRAIN,
            home="home",
        )
        made.said = trained.stdout + trained.stderr
        assert trained.returncode == 0, made.said[-3000:]
        yield made


def test_a_push_is_one_commit_of_everything(run):
    history = run.server.store.history("model", "user/pushed", "main")
    assert [commit.message for _, commit in history] == [
        "Upload policy, processors, requirements and card",
        "initial commit",
    ]
    files = history[0][1].files
    state = "policy_preprocessor_step_3_normalizer_processor.safetensors"
    processors = {"policy_preprocessor.json", "policy_postprocessor.json", state}
    policy = {"config.json", "model.safetensors", "train_config.json"}
    assert policy | processors | {"README.md", "lerobot_ext.json", "training.png"} <= set(files)
    assert files["model.safetensors"].lfs
    assert f"Model pushed to {run.server.url}/user/pushed" in run.said


def test_the_card_says_what_to_install_and_what_was_trained(run):
    card = ModelCard(run.text("README.md"))
    lerobot = metadata.version("lerobot")
    assert card.data.library_name == "lerobot"
    assert card.data.datasets == ["user/tiny"]
    assert {"act", "lerobot", "robotics", "lerobot_ext"} <= set(card.data.tags)
    assert f"pip install lerobot=={lerobot}\n" in card.text
    assert "--policy.path=user/pushed" in card.text
    assert "(episodes 1, frames 24, 10 fps)" in card.text
    assert "| steps | 3 |" in card.text
    assert "| seed | 1000 |" in card.text
    assert "at step 1, " in card.text
    assert "(training.png)" in card.text
    assert "Wilson" not in card.text, "no evaluation was run"


def test_checkpoints_on_disk_say_what_they_need_too(run):
    needs = read_requirements(run.checkpoint / "lerobot_ext.json")
    assert needs.policy == "act"
    [package] = needs.packages
    assert (package.name, package.version) == ("lerobot", metadata.version("lerobot"))
    assert {"policy act", "config act", "step normalizer_processor"} <= set(package.provides)
    assert [step for step, _ in needs.history["loss"]] == [1, 2, 3]
    assert needs.training["dataset"]["frames"] == 24
    assert json.loads(run.text("lerobot_ext.json"))["packages"] == needs.to_json()["packages"]


def test_a_private_push_is_private(run):
    assert run.server.store.state("model", "user/pushed")["private"]


def test_a_fresh_process_pulls_and_acts(run):
    pulled = warm_start.run_program(PULL, env=run.environment("other_home"), timeout=240)
    assert pulled.returncode == 0, pulled.stderr[-3000:]
    assert pulled.stdout.strip().splitlines()[-1].startswith("[[1, 3], ")


def test_lerobot_ext_pull_names_what_is_needed_gets_it_and_says_how_to_run_it(run):
    pulled = run.run("lerobot-ext", "pull", "--policy.path=user/pushed", "--json")
    assert pulled.returncode == 0, pulled.stderr
    report = json.loads(pulled.stdout)
    assert (report["policy"], report["missing"]) == ("act", [])
    folder = Path(report["folder"])
    assert (folder / "model.safetensors").read_bytes() == (run.checkpoint / "model.safetensors").read_bytes()


def test_without_a_token_the_private_repository_is_not_to_be_seen(run):
    pulled = run.run("lerobot-ext", "pull", "--policy.path=user/pushed", home="third_home", HF_TOKEN="")
    assert pulled.returncode == 2
    message, remedy = pulled.stderr.strip().splitlines()
    assert "user/pushed is private, or does not exist" in message
    assert "hf auth login" in remedy


def test_lerobot_ext_push_puts_the_same_files_elsewhere(run):
    pushed = run.run("lerobot-ext", "push", str(run.folder / "out"), "user/again", "--json")
    assert pushed.returncode == 0, pushed.stderr
    first, again = (
        run.server.store.resolve("model", f"user/{name}", "main")[1] for name in ("pushed", "again")
    )
    same = set(first.files) - {"README.md"}
    assert {name: first.files[name] for name in same} == {name: again.files[name] for name in same}
    assert "lerobot-rollout" in run.text("README.md", "user/again")
