# SPDX-License-Identifier: Apache-2.0
"""What `lerobot-ext new` writes works at once: built, discovered, tested, linted and run by stock commands.

All six projects are made and built once; their wheels lie in one folder that is put on the path of this
environment. So nothing is downloaded, and no other test sees them.
"""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest
import warm_start

from lerobot_ext.cli.main import main
from lerobot_ext.testing.environments import build_wheel, uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent
NAMES: Final = {
    "policy": "bright_idea",
    "robot": "ant",
    "teleoperator": "spoon",
    "camera": "moth",
    "env": "meadow",
    "processor": "to_rad",
}
REGISTERS: Final = {
    "lerobot_policy_bright_idea": ["policy bright_idea"],
    "lerobot_robot_ant": ["robot ant"],
    "lerobot_teleoperator_spoon": ["teleoperator spoon"],
    "lerobot_camera_moth": ["camera moth"],
    "lerobot_env_meadow": ["env meadow"],
    "lerobot_robot_processors_to_rad": ["step to_rad"],
}
# The project whose discovery test runs too: it makes environments, and all six wheels are discovered above.
WHOLLY: Final = ("processor",)
# Makes a checkpoint for the new environment whose pipelines hold the new step and its inverse.
CHECKPOINT: Final = """
import sys
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
from lerobot.envs.utils import env_to_policy_features
from lerobot_env_meadow import MeadowEnvConfig
from lerobot_policy_bright_idea import BrightIdeaConfig, BrightIdeaPolicy
from lerobot_policy_bright_idea import make_bright_idea_pre_post_processors
from lerobot_robot_processors_to_rad import ToRadStep

features = env_to_policy_features(MeadowEnvConfig())
outputs = {"action": features.pop("action")}
config = BrightIdeaConfig(device="cpu", hidden_dim=16, input_features=features, output_features=outputs)
before, after = make_bright_idea_pre_post_processors(config)
before.steps = [*before.steps, ToRadStep(keys=("observation.state",))]
after.steps = [*after.steps, ToRadStep(keys=("action",)).inverted()]
for part in (BrightIdeaPolicy(config), before, after):
    part.save_pretrained(sys.argv[1])
"""


def run(*words: object, timeout: float = 900, **options) -> str:
    """Run a command; all it printed, or a failure that shows it."""
    ran = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        **options,
    )
    assert ran.returncode == 0, f"{' '.join(map(str, words))}\n{ran.stdout[-6000:]}"
    return ran.stdout


def script(name: str, *words: object, **options) -> str:
    """Run a console script of this environment, as `run`."""
    ran = warm_start.run([BIN / name, *map(str, words)], timeout=900, **options)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, f"{name} {' '.join(map(str, words))}\n{said[-6000:]}"
    return said


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> dict[str, Path]:
    """One project of each kind, as the command writes it."""
    folder = tmp_path_factory.mktemp("projects")
    for kind, name in NAMES.items():
        assert main(["new", kind, name, "--dir", str(folder)]) == 0
    return dict(
        zip(NAMES, sorted(folder.iterdir(), key=lambda p: list(REGISTERS).index(p.name)), strict=True)
    )


@pytest.fixture(scope="module")
def wheels(projects, tmp_path_factory) -> list[Path]:
    """The wheel of each project."""
    out = tmp_path_factory.mktemp("wheels")
    return sorted(build_wheel(project, out) for project in projects.values())


@pytest.fixture(scope="module")
def environment(wheels, tmp_path_factory) -> dict[str, str]:
    """An environment in which all wheels are installed."""
    site = tmp_path_factory.mktemp("site")
    for wheel in wheels:
        # A wheel without data or scripts is installed by unpacking it.
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    home = tmp_path_factory.mktemp("home")
    return os.environ | {
        "PYTHONPATH": str(site),
        "HF_LEROBOT_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


def test_all_kinds_build_and_are_discovered(environment, wheels):
    assert [wheel.name.partition("-")[0] for wheel in wheels] == sorted(REGISTERS)
    said = run(BIN / "lerobot-ext", "plugins", "--json", env=environment | {"PYTHONWARNINGS": "ignore"})
    rows = {row["name"]: row for row in json.loads(said[said.index("{") :])["plugins"]}
    for name, registers in REGISTERS.items():
        assert rows[name]["registers"] == registers
        assert rows[name]["loaded_by"] == "LeRobot"
        assert rows[name]["status"] == "ok"


@pytest.mark.parametrize("kind", NAMES)
def test_the_kit_and_the_projects_own_tests_pass(kind, projects, environment):
    words = ["-q", "-p", "no:cacheprovider"]
    if kind not in WHOLLY:
        words.append("--ignore=tests/test_discovery.py")
    said = script("pytest", *words, cwd=projects[kind], env=environment)
    assert " passed" in said
    assert "xfailed" not in said


def test_the_linters_of_each_project_are_content(projects, tmp_path, environment):
    for project in projects.values():
        run(BIN / "ruff", "check", "--no-cache", ".", cwd=project)
        run(BIN / "ruff", "format", "--no-cache", "--check", ".", cwd=project)
        # The six have the same settings: what one found out about torch serves the next.
        run(BIN / "mypy", "--cache-dir", tmp_path, cwd=project, env=environment)


def test_what_a_new_robot_records_a_new_policy_learns(tmp_path, environment):
    root = tmp_path / "recorded"
    script(
        "lerobot-record",
        "--robot.type=ant",
        "--robot.id=test",
        "--robot.n_joints=3",
        "--robot.cameras={front: {type: moth, width: 64, height: 48, fps: 30}}",
        "--teleop.type=spoon",
        "--teleop.n_joints=3",
        "--dataset.repo_id=local/new",
        f"--dataset.root={root}",
        "--dataset.single_task=wave",
        "--dataset.num_episodes=1",
        "--dataset.episode_time_s=2",
        "--dataset.reset_time_s=0",
        "--dataset.fps=10",
        "--dataset.video=false",
        "--dataset.push_to_hub=false",
        "--dataset.no_stamp=true",
        "--play_sounds=false",
        env=environment,
    )
    features = json.loads((root / "meta" / "info.json").read_text())["features"]
    assert features["action"]["names"] == ["joint_1.pos", "joint_2.pos", "joint_3.pos"]
    assert features["observation.images.front"]["shape"] == [48, 64, 3]
    said = script(
        "lerobot-train",
        "--policy.type=bright_idea",
        "--policy.hidden_dim=16",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--dataset.repo_id=local/new",
        f"--dataset.root={root}",
        f"--output_dir={tmp_path / 'run'}",
        "--batch_size=4",
        "--num_workers=0",
        "--steps=2",
        "--log_freq=1",
        env=environment,
    )
    assert "l1_loss" in said
    saved = tmp_path / "run" / "checkpoints" / "last" / "pretrained_model"
    assert json.loads((saved / "config.json").read_text())["type"] == "bright_idea"


def test_a_new_step_is_loaded_by_a_stock_command_in_a_new_environment(tmp_path, environment):
    checkpoint = tmp_path / "checkpoint"
    run(sys.executable, "-c", CHECKPOINT, checkpoint, env=environment)
    for part in ("pre", "post"):
        assert '"to_rad"' in (checkpoint / f"policy_{part}processor.json").read_text()
    said = script(
        "lerobot-eval",
        f"--policy.path={checkpoint}",
        "--policy.device=cpu",
        "--env.type=meadow",
        "--env.episode_length=20",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        "--eval.use_async_envs=true",
        f"--output_dir={tmp_path / 'eval'}",
        env=environment,
    )
    assert "pc_success" in said
    assert list((tmp_path / "eval").rglob("*.mp4")), "it renders"


def test_the_cores_wheel_and_sources_hold_every_template(tmp_path):
    if uv():
        run(uv(), "build", "--python", sys.executable, "--out-dir", tmp_path, ROOT)
    else:
        run(sys.executable, "-m", "build", "--outdir", tmp_path, ROOT)
    folder = ROOT / "lerobot_ext" / "scaffold" / "templates"
    wanted = {str(file.relative_to(ROOT)) for file in folder.rglob("*") if file.is_file()}
    assert len(wanted) > 30
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert wanted <= set(wheel.namelist())
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sources:
        assert wanted <= {name.partition("/")[2] for name in sources.getnames()}
