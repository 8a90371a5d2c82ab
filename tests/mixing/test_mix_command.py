# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from mixes import entry, write_part, write_spec

from lerobot_ext.cli.main import main

TOP = "observation.images.top"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mix")
    write_part(folder / "a", (6, 9), ("reach",))
    write_part(folder / "b", (5,), ("lift",), cameras={TOP: "image"})
    return folder


def test_a_mix_is_shown_with_shares_tasks_and_features(folder, capsys):
    spec = write_spec(folder / "ok.yaml", entry(folder / "a"), entry(folder / "b", drop=[TOP]))
    assert main(["mix", str(spec)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "ok: 2 datasets, 20 frames, 20 draws an epoch, weights by_frames",
        "0 user/a 0-1 15 75.0% 1.00 0",
        "1 user/b 2-2 5 25.0% 1.00 1",
        "tasks id text",
        "action float32 3",
        f"train on it: lerobot-train --dataset.repo_id={spec}",
    ):
        assert words in said, said


def test_problems_are_shown_and_make_the_exit_code_1(folder, capsys):
    spec = write_spec(folder / "bad.yaml", entry(folder / "a"), entry(folder / "b"))
    assert main(["mix", str(spec)]) == 1
    said = capsys.readouterr().out
    assert f"problem: `{TOP}`: camera is in user/b, not in user/a. Remedy: `rename` it" in said
    assert "train on it" not in said


def test_a_wrong_key_is_told_without_a_traceback(folder, capsys):
    spec = write_spec(folder / "key.yaml", entry(folder / "a", wait=1))
    assert main(["mix", str(spec)]) == 1
    assert "`datasets[0].wait`: is an unknown key. Remedy: did you mean `weight`?" in capsys.readouterr().out


def test_json_has_all_of_it(folder, capsys):
    spec = write_spec(
        folder / "json.yaml",
        entry(folder / "a", weight=1),
        entry(folder / "b", weight=3),
        epoch_size=40,
        features="intersection",
    )
    assert main(["mix", str(spec), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [part["share"] for part in shown["datasets"]] == [0.25, 0.75]
    assert [part["draws_of_a_frame"] for part in shown["datasets"]] == [pytest.approx(10 / 15), 6.0]
    assert [part["first_episode_in_mix"] for part in shown["datasets"]] == [0, 2]
    assert shown["tasks"] == {"0": "reach", "1": "lift"}
    assert TOP not in shown["features"]
    assert shown["notes"] == [f"left out of user/b, not all have them: {TOP}"]
    assert shown["problems"] == []


def test_json_of_a_wrong_file_has_its_problems(folder, capsys):
    spec = write_spec(folder / "wrong.yaml", entry(folder / "a"), seed=-1)
    assert main(["mix", str(spec), "--json"]) == 1
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert problem["where"] == "seed"


def test_a_picture_is_drawn(folder, tmp_path, capsys):
    spec = write_spec(folder / "plot.yaml", entry(folder / "a"), entry(folder / "b"), features="intersection")
    picture = tmp_path / "new" / "mix.png"
    assert main(["mix", str(spec), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {picture}" in capsys.readouterr().out
    assert main(["mix", str(spec), "--plot", "mix.gif"]) == 2
    assert "no known format" in capsys.readouterr().err


def test_init_writes_a_spec_and_shows_it(folder, tmp_path, capsys):
    spec = tmp_path / "new.yaml"
    words = ["mix", str(spec), "--init", str(folder / "a"), str(folder / "b")]
    assert main(words) == 1  # `b` has a camera more
    assert "features: intersection" in capsys.readouterr().out
    spec.write_text(spec.read_text().replace("features: exact", "features: intersection"))
    assert main(["mix", str(spec)]) == 0
    assert "local/a" in capsys.readouterr().out
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mix.toml", "mix"])
def test_a_file_of_another_format_is_refused(tmp_path, capsys, name):
    assert main(["mix", str(tmp_path / name)]) == 2
    assert "end it in .yaml, .yml, .json" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_told(tmp_path, capsys):
    assert main(["mix", str(tmp_path / "none.yaml")]) == 1
    assert "--init" in capsys.readouterr().out
