# SPDX-License-Identifier: Apache-2.0
"""What needs a pi0 runs where transformers and peft are installed, and only there."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("transformers", "tokenizers", "peft", "regex", "typer", "scipy")
"""What `lerobot[pi,peft]` adds to this environment; its pins are the workspace's constraints."""
PLACES = ("tests/memory", "tests/exporting", "tests/policies/test_q_chunking_vla.py")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(find_spec("transformers") is not None, reason="they ran here already")
def test_everything_about_pi0_holds_with_transformers(tmp_path: Path) -> None:
    added = tmp_path / "added"
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(added), *PACKAGES]
    installed = subprocess.run(install, cwd=ROOT, capture_output=True, text=True, check=False)
    if installed.returncode:
        assert "CI" not in os.environ, installed.stderr
        pytest.skip(f"transformers cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    words = ["-m", "pytest", "-q", "-n", "0", "-m", "pi0", *PLACES]
    path = os.pathsep.join([str(added), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "PYTEST_ADDOPTS": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = found.stdout.strip().splitlines()[-1:]
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-2000:]
    assert "passed" in last[0], last
    assert "skipped" not in last[0], last
