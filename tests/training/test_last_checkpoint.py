# SPDX-License-Identifier: Apache-2.0
"""`checkpoints/last` on disks without symbolic links, emulated."""

import errno
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from lerobot.common.train_utils import update_last_checkpoint
from safetensors.torch import load_file
from stock_loop import LOOP, POLICY, train, write_dataset

from lerobot_ext.training import last_checkpoint
from lerobot_ext.training.last_checkpoint import NEW, OLD, POINTER, StaleError, point_to


@pytest.fixture
def no_symlinks(monkeypatch):
    """As Windows without developer mode answers."""

    def refuse(self, target, target_is_directory=False):
        error = OSError(errno.EPERM, "A required privilege is not held by the client")
        error.winerror = 1314
        raise error

    monkeypatch.setattr(Path, "symlink_to", refuse)


@pytest.fixture
def no_hard_links(monkeypatch):
    """As exFAT answers."""

    def refuse(source, target, **_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture
def the_trainers_own():
    """What the training script calls once ours is in place."""
    from lerobot.scripts import lerobot_train

    last_checkpoint.install(lerobot_train)
    yield lerobot_train.update_last_checkpoint
    last_checkpoint.uninstall()


def checkpoint(root, number, text):
    folder = root / number / "pretrained_model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    (root / number / "training_state").mkdir()
    return root / number


def read(root):
    return (root / "last/pretrained_model/model.safetensors").read_text()


def test_with_links_it_is_lerobots_own_link(tmp_path):
    for number in ("000001", "000002"):
        point_to(checkpoint(tmp_path, number, number), update_last_checkpoint)
        assert os.readlink(tmp_path / "last") == number


@pytest.mark.parametrize("hard", [True, False], ids=["hard_links", "copy"])
def test_without_links_it_is_a_folder_that_follows(tmp_path, no_symlinks, hard, request):
    if not hard:
        request.getfixturevalue("no_hard_links")
    for number in ("000001", "000002", "000003"):
        made = checkpoint(tmp_path, number, number)
        point_to(made, update_last_checkpoint)
        assert read(tmp_path) == number
        assert (tmp_path / "last" / POINTER).read_text() == f"{number}\n"
        assert (tmp_path / "last/training_state").is_dir()
        same = os.path.samefile(
            made / "pretrained_model/model.safetensors", tmp_path / "last/pretrained_model/model.safetensors"
        )
        assert same == hard
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002", "000003", "last"]


@pytest.mark.parametrize("works", [True, False])
def test_on_windows_a_junction_is_tried_first(tmp_path, no_symlinks, monkeypatch, works):
    made = checkpoint(tmp_path, "000001", "one")

    def create(target, place):
        if not works:
            raise OSError(errno.EINVAL, "a network share knows no junctions")
        assert Path(target) == made.resolve()
        os.symlink(target, place)  # stands for the junction

    monkeypatch.setitem(sys.modules, "_winapi", SimpleNamespace(CreateJunction=create))
    monkeypatch.setattr(last_checkpoint, "sys", SimpleNamespace(platform="win32"))
    point_to(made, update_last_checkpoint)
    assert read(tmp_path) == "one"
    assert (tmp_path / "last" / POINTER).exists() == (not works)


def test_a_junction_is_taken_away_and_not_what_it_points_to(tmp_path, monkeypatch):
    made = checkpoint(tmp_path, "000001", "one")
    (tmp_path / "last").mkdir()  # stands for the junction: removed alone, or not at all if it held files
    monkeypatch.setattr(os.path, "isjunction", lambda path: Path(path).name == "last")
    point_to(made, update_last_checkpoint)
    assert os.readlink(tmp_path / "last") == "000001"
    assert read(tmp_path) == "one"


def test_a_run_that_moved_from_a_disk_with_links_goes_on(tmp_path, request):
    point_to(checkpoint(tmp_path, "000001", "one"), update_last_checkpoint)
    request.getfixturevalue("no_symlinks")
    point_to(checkpoint(tmp_path, "000002", "two"), update_last_checkpoint)
    assert read(tmp_path) == "two"


@pytest.mark.parametrize("moment", [OLD, NEW])
def test_a_kill_while_it_is_replaced_is_mended(tmp_path, no_symlinks, moment):
    point_to(checkpoint(tmp_path, "000001", "one"), update_last_checkpoint)
    if moment == OLD:
        (tmp_path / "last").rename(tmp_path / OLD)
    (tmp_path / NEW).mkdir()
    point_to(checkpoint(tmp_path, "000002", "two"), update_last_checkpoint)
    assert read(tmp_path) == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002", "last"]


def test_a_folder_of_somebody_elses_is_kept_and_the_training_goes_on(
    tmp_path, no_symlinks, the_trainers_own, caplog
):
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "thesis.pdf").write_text("years")
    made = checkpoint(tmp_path, "000001", "one")
    with pytest.raises(StaleError, match="somebody else's"):
        point_to(made, update_last_checkpoint)
    the_trainers_own(made)
    assert "the training goes on. The newest is" in caplog.text
    assert (tmp_path / "last" / "thesis.pdf").read_text() == "years"


def test_a_folder_in_use_is_kept_and_the_training_goes_on(
    tmp_path, no_symlinks, the_trainers_own, monkeypatch, caplog
):
    point_to(checkpoint(tmp_path, "000001", "one"), update_last_checkpoint)

    def in_use(self, target):
        raise PermissionError(errno.EACCES, "The process cannot access the file")

    monkeypatch.setattr(Path, "rename", in_use)
    the_trainers_own(checkpoint(tmp_path, "000002", "two"))
    assert "points to an older checkpoint" in caplog.text
    assert read(tmp_path) == "one"


def test_a_full_disk_is_an_error_like_any_other(tmp_path, no_symlinks, monkeypatch):
    def full(source, target, **_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        point_to(checkpoint(tmp_path, "000001", "one"), update_last_checkpoint)


def test_stock_training_saves_and_resumes_by_last_without_links(tmp_path, monkeypatch, no_symlinks):
    from lerobot.scripts import lerobot_train

    dataset = write_dataset(tmp_path / "data")
    out = tmp_path / "out"
    words = [*dataset, *POLICY, *LOOP, f"--output_dir={out}", "--save_freq=1", "--steps=2"]
    last_checkpoint.uninstall()  # a test before may have loaded all plugins
    with pytest.raises(OSError, match="privilege"):  # what stock does
        train(monkeypatch, *words)
    try:
        last_checkpoint.install(lerobot_train)
        words[-3] = f"--output_dir={tmp_path / 'ours'}"
        train(monkeypatch, *words)
        last = tmp_path / "ours/checkpoints/last"
        path = last / "pretrained_model/train_config.json"
        train(monkeypatch, f"--config_path={path}", "--resume=true", "--steps=3")
    finally:
        last_checkpoint.uninstall()
    assert json.loads((last / "training_state/training_step.json").read_text())["step"] == 3
    one, other = (
        load_file(place / "pretrained_model/model.safetensors") for place in (last, last.with_name("000003"))
    )
    assert all((one[name] == other[name]).all() for name in one)
    assert lerobot_train.update_last_checkpoint is update_last_checkpoint
