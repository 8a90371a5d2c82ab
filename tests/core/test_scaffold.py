# SPDX-License-Identifier: Apache-2.0
"""What `lerobot-ext new` writes, and what it leaves alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lerobot_ext.cli.command import CommandError
from lerobot_ext.cli.main import main
from lerobot_ext.scaffold.names import KINDS, LONGEST, make_names
from lerobot_ext.scaffold.render import Texts, project_files, write_project

RUFF = Path(sys.executable).parent / "ruff"


def new(*words: str) -> int:
    return main(["new", *words])


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_is_written_and_the_next_commands_are_told(kind, tmp_path, capsys):
    assert new(kind, "bright-idea", "--dir", str(tmp_path)) == 0
    said = capsys.readouterr().out
    [folder] = tmp_path.iterdir()
    assert "'bright-idea' is written 'bright_idea'" in said
    assert folder.name.endswith("bright_idea")
    assert f"cd {folder}" in said
    assert "uv run pytest" in said
    for file in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        ".gitignore",
        ".python-version",
        ".pre-commit-config.yaml",
        ".github/workflows/ci.yml",
        "tests/test_contract.py",
        "tests/test_discovery.py",
        f"src/{folder.name}/__init__.py",
        f"src/{folder.name}/py.typed",
    ):
        assert (folder / file).is_file(), file


def test_json_names_the_folder_the_files_and_the_next_commands(tmp_path, capsys):
    assert new("robot", "ant", "--dir", str(tmp_path), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    folder = Path(told["folder"])
    assert told["package"] == folder.name == "lerobot_robot_ant"
    assert told["notes"] == []
    on_disk = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert sorted(told["files"]) == on_disk
    assert told["next"][0] == f"cd {tmp_path / 'lerobot_robot_ant'}"


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "lerobot_robot_ant").mkdir()
    (tmp_path / "lerobot_robot_ant" / "thesis.tex").write_text("years of work")
    assert new("robot", "ant", "--dir", str(tmp_path)) == 2
    assert "exists already; nothing was changed" in capsys.readouterr().err
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*")] == [
        "lerobot_robot_ant/thesis.tex"
    ]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "lerobot_robot_ant").mkdir()
    assert new("robot", "ant", "--dir", str(tmp_path)) == 0


def test_a_failure_in_the_middle_leaves_nothing(tmp_path):
    with pytest.raises(CommandError, match="nothing was left behind"):
        write_project(tmp_path / "thing", {"a": "1", "a/b": "2"})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert new("robot", "ant", "--dir", str(tmp_path / "file")) == 2
    assert "remedy: give another --dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--author", "a\nb"), ("--description", " "), ("--author", "\x7f")]
)
def test_texts_that_are_no_line_are_refused(option, value, tmp_path, capsys):
    assert new("robot", "ant", "--dir", str(tmp_path), option, value) == 2
    assert option in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_author_and_description_are_told_to_the_index():
    texts = Texts('Ada "Countess" Lovelace <ada@example.org>', 'Says "hello" \\ waves')
    text = project_files(make_names("robot", "ant"), texts)["pyproject.toml"]
    import tomllib

    project = tomllib.loads(text)["project"]
    assert project["authors"] == [{"name": "Ada Countess Lovelace", "email": "ada@example.org"}]
    assert project["description"] == 'Says "hello" \\ waves'


def test_every_template_is_clean_with_short_and_long_names(tmp_path):
    """No name may push a line over the limit, or to where the formatter would break it."""
    longest = "w" * LONGEST
    for name in (
        "x",
        "a_b",
        "t1",
        "middling_name",
        "config2",
        "configs",
        "cone",
        "z" * 15,
        longest,
        "_".join("abcdefghijklmno"),
    ):
        for kind in KINDS:
            names = make_names(kind, name)
            write_project(tmp_path / name / names.package, project_files(names, Texts()))
    for words in (["check"], ["format", "--check"]):
        ran = subprocess.run([RUFF, *words, "--no-cache", tmp_path], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout


def test_no_unrendered_braces_are_left(tmp_path):
    for kind in KINDS:
        for path, text in project_files(make_names(kind, "ant"), Texts()).items():
            assert "{%" not in text, path
            assert "PACKAGE" not in path
            assert "NAME" not in path
