# SPDX-License-Identifier: Apache-2.0
"""The contract of a distribution: toys that break one rule each, from wheels written on the spot."""

from importlib import metadata

import pytest
from folder_environment import FolderEnvironment

from lerobot_ext.cli.command import CommandError
from lerobot_ext.testing import DiscoveryContract
from lerobot_ext.testing.contract import run_contract
from lerobot_ext.testing.environments import Wheel, repack_wheel, write_wheel

RULES = [rule.name.removeprefix("distribution/") for rule in DiscoveryContract.rules()]
CONFIG = """
from dataclasses import dataclass
from lerobot.configs import PreTrainedConfig

@PreTrainedConfig.register_subclass("wheeled")
@dataclass
class WheeledConfig(PreTrainedConfig):
    pass
"""
METADATA = {
    "Metadata-Version": "2.4",
    "Name": "lerobot_policy_wheeled",
    "Version": "0.1.0",
    "Summary": "A toy.",
    "License-Expression": "Apache-2.0",
    "Requires-Python": ">=3.12",
    "Requires-Dist": "lerobot>=0.6.1,<0.7",
}
PACKAGE = "lerobot_policy_wheeled"
LOADS_TWICE = {
    "entry_points": f"[lerobot_ext.plugins]\nwheeled = {PACKAGE}:register\n",
    "init": "from . import configuration_wheeled\n"
    "count = []\n"
    "def register():\n"
    "    if count: raise ValueError('registered already')\n"
    "    count.append(1)\n"
    "register()\n",
}


def wheel(out, init="from . import configuration_wheeled\n", entry_points="", extra=None, **changed):
    """A wheel of the toy, with other metadata or files."""
    says = {**METADATA, **{key.replace("_", "-"): value for key, value in changed.items()}}
    lines = "".join(f"{key}: {value}\n" for key, value in says.items() if value is not None)
    name, info = says["Name"] or "", f"{(says['Name'] or '').replace('-', '_')}-0.1.0.dist-info"
    files = {
        f"{PACKAGE}/__init__.py": init,
        f"{PACKAGE}/configuration_wheeled.py": CONFIG,
        f"{PACKAGE}/modeling_wheeled.py": "import torch\n",
        f"{info}/METADATA": lines + "\n",
        **({f"{info}/entry_points.txt": entry_points} if entry_points else {}),
        **(extra or {}),
    }
    return write_wheel(out, name, "0.1.0", {path: text.encode() for path, text in files.items()})


LOADED = {
    "Requires_Dist": "lerobot>=0.6.1,<0.7\nRequires-Dist: lerobot_ext",
    "entry_points": f"[lerobot_ext.plugins]\nwheeled = {PACKAGE}\n",
}
# What is changed about the toy so that one rule is broken.
BROKEN = {
    "wheel-builds": {"Name": None},
    "name-is-discovered": {"Name": "lerobot-policy-wheeled"},
    "wheel-holds-only-its-package": {"extra": {"tests/__init__.py": ""}},
    "metadata-is-complete": {"License_Expression": None},
    "lerobot-is-required": {"Requires_Dist": "lerobot>=0.5,<0.6"},
    "lerobot-is-bounded": {"Requires_Dist": "lerobot>=0.6"},
    "no-other-plugin-is-required": {"Requires_Dist": "lerobot>=0.6.1,<0.7\nRequires-Dist: lerobot_robot_x"},
    "loader-is-declared": {"Requires_Dist": "lerobot>=0.6.1,<0.7\nRequires-Dist: lerobot-ext"},
    "discovery-imports-it": {"init": "import lerobot.no_such_module\n"},
    "it-registers-what-it-promises": {"init": ""},
    "import-is-light": {"init": "from . import configuration_wheeled, modeling_wheeled\n"},
    "registering-twice-is-harmless": LOADS_TWICE,
    "uninstalling-leaves-nothing": {
        "init": "from . import configuration_wheeled\n"
        "from pathlib import Path\n"
        "(Path(__file__).parent / 'cache.json').write_text('{}')\n"
    },
}


class Wheeled(DiscoveryContract):
    registers = frozenset({"policy wheeled"})
    broken = {}  # noqa: RUF012

    def make_wheel(self, out):
        return wheel(out, **self.broken)

    def make_environment(self, folder, without):
        return FolderEnvironment(folder, without)


def judged(contract):
    outcomes = {o.rule.name.removeprefix("distribution/"): o for o in run_contract(contract)}
    return outcomes, {name: o.found + o.trace for name, o in outcomes.items() if o.status == "failed"}


def test_the_toy_keeps_every_rule():
    class Healthy(Wheeled):
        broken = LOADED

    outcomes, failed = judged(Healthy)
    assert failed == {}
    skipped = [name for name, o in outcomes.items() if o.status != "passed"]
    assert skipped == ["order-of-imports-is-free"]  # needs an interpreter of its own; see the next test


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "found"),
    [
        ("from . import configuration_wheeled\n", ""),
        (
            "import sys\nsys.modules['lerobot.configs']\nfrom . import configuration_wheeled\n",
            "before LeRobot: KeyError: 'lerobot.configs'",
        ),
    ],
    ids=["healthy", "broken"],
)
def test_the_order_of_imports_is_tried_in_an_interpreter_of_its_own(init, found):
    class Cold(DiscoveryContract):
        registers = frozenset({"policy wheeled"})

        def make_wheel(self, out):
            return wheel(out, init=init)

    _, failed = judged(Cold)
    assert failed == ({"order-of-imports-is-free": found} if found else {})


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "order-of-imports-is-free"])
def test_a_broken_distribution_is_caught_by_its_rule_alone(rule):
    class Broken(Wheeled):
        broken = BROKEN[rule]

    _, failed = judged(Broken)
    assert set(failed) == {rule}, failed


def test_an_installed_distribution_is_packed_as_it_came(tmp_path):
    wheel = Wheel(repack_wheel(metadata.distribution("draccus"), tmp_path))
    assert wheel.name == "draccus"
    assert "draccus" in wheel.packages
    assert not [path for path in wheel.files if "INSTALLER" in path or "__pycache__" in path]


def test_a_choice_is_an_installed_distribution():
    contract = DiscoveryContract.for_choice("lerobot_policy_hierarchical_diffusion", {})
    assert contract.distribution == "lerobot_policy_hierarchical_diffusion"
    assert contract.needs == ("lerobot-ext",)
    with pytest.raises(CommandError, match="no distribution is installed as 'lerobot_policy_none'"):
        DiscoveryContract.for_choice("lerobot_policy_none", {})


def test_every_rule_has_a_broken_distribution():
    assert {*BROKEN, "order-of-imports-is-free"} == set(RULES)


def test_other_plugins_are_not_there_while_one_is_tried():
    class Watched(Wheeled):
        left_out = ()

        def make_environment(self, folder, without):
            type(self).left_out = without
            return super().make_environment(folder, without)

    outcome = Watched().judge("test_it_registers_what_it_promises")
    assert outcome.status == "passed", outcome
    assert {"lerobot_policy_hierarchical_diffusion", "lerobot_env_koch", PACKAGE} <= set(Watched.left_out)
