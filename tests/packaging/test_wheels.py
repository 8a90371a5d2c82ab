# SPDX-License-Identifier: Apache-2.0
"""The built wheels: each plugin installs alone, LeRobot's own discovery finds it, uninstalling leaves
nothing behind.

`fresh_environment` says what the environments of these tests are.
"""

import json
import subprocess
import zipfile
from email import message_from_string

import pytest
from fresh_environment import CORE, FOLDERS, ROOT, Environment, clean_environment, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("wheels")]

# What each plugin alone adds to, or replaces in, LeRobot's registries.
BRINGS = {
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
    findings = json.loads(report)["findings"]
    assert [entry for entry in findings if entry["level"] != "note"] == []
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
