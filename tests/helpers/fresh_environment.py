# SPDX-License-Identifier: Apache-2.0
"""Fresh virtual environments that hold our built wheels and nothing else of ours.

What the wheels depend on comes from the environment of the tests, through a folder of links to all of its
site-packages except our own distributions, which are installed editable there.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = "lerobot_ext"
FOLDERS = {
    CORE: ".",
    "lerobot_env_koch": "robots/lerobot_env_koch",
    "lerobot_robot_koch": "robots/lerobot_robot_koch",
    "lerobot_policy_hierarchical_diffusion": "policies/lerobot_policy_hierarchical_diffusion",
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


def build_wheels(out: Path) -> dict[str, Path]:
    """Build one wheel of each distribution from its folder, into `out`."""
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
