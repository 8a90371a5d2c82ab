# SPDX-License-Identifier: Apache-2.0
"""What the doctor concludes from metadata and from what happened at import, without importing anything."""

import inspect
import sys
from importlib import metadata

import pytest

from lerobot_ext.doctor import probe as probing
from lerobot_ext.doctor.plugins import conclude
from lerobot_ext.doctor.probe import Probe
from lerobot_ext.doctor.survey import PREFIXES, PluginDistribution, survey
from lerobot_ext.testing.check_run import targets_of
from lerobot_ext.testing.distributions import write_distribution

OURS = {"lerobot_ext.plugins": {"x": "x"}}


def surveyed(folder) -> list[PluginDistribution]:
    return survey(metadata.distributions(path=[str(folder)]))


def conclusion(folder, **probed):
    return conclude(surveyed(folder), Probe(**{"loader_started": True, **probed}))


def only(examination):
    [finding] = examination.findings
    assert finding.remedy
    return finding


def test_lerobot_still_looks_for_these_prefixes_by_raw_name():
    from lerobot.utils import import_utils

    source = inspect.getsource(import_utils.register_third_party_plugins)
    assert all(f'"{prefix}"' in source for prefix in PREFIXES)
    assert 'metadata.get("Name")' in source
    assert source.count('"lerobot_') == len(PREFIXES)


def test_a_healthy_plugin_is_no_finding(tmp_path):
    write_distribution(tmp_path, "lerobot_robot_x", requires=["lerobot>=0.6.1,<0.7", "numpy"])
    found = conclusion(tmp_path, registered={"lerobot_robot_x": ["robot x"]})
    assert found.ok
    assert found.findings == []
    [row] = found.rows
    assert (row.loaded_by, row.registers, row.status) == ("LeRobot", ["robot x"], "ok")


@pytest.mark.parametrize("name", ["lerobot-policy-x", "lerobot.policy.x", "Lerobot_policy_x"])
def test_a_hyphenated_name_is_a_problem(tmp_path, name):
    write_distribution(tmp_path, name)
    found = conclusion(tmp_path)
    finding = only(found)
    assert (finding.level, finding.kind, finding.subject) == ("problem", "hyphen", name)
    assert 'name = "lerobot_policy_x"' in finding.remedy
    assert "discover_packages_path=lerobot_policy_x" in finding.remedy
    assert found.rows[0].loaded_by == "nobody"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("lerobot_robots_x", "`lerobot_robot_`"),
        ("lerobot-teleop-x", "`lerobot_teleoperator_`"),
        ("lerobot_processor_x", "entry point"),
    ],
)
def test_a_wrong_prefix_is_a_problem(tmp_path, name, advice):
    write_distribution(tmp_path, name)
    finding = only(conclusion(tmp_path))
    assert finding.kind == "prefix"
    assert advice in finding.remedy


@pytest.mark.parametrize("name", ["lerobot_processor_x", "my-anything", "lerobot-policy-x"])
def test_any_name_is_fine_with_our_entry_point(tmp_path, name):
    write_distribution(tmp_path, name, entry_points=OURS)
    found = conclusion(tmp_path)
    assert found.ok
    assert found.rows[0].loaded_by == "lerobot_ext"


def test_but_something_must_start_our_loader(tmp_path):
    write_distribution(tmp_path, "my_anything", entry_points=OURS)
    finding = only(conclusion(tmp_path, loader_started=False))
    assert (finding.level, finding.kind) == ("problem", "loader")


def test_other_distributions_are_none_of_our_business(tmp_path):
    for name in ("numpy", "lerobot", "lerobot_dataset_tools", "gym_lerobot_env_x"):
        write_distribution(tmp_path, name)
    assert surveyed(tmp_path) == []


def test_an_import_error_names_cause_place_and_remedy(tmp_path):
    write_distribution(tmp_path, "lerobot_robot_x")
    failure = {"error": "ModuleNotFoundError: No module named 'zmq'", "where": "/x/y.py:3", "missing": "zmq"}
    finding = only(conclusion(tmp_path, failures={"lerobot_robot_x": failure}))
    assert finding.kind == "import"
    assert "No module named 'zmq' (at /x/y.py:3)" in finding.message
    assert "'zmq'" in finding.remedy


def test_a_package_named_differently_is_told_apart_from_a_missing_one(tmp_path):
    info = write_distribution(tmp_path, "lerobot_robot_x")
    (info / "top_level.txt").write_text("my_robot\n")
    failure = {"error": "ModuleNotFoundError: …", "where": "", "missing": "lerobot_robot_x"}
    finding = only(conclusion(tmp_path, failures={"lerobot_robot_x": failure}))
    assert finding.kind == "package_name"
    assert "holds 'my_robot'" in finding.message
    assert "discover_packages_path=my_robot" in finding.remedy


def test_a_plugin_for_another_lerobot(tmp_path):
    write_distribution(tmp_path, "lerobot_robot_x", requires=["lerobot[dynamixel]>=9"])
    failure = {"error": "ImportError: cannot import name 'y'", "where": "", "missing": "lerobot.robots"}
    found = conclusion(tmp_path, failures={"lerobot_robot_x": failure})
    assert [f.kind for f in found.findings] == ["window", "import"]
    assert "it asks for lerobot>=9, installed is" in found.findings[0].message
    assert all("lerobot>=9" in f.remedy for f in found.findings)


def test_unmet_requirements_are_named_and_extras_left_alone(tmp_path):
    requires = [
        "numpy>=999",
        "no-such-thing-zz",
        'other-zz; extra == "dev"',
        'third-zz; python_version < "3"',
    ]
    write_distribution(tmp_path, "lerobot_robot_x", requires=requires)
    found = conclusion(tmp_path)
    assert [f.kind for f in found.findings] == ["requirement", "requirement"]
    assert [f.remedy for f in found.findings] == [
        "`pip install 'numpy>=999'`",
        "`pip install 'no-such-thing-zz'`",
    ]


@pytest.mark.parametrize(
    "error",
    [
        "ValueError: Cannot register <class 'lerobot_robot_b.Arm'> as arm because "
        "<class 'lerobot_robot_a.Arm'> is already registered as arm",
        "ValueError: Processor step 'arm' is already registered. Use a different name.",
    ],
)
def test_a_name_clash_names_both(tmp_path, error):
    write_distribution(tmp_path, "lerobot_robot_a")
    write_distribution(tmp_path, "lerobot_robot_b")
    failure = {"error": error, "where": "", "missing": ""}
    finding = only(conclusion(tmp_path, failures={"lerobot_robot_b": failure}))
    assert (finding.kind, finding.subject) == ("clash", "lerobot_robot_b")
    assert ("lerobot_robot_a" if "<class" in error else "another plugin") in finding.message
    assert "arm" in finding.message


def test_a_clash_with_lerobot_itself(tmp_path):
    write_distribution(tmp_path, "lerobot_policy_b")
    classes = "<class 'lerobot_policy_b.C'> as act because <class 'lerobot.policies.act.C'>"
    error = f"Cannot register {classes} is already registered"
    failure = {"error": error, "where": "", "missing": ""}
    finding = only(conclusion(tmp_path, failures={"lerobot_policy_b": failure}))
    assert "LeRobot has a part of that name itself" in finding.remedy


def test_a_broken_entry_point_of_ours(tmp_path):
    write_distribution(tmp_path, "my_dist", entry_points=OURS)
    report = {
        "name": "x",
        "distribution": "my_dist",
        "module": "x",
        "status": "failed",
        "error": "E: e",
        "remedy": "r",
    }
    finding = only(conclusion(tmp_path, reports=[report]))
    assert (finding.kind, finding.remedy) == ("entry_point", "r")
    assert "`x = x` fails: E: e" in finding.message


def test_a_broken_command_and_a_command_of_two(tmp_path):
    entry = {"lerobot_ext.commands": {"sim": "x:Y"}}
    write_distribution(tmp_path, "dist_a", entry_points=entry)
    write_distribution(tmp_path, "lerobot_ext", entry_points=entry)
    found = conclusion(tmp_path, commands={"sim": {"error": "command 'sim' is broken", "remedy": "r"}})
    assert [f.kind for f in found.findings] == ["command", "command_clash"]
    assert found.findings[1].subject == "dist_a"
    assert "lerobot_ext's runs" in found.findings[1].message


def test_a_lost_override(tmp_path):
    write_distribution(tmp_path, "lerobot_robot_x")
    override = {"name": "RobotConfig arm", "package": "lerobot_robot_x", "problem": "arm is z; uninstall z"}
    finding = only(conclusion(tmp_path, overrides=[override]))
    assert (finding.kind, finding.subject, finding.remedy) == (
        "override",
        "lerobot_robot_x",
        "uninstall z",
    )


def test_left_over_metadata_is_a_note_that_does_not_fail(tmp_path):
    write_distribution(tmp_path, "lerobot_robot_x")
    write_distribution(tmp_path, "lerobot_robot_x", version="0.2")
    found = conclusion(tmp_path)
    assert only(found).kind == "duplicate"
    assert found.ok
    assert found.rows[0].status == "ok"


def test_lerobot_that_does_not_import_comes_first(tmp_path):
    write_distribution(tmp_path, "lerobot_robot_x", requires=["no-such-thing-zz"])
    found = conclusion(tmp_path, lerobot_error="ImportError: libtorch")
    assert found.findings[0].kind == "lerobot"
    assert not found.ok


def test_a_check_that_came_to_no_end_is_told_as_that(tmp_path, monkeypatch):
    write_distribution(tmp_path, "lerobot_robot_x")
    found = conclusion(tmp_path, loader_started=False, ended="did not finish within 180 s")
    finding = only(found)
    assert "did not finish within 180 s" in finding.message
    assert "less busy" in finding.remedy

    # and `lerobot-ext check` does not say that the plugin registers nothing
    monkeypatch.setattr("lerobot_ext.doctor.survey.survey", lambda: surveyed(tmp_path))
    monkeypatch.setattr("lerobot_ext.doctor.plugins.examine", lambda: found)
    [outcome] = targets_of("lerobot_robot_x").problems
    assert (outcome.status, outcome.found) == ("failed", finding.message)


def test_a_child_that_takes_too_long_before_any_plugin_blames_none(monkeypatch):
    real = probing.subprocess.run

    def run(command, **options):
        return real([sys.executable, "-c", "import time; time.sleep(60)"], **options)

    monkeypatch.setattr(probing.subprocess, "run", run)
    found = probing.run_probe(["fine"], timeout_s=1.0)
    assert (found.ended, found.lerobot_error, found.failures) == ("did not finish within 1 s", "", {})


def test_a_plugin_that_kills_or_hangs_the_child_is_named(monkeypatch):
    """The child is replaced by one that dies at two of three plugins."""
    script = (
        "import json, os, sys, time\n"
        "notes, names = sys.argv[1], sys.argv[2:]\n"
        "for name in names:\n"
        "    print(json.dumps({'event': 'begin', 'name': name}), file=open(notes, 'a'))\n"
        "    if name == 'kills': sys.stderr.write('segfault\\n'); os._exit(7)\n"
        "    if name == 'hangs': time.sleep(60)\n"
        "    print(json.dumps({'event': 'imported', 'name': name}), file=open(notes, 'a'))\n"
        "print(json.dumps({'event': 'done'}), file=open(notes, 'a'))\n"
    )
    real = probing.subprocess.run

    def run(command, **options):
        return real([sys.executable, "-c", script, *command[3:]], **options)

    monkeypatch.setattr(probing.subprocess, "run", run)
    found = probing.run_probe(["fine", "kills", "hangs"], timeout_s=2.0)
    assert found.lerobot_error == ""
    assert found.failures["kills"]["error"] == "its import ended the process with status 7 (segfault)"
    assert found.failures["hangs"]["error"] == "its import did not finish within 2 s"
    assert "fine" not in found.failures
