# SPDX-License-Identifier: Apache-2.0
"""The plugin loader: every plugin once, in any order, and no failure that escapes or is logged twice."""

import logging
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata

import pytest

from lerobot_ext import plugins
from lerobot_ext.testing.distributions import write_distribution

GROUP = "lerobot_ext.plugins"


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A fresh loader that only sees the distributions written into the returned folder."""

    def entry_points(group: str) -> list[metadata.EntryPoint]:
        found = [e for dist in metadata.distributions(path=[str(tmp_path)]) for e in dist.entry_points]
        return [entry for entry in found if entry.group == group]

    monkeypatch.setattr(plugins.metadata, "entry_points", entry_points)
    monkeypatch.setattr(plugins, "_started", False)
    monkeypatch.setattr(plugins, "_reports", {})
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def add(environment) -> Callable[..., None]:
    def write(name: str, source: str, value: str | None = None, **more) -> None:
        entries = {GROUP: {name: value or name}}
        write_distribution(environment, name, modules={name: source}, entry_points=entries, **more)

    return write


def statuses() -> dict[str, str]:
    return {entry.name: entry.status for entry in plugins.report()}


def test_report_is_empty_before_loading(environment):
    assert plugins.report() == []


def test_every_plugin_is_imported_once(add, environment):
    for name in ("plug_a", "plug_b"):
        add(name, f"import sys; sys.modules[__name__].__dict__.update(marker={name!r})")
    plugins.load_all()
    first = sys.modules["plug_a"]
    plugins.load_all()
    assert statuses() == {"plug_a": "loaded", "plug_b": "loaded"}
    assert sys.modules["plug_a"] is first
    [entry] = [e for e in plugins.report() if e.name == "plug_a"]
    assert (entry.distribution, entry.version, entry.module) == ("plug_a", "0.1.0", "plug_a")


def test_an_entry_point_may_name_a_function_which_is_called_once(add, environment):
    add("plug_fn", "calls = []\ndef register(): calls.append(1)\n", "plug_fn:register")
    plugins.load_all()
    plugins.load_all()
    assert sys.modules["plug_fn"].calls == [1]


@pytest.mark.parametrize("first", ["plug_a", "plug_b", "plug_c"])
def test_plugins_that_call_load_all_themselves_load_in_any_order(add, environment, first):
    for name in ("plug_a", "plug_b", "plug_c"):
        add(name, "from lerobot_ext.plugins import load_all\nload_all()\ndone = True\n")
    __import__(first)
    assert statuses() == dict.fromkeys(("plug_a", "plug_b", "plug_c"), "loaded")
    assert all(sys.modules[name].done for name in ("plug_a", "plug_b", "plug_c"))


def test_a_plugin_that_fails_after_calling_load_all_is_reported_failed(add, environment):
    add("plug_late", "from lerobot_ext.plugins import load_all\nload_all()\nraise ValueError('late')\n")
    with pytest.raises(ValueError, match="late"):
        __import__("plug_late")
    [entry] = plugins.report()
    assert entry.status == "failed"
    assert "plug_late" in entry.remedy


@pytest.mark.parametrize(
    ("source", "value", "cause", "remedy"),
    [
        ("import not_a_module_zz", None, "not_a_module_zz", "pip install --force-reinstall plug_bad"),
        ("from lerobot import no_such_name_zz", None, "ImportError", "lerobot>=9, installed is"),
        ("raise RuntimeError('two\\nlines')", None, "RuntimeError: two lines", "python -c 'import plug_bad'"),
        ("raise SystemExit(3)", None, "SystemExit: 3", "plug_bad"),
        ("x = (", None, "SyntaxError", "plug_bad"),
        ("", "plug_bad:missing", "missing", "update or uninstall plug_bad"),
        ("", "plug_gone_zz", "plug_gone_zz", "reinstall plug_bad"),
        ("def register(): raise OSError('no disk')", "plug_bad:register", "no disk", "plug_bad"),
        ("raise ValueError('x is already registered as y')", None, "already registered", "another plugin"),
    ],
)
def test_a_broken_plugin_is_one_clear_line_and_stops_nobody(
    add, environment, caplog, source, value, cause, remedy
):
    add("plug_bad", source, value, requires=["lerobot>=9"])
    add("plug_good", "")
    with caplog.at_level(logging.ERROR):
        plugins.load_all()
        plugins.load_all()
    assert statuses() == {"plug_bad": "failed", "plug_good": "loaded"}
    entry = plugins.report()[0]
    assert cause in entry.error
    assert remedy in entry.remedy
    [record] = caplog.records
    line = record.getMessage()
    assert "\n" not in line
    assert "plug_bad" in line
    assert entry.error in line
    assert entry.remedy in line
    assert record.exc_info is None


def test_the_same_entry_point_listed_twice_fails_once(add, environment, caplog):
    add("plug_bad", "raise RuntimeError('x')")
    add("plug_bad_copy", "", "plug_bad")
    (environment / "plug_bad_copy-0.1.0.dist-info" / "entry_points.txt").write_text(
        f"[{GROUP}]\nplug_bad = plug_bad\n"
    )
    plugins.load_all()
    assert len(caplog.records) == 1


def test_an_unreadable_environment_is_logged_not_raised(environment, monkeypatch, caplog):
    def broken(group: str) -> None:
        raise KeyError("Name")

    monkeypatch.setattr(plugins.metadata, "entry_points", broken)
    plugins.load_all()
    assert plugins.report() == []
    assert "pip check" in caplog.text


def test_the_loader_imports_neither_torch_nor_lerobot():
    code = (
        "import sys; import lerobot_ext.plugins, lerobot_ext.overrides, lerobot_ext.cli.main; "
        "print([m for m in ('torch', 'lerobot', 'draccus', 'rich', 'numpy') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


LATE = """
import sys, types
from lerobot_ext.plugins import when_imported
done = []
import json
when_imported("json", lambda: done.append("now"))
assert done == ["now"], done
when_imported("wave", lambda: done.append("late"))
assert "wave" not in sys.modules and done == ["now"], done
import wave
assert done == ["now", "late"], done
when_imported("sndhdr_missing", lambda: done.append("never"))
when_imported("colorsys", lambda: 1 / 0)
import colorsys  # the failing registration must not break it
print("ok")
"""


def test_registrations_wait_for_their_package_and_cannot_break_it():
    """In a fresh process: now if imported, later if not, and a late failure is one log line."""
    result = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "ok", result.stderr
    assert "could not register with colorsys: ZeroDivisionError" in result.stderr


WALK = """
from importlib import metadata
from lerobot_ext.plugins import when_imported
names = []
for distribution in metadata.distributions():
    when_imported("colorsys", lambda: None)
    names.append(str(distribution.locate_file("")) + distribution.metadata["Name"])
twice = sorted({name for name in names if names.count(name) > 1})
assert len(names) > 10 and not twice, twice
import colorsys
print("ok")
"""


def test_what_waits_does_not_disturb_the_walk_that_finds_plugins():
    """LeRobot imports plugins while it lists distributions; a finder put in then must not list them twice."""
    result = subprocess.run([sys.executable, "-c", WALK], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "ok", result.stderr
