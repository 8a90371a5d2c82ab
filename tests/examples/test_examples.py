# SPDX-License-Identifier: Apache-2.0
"""Each example runs in a tiny size and ends with the line that its docstring promises."""

import ast
import re
import sys
from pathlib import Path

import pytest
import warm_start
from stock_cli import environment

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LAPO_NETWORK = [
    "--policy.hidden_dim=16",
    "--policy.obs_feature_dim=16",
    "--policy.image_feature_dim=16",
    "--policy.image_size=[32,32]",
]
SIZES = {
    "custom_processor_step": [],
    "hierarchical_with_budget": ["--steps", "2", "--episodes", "2", "--budgets", "50"],
    "lapo_from_hdf5": ["--frames", "120", "--steps", "2", "--", *LAPO_NETWORK],
    "offline_eval": ["--steps", "2", "--episodes", "5"],
    "q_chunking_online": ["--steps", "2", "--episodes", "3", "--online_steps", "60", "--width", "16"],
    "record_virtual_arm": ["--episodes", "1", "--seconds", "3"],
    "third_party_plugin": ["--steps", "50"],
    "two_processes": ["--steps", "2", "--episodes", "2", "--batch_size", "2"],
}


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def promised(path: Path) -> re.Pattern[str]:
    """The last line as the docstring tells it; `…` stands for what differs."""
    found = re.search(r"last line is `([^`]+)`", docstring(path).replace("\n", " "))
    assert found, path.name
    return re.compile(".+".join(re.escape(part) for part in found[1].split("…")) + ".*")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SIZES)
def test_an_example_ends_as_it_says(name, tmp_path):
    path = ROOT / "examples" / f"{name}.py"
    done = warm_start.run(
        [sys.executable, path, *SIZES[name]], env=environment(tmp_path), cwd=tmp_path, timeout=880
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert promised(path).fullmatch(done.stdout.strip().splitlines()[-1]), done.stdout[-500:]


def test_every_example_is_run():
    elsewhere = {"koch_end_effector"}  # test_koch_end_effector.py
    assert {path.stem for path in EXAMPLES} == set(SIZES) | elsewhere


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_how_to_run_it_and_what_comes(path):
    text = docstring(path)
    assert f"uv run python examples/{path.name}" in text
    assert "What you will see:" in text
    assert promised(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "last line is" in "\n".join(lines[:14]), "it is told in the first lines"
