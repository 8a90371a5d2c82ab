# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a checkpoint's or a dataset's JSON: the doctor answers, and never fails itself."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from doctor_faults import checkpoints, datasets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lerobot_ext.doctor import checkpoint, command
from lerobot_ext.doctor.child import Answer

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.integers(-1, 2), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
ANSWER = {
    "type_known": True,
    "config_error": "",
    "unknown_steps": {},
    "not_finite": [],
    "build_error": "",
    "build_needs": "",
    "build_excuse": "",
    "compared": "",
    "missing": [],
    "wrong_shape": [],
    "extra": [],
    "remaps": False,
}


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, below in inner for path in paths(below, (*here, key)))]


def replaced(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], junk)
    return copy


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    checkpoints.build(folder / "checkpoint")
    datasets.build(folder)
    return folder


def copied(source: Path, target: Path) -> None:
    """JSON files are copied, everything else is linked: the weights are large and many copies are made."""
    for path in (path for path in source.rglob("*") if path.is_file()):
        new = target / path.relative_to(source)
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, new) if path.suffix == ".json" else new.symlink_to(path)


def spoiled(folder: Path, file: str, data: st.DataObject) -> None:
    whole = json.loads((folder / file).read_text())
    path = data.draw(st.sampled_from(paths(whole)))
    (folder / file).write_text(json.dumps(replaced(whole, path, data.draw(JUNK))))


quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("file", ["config.json", checkpoints.PRE, checkpoints.POST])
@given(data=st.data())
@quick
def test_a_checkpoint_with_junk_in_its_json(originals, file, data):
    with TemporaryDirectory() as folder:
        copied(originals / "checkpoint", Path(folder))
        spoiled(Path(folder), file, data)
        section = checkpoint.examine(Path(folder), ask=lambda path: Answer(ANSWER))
    assert all(finding.remedy for finding in section.findings)


@pytest.mark.parametrize("file", [datasets.INFO, datasets.STATS])
@given(data=st.data())
@quick
def test_a_dataset_with_junk_in_its_json(originals, file, data):
    with TemporaryDirectory() as folder:
        copied(originals / "joints", Path(folder))
        spoiled(Path(folder), file, data)
        [section] = datasets.look(Path(folder))
    assert all(finding.remedy for finding in section.findings)


def test_names_from_a_file_cannot_steer_the_terminal():
    assert command.printable("a\x1b[2Jb\r\nc é") == "a?[2Jb??c é"


def test_a_name_that_no_package_has_goes_into_no_command(tmp_path, originals):
    folder = tmp_path / "checkpoint"
    copied(originals / "checkpoint", folder)
    checkpoints.config(type="x; rm -rf ~")(folder)
    told = Answer(ANSWER | {"type_known": False})
    [finding] = checkpoint.examine(folder, ask=lambda path: told).findings
    assert finding.kind == "policy_type"
    assert "rm -rf" not in finding.remedy
