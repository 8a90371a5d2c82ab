# SPDX-License-Identifier: Apache-2.0
"""`docs/doctor.md` lists exactly the kinds of findings that the code has, each with its remedy."""

import ast
import re
from pathlib import Path

import pytest
from doctor_faults import checkpoints, datasets, machines

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
FINDINGS = MANUAL[MANUAL.index("## Plugins") :]
SOURCES = [
    *(path for path in sorted((ROOT / "lerobot_ext/doctor").glob("*.py")) if path.name != "probe.py"),
    *sorted((ROOT / "robots/lerobot_robot_koch/src/lerobot_robot_koch/doctor").glob("*.py")),
]
LEVELS = {"problem", "note", "level", "Finding", "_problem"}
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)


def strings(node: ast.expr) -> list[str]:
    """The words that an expression can be: a constant, or a choice of two."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    return [*strings(node.body), *strings(node.orelse)] if isinstance(node, ast.IfExp) else []


def kinds_of(path: Path) -> set[str]:
    """First arguments of what makes findings, and what is assigned to a name `kind`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args:
            makers = [node.func.body, node.func.orelse] if isinstance(node.func, ast.IfExp) else [node.func]
            names = {maker.id for maker in makers if isinstance(maker, ast.Name)}
            if names and names <= LEVELS:
                words = strings(node.args[1] if names == {"Finding"} and len(node.args) > 1 else node.args[0])
                found |= {word for word in words if re.fullmatch(r"[a-z0-9_]+", word)}
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["kind"]:
            found |= set(strings(node.value))
    return found


CODE = set().union(*(kinds_of(path) for path in SOURCES))


def test_the_manual_lists_the_kinds_of_the_code():
    listed = [kind for kind, _, _ in ROW.findall(FINDINGS)]
    assert sorted(set(listed)) == sorted(CODE)


def test_each_kind_has_a_meaning_and_a_remedy():
    for kind, meaning, remedy in ROW.findall(FINDINGS):
        assert len(meaning) > 10, kind
        assert len(remedy) > 5, kind


@pytest.mark.parametrize("name", ["migrate", "rename_stats", "recompute_stats", "repair"])
def test_each_fix_is_described(name):
    assert f"`{name}`" in MANUAL


def test_every_kind_outside_plugins_and_bus_has_a_prepared_fault():
    prepared = {
        fault.kind
        for fault in (*checkpoints.FAULTS, *machines.FAULTS, *datasets.FAULTS, *datasets.FIT_FAULTS)
    }
    elsewhere = kinds_of(ROOT / "lerobot_ext/doctor/plugins.py")
    elsewhere |= {kind for path in SOURCES if "koch" in str(path) for kind in kinds_of(path)}
    # A child that dies, and a library that is absent: with the other tests of the children.
    rest = {"video_libraries", "gpu_probe", "pyserial"}
    assert CODE - elsewhere - prepared <= rest
