# SPDX-License-Identifier: Apache-2.0
"""Files that cannot be converted: a clear line each, and nothing written."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed_hdf5 import MALFORMED, malformed, scribbled

from lerobot_ext.cli.main import main
from lerobot_ext.importing.survey import survey
from lerobot_ext.installing import install_command


def test_there_are_forty_ways_to_break_a_file():
    assert len(MALFORMED) >= 40


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_and_nothing_is_written(name, samples, tmp_path, capsys):
    source = malformed(samples["lapo"], name, tmp_path / "log.hdf5")
    before = sorted(tmp_path.rglob("*"))

    words = f"convert hdf5 {source} --repo_id me/log --root {tmp_path}/out --fps 30 --layout lapo"
    code = main(words.split())

    said = "".join(capsys.readouterr())
    assert code in (1, 2)
    assert "log.hdf5" in said
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "says"),
    {
        "misspelt camera": "`observations/left_imgae`",
        "external link": "external link to elsewhere.hdf5",
        "unknown compression": "filter 32123",
        "short actions": "has 119 rows, the others have 120",
        "NaN in actions": "1 rows (7)",
        "terminals that never fire": "never fires in 120 frames",
        "channels first": "`channels: first`",
        "float pictures": "pictures must be uint8",
        "joints of another width": "joints are 16 wide, actions 7",
        "never written pictures": "never written",
        "half a file": "cut short",
        "text file": "no HDF5 file",
    }.items(),
)
def test_the_line_names_what_is_wrong(name, says, samples, tmp_path):
    source = malformed(samples["lapo"], name, tmp_path / "log.hdf5")

    problems = survey([source], "lapo").problems

    assert any(says in str(problem) for problem in problems)


def test_every_problem_is_named_at_once(samples, tmp_path):
    source = malformed(samples["lapo"], "NaN in actions", tmp_path / "log.hdf5")
    for name in ("float pictures", "no rewards", "terminals that are no flags"):
        MALFORMED[name](source)

    codes = {problem.code for problem in survey([source], "lapo").problems}

    assert {"missing-key", "image-dtype"} <= codes


def test_a_finding_that_may_be_meant_can_be_allowed(samples, tmp_path, capsys):
    source = malformed(samples["lapo"], "terminals that never fire", tmp_path / "log.hdf5")

    refused = main(["convert", "hdf5", str(source), "--validate"])
    allowed = main(["convert", "hdf5", str(source), "--validate", "--allow", "terminals"])

    assert (refused, allowed) == (1, 0)
    assert "1 episodes, 120 frames" in capsys.readouterr().out


def test_a_missing_h5py_is_one_line(monkeypatch, samples, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr("lerobot_ext.missing.find_spec", lambda name: None)

    code = main(["convert", "hdf5", str(samples["lapo"]), "--validate"])

    assert code == 2
    assert f"remedy: `{install_command('lerobot_ext[hdf5]')}`" in capsys.readouterr().err


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), layout=st.sampled_from(["lapo", "robomimic", "aloha"]))
def test_scribbled_files_never_break_the_survey(
    seed: int, layout: str, samples: dict[str, Path], tmp_path: Path
):
    source = tmp_path / "scribbled.hdf5"
    source.write_bytes(scribbled(samples[layout].read_bytes(), seed))

    found = survey([source])

    assert found.problems or found.episodes
    assert all(str(source) in problem.where and problem.text for problem in found.problems)
