# SPDX-License-Identifier: Apache-2.0
"""The built wheels: each plugin installs alone, LeRobot's own discovery finds it, uninstalling leaves
nothing behind.

A fresh environment holds only our wheels. What they depend on comes from the environment of the tests,
through a folder of links to all of its site-packages except our own distributions, which are installed
editable there.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
CORE = "lerobot_ext"
FOLDERS = {
    CORE: ".",
    "lerobot_camera_pyav": "robots/lerobot_camera_pyav",
    "lerobot_env_koch": "robots/lerobot_env_koch",
    "lerobot_robot_koch": "robots/lerobot_robot_koch",
    "lerobot_policy_hierarchical_diffusion": "policies/lerobot_policy_hierarchical_diffusion",
}
# What each plugin alone adds to, or replaces in, LeRobot's registries.
BRINGS = {
    "lerobot_camera_pyav": {"camera pyav"},
    "lerobot_env_koch": {"env koch"},
    "lerobot_robot_koch": {
        "robot koch_follower",
        "robot koch_follower_stock",
        "teleoperator koch_leader",
        "teleoperator koch_leader_stock",
    },
    "lerobot_policy_hierarchical_diffusion": {
        "policy hierarchical_diffusion",
        "step lerobot_ext_split_environment_state",
    },
}
# Runs LeRobot's own discovery after what its command lines import, and prints every registered name with its
# class.
CHOICES = """
import json
import lerobot.scripts.lerobot_record, lerobot.scripts.lerobot_train
from lerobot.cameras.configs import CameraConfig
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.configs import EnvConfig
from lerobot.processor import ProcessorStepRegistry
from lerobot.robots.config import RobotConfig
from lerobot.teleoperators.config import TeleoperatorConfig
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
registries = {
    "camera": CameraConfig, "env": EnvConfig, "policy": PreTrainedConfig,
    "robot": RobotConfig, "teleoperator": TeleoperatorConfig,
}
known = [(kind, base.get_known_choices()) for kind, base in registries.items()]
found = {f"{kind} {name}": cls.__module__ for kind, choices in known for name, cls in choices.items()}
found |= {f"step {name}": ProcessorStepRegistry.get(name).__module__ for name in ProcessorStepRegistry.list()}
print(json.dumps(found))
"""


def run(*command: object, **options) -> str:
    """Run a command; its output, or a failure that shows what it wrote."""
    words = [str(word) for word in command]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=200, **options)
    assert ran.returncode == 0, f"{' '.join(words)}\n{ran.stdout[-2000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


def uv() -> str | None:
    return os.environ.get("UV") or shutil.which("uv")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """One wheel of each distribution, built from its folder."""
    out = tmp_path_factory.mktemp("wheels")
    for name, folder in FOLDERS.items():
        if uv():
            run(uv(), "build", "--wheel", "--out-dir", out, ROOT / folder)
        else:
            run(sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT / folder)
        assert len(list(out.glob(f"{name}-*.whl"))) == 1, name
    return {name: next(out.glob(f"{name}-*.whl")) for name in FOLDERS}


class Environment:
    """A virtual environment with our wheels only, on top of linked dependencies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "venv"
        run(sys.executable, "-m", "venv", "--without-pip", self.folder)
        self.python = self.folder / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.site = self.folder / "lib" / version / "site-packages"
        linked = folder / "dependencies"
        linked.mkdir()
        for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
            ours = any(name in entry.name for name in FOLDERS)
            # Path files act in site-packages only; in a linked folder they would do nothing anyway.
            if not ours and entry.suffix != ".pth":
                (linked / entry.name).symlink_to(entry)
        (self.site / "dependencies.pth").write_text(f"{linked}\n")

    def install(self, *wheels: Path) -> None:
        self._pip("install", "--no-deps", *wheels)

    def uninstall(self, name: str) -> None:
        self._pip("uninstall", *([] if uv() else ["-y"]), name)

    def _pip(self, action: str, *rest: object) -> None:
        if uv():
            options = ["--offline", "--no-index"] if action == "install" else []
            run(uv(), "pip", action, "--python", self.python, *options, *rest)
        else:
            run(sys.executable, "-m", "pip", "--python", self.python, action, *rest)

    def files(self) -> set[str]:
        """Everything installed, bytecode left out."""
        paths = (path.relative_to(self.site) for path in self.site.rglob("*") if path.is_file())
        return {str(path) for path in paths if "__pycache__" not in path.parts}

    def choices(self) -> dict[str, str]:
        """Registered names and the modules of their classes, as a stock command line would have them."""
        return json.loads(run(self.python, "-c", CHOICES, env=clean_environment()).splitlines()[-1])


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead back to the source tree."""
    unwanted = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    return {key: value for key, value in os.environ.items() if key not in unwanted} | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheels) -> Environment:
    """An environment that has the core and no plugin."""
    made = Environment(tmp_path_factory.mktemp("environment"))
    made.install(wheels[CORE])
    return made


@pytest.fixture(scope="module")
def without_plugins(environment) -> dict[str, str]:
    return environment.choices()


def test_the_core_alone_changes_no_stock_command_line(without_plugins):
    assert without_plugins["robot koch_follower"].startswith("lerobot.")
    assert [name for name, module in without_plugins.items() if not module.startswith("lerobot.")] == []


@pytest.mark.parametrize("plugin", BRINGS)
def test_a_plugin_alone_is_discovered_and_leaves_nothing_behind(environment, wheels, without_plugins, plugin):
    before = environment.files()
    environment.install(wheels[plugin])
    try:
        choices = environment.choices()
    finally:
        environment.uninstall(plugin)
    assert environment.files() == before
    changed = {name for name, module in choices.items() if without_plugins.get(name) != module}
    assert changed == BRINGS[plugin]
    assert set(without_plugins) <= set(choices)
    for name in BRINGS[plugin]:
        if not name.endswith("_stock"):
            assert choices[name].partition(".")[0] in (plugin, CORE), name
        else:
            assert choices[name].startswith("lerobot."), name


def test_all_plugins_together_are_healthy_and_uninstall_cleanly(environment, wheels):
    before = environment.files()
    environment.install(*(wheels[plugin] for plugin in BRINGS))
    try:
        report = run(environment.folder / "bin" / "lerobot-ext", "doctor", "--json", env=clean_environment())
    finally:
        for plugin in BRINGS:
            environment.uninstall(plugin)
    assert json.loads(report)["findings"] == []
    assert environment.files() == before


def test_a_plugin_that_is_not_there_is_named_with_its_install_line(environment, wheels):
    environment.install(wheels["lerobot_robot_koch"])
    words = [
        "-m",
        "lerobot.scripts.lerobot_train",
        "--dataset.repo_id=a/b",
        "--policy.type=hierarchical_diffusion",
    ]
    try:
        ran = subprocess.run(
            [environment.python, *words], env=clean_environment(), capture_output=True, text=True, timeout=200
        )
    finally:
        environment.uninstall("lerobot_robot_koch")
    assert ran.returncode == 2
    lines = ran.stderr.splitlines()
    [ours] = [number for number, line in enumerate(lines) if "lerobot_ext:" in line]
    assert "Remedy: `pip install lerobot_policy_hierarchical_diffusion`" in lines[ours]
    assert any("invalid choice: 'hierarchical_diffusion'" in line for line in lines[ours:])


def test_the_command_works_without_plugins(environment):
    shown = run(environment.folder / "bin" / "lerobot-ext", "--help", env=clean_environment())
    assert "(broken)" not in shown
    assert "doctor" in shown
    assert " sim " not in shown


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_holds_its_own_package_and_nothing_else(wheels, name):
    with zipfile.ZipFile(wheels[name]) as wheel:
        paths = wheel.namelist()
        info = next(path.partition("/")[0] for path in paths if path.endswith(".dist-info/METADATA"))
        metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
        entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert {path.partition("/")[0] for path in paths} == {name, info}
    assert f"{name}/py.typed" in paths
    # LeRobot compares the raw name: a hyphen would hide the plugin.
    assert metadata["Name"] == name
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_payload().strip(), "no description"
    assert "[lerobot_ext.plugins]" in entry_points
    requires = metadata.get_all("Requires-Dist")
    assert any(line.startswith("lerobot") and "<0.7" in line and ">=0.6.1" in line for line in requires)
    assert name == CORE or any(
        line.startswith("lerobot_ext") or line.startswith("lerobot-ext") for line in requires
    )


@pytest.mark.parametrize("name", FOLDERS)
def test_no_wheel_names_a_path_of_the_machine_that_built_it(wheels, name):
    with zipfile.ZipFile(wheels[name]) as wheel:
        for path in wheel.namelist():
            assert str(ROOT).encode() not in wheel.read(path), path
