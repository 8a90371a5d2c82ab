# SPDX-License-Identifier: Apache-2.0
import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lerobot_ext.cli.main import main
from lerobot_ext.training.metrics_file import MetricsFile
from lerobot_ext.training.plot.runs import load_runs, smooth


def write_run(folder, steps=(10, 20, 30), factor=1.0, success=True):
    file = MetricsFile(folder / "metrics.csv")
    for step in steps:
        file.write(step, {"time": 1000.0 + 3.6 * step, "loss": factor / step, "lr": 1e-4})
    if success:
        file.write(steps[-1], {"env/pc_success": 30.0, "env/n_episodes": 10})
    return folder


def write_eval(folder, successes, episodes):
    folder.mkdir(parents=True)
    outcome = [True] * successes + [False] * (episodes - successes)
    metrics = {"successes": outcome, "sum_rewards": [0.0] * episodes}
    info = {"per_task": [{"task_group": "koch", "task_id": 0, "metrics": metrics}]}
    (folder / "eval_info.json").write_text(json.dumps(info))
    return folder


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.floats(0, 0.99))
def test_smoothing_stays_inside_and_leaves_a_constant_alone(values, weight):
    smoothed = smooth(values, weight)
    for index, value in enumerate(smoothed):
        seen = values[: index + 1]
        assert min(seen) - 1e-6 <= value <= max(seen) + 1e-6
    assert smooth([3.0] * len(values), weight) == pytest.approx([3.0] * len(values))
    assert smooth(values, 0.0) == pytest.approx(values)


def test_smoothing_shows_nan_and_forgets_it():
    smoothed = smooth([1.0, math.nan, 1.0], 0.9)
    assert math.isnan(smoothed[1])
    assert smoothed[2] == pytest.approx(1.0)


def test_curves_are_over_steps_or_hours(tmp_path):
    (run,) = load_runs([str(write_run(tmp_path / "a"))])
    assert run.name == "a"
    assert run.curve("loss") == ([10, 20, 30], [0.1, 0.05, 1 / 30])
    assert run.curve("loss", "time")[0] == pytest.approx([0, 0.01, 0.02])
    assert run.successes() == [(30, 3, 10)]


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [str(write_run(tmp_path / seed / "run")) for seed in ("s1", "s2")]
    assert [run.name for run in load_runs(paths)] == ["s1/run", "s2/run"]
    assert [run.name for run in load_runs([f"mine={paths[0]}", paths[1]])] == ["mine", "run"]


def test_two_runs_and_an_evaluation_make_one_picture(tmp_path, capsys):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", factor=2.0)
    write_eval(one / "eval" / "final", 45, 50)
    other = write_eval(tmp_path / "other", 0, 50)
    out = tmp_path / "pictures" / "runs.png"
    words = [
        "plot",
        str(one),
        f"slow={two}",
        str(other),
        "--smooth",
        "0.5",
        "--log",
        "--out",
        str(out),
        "--json",
    ]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["metrics"] == ["loss", "lr"]
    assert [run["name"] for run in said["runs"]] == ["one", "slow", "other"]
    assert said["runs"][1]["metrics"]["loss"] == {"last": 2 / 30, "min": 2 / 30}
    tasks = [[entry["task"] for entry in run["evaluations"]] for run in said["runs"]]
    assert tasks == [["eval final koch"], ["during training"], ["koch"]]
    assert said["runs"][0]["evaluations"][0]["interval_95"] == pytest.approx([0.786, 0.957], abs=1e-3)
    image = Image.open(out).convert("RGB")
    assert image.width > 1500
    assert len(image.getcolors(1 << 24)) > 50


def test_a_run_without_success_says_where_success_comes_from(tmp_path, capsys):
    run = write_run(tmp_path / "run", success=False)
    words = ["plot", str(run), "--out", str(tmp_path / "runs.png")]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--env_eval_freq" in said
    assert "name the folder that lerobot-eval wrote as well" in said
    write_eval(run / "eval", 45, 50)
    assert main(words) == 0
    assert "--env_eval_freq" not in capsys.readouterr().out


def test_the_page_needs_nothing_else_and_shows_names_as_they_are(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    out = tmp_path / "runs.html"
    assert main(["plot", f"<b>$x$</b>={run}", "--out", str(out)]) == 0
    text = out.read_text()
    assert "<svg" in text
    assert "&lt;b&gt;$x$&lt;/b&gt;" in text
    assert "<b>" not in text
    assert not re.search(r"<script|<link|@import|(src|href)=\"(?!#)", text)
    assert "0.03333 (min 0.03333)" in text
    assert "3/10 (11-60 %)" in text
    assert "3/10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing"], "there is no"),
        (["{empty}"], "holds neither a metrics.csv with a row nor an eval_info.json"),
        (["{run}", "--metric", "los"], "did you mean 'loss'?"),
        (["{run}", "--metric", "zzz"], "there are: time, loss, lr"),
        (["{run}", "--out", "a.gif"], "no known format"),
        (["{other}"], "no column `step`"),
        (["{damaged}"], "is damaged"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(tmp_path, words, says, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/metrics.csv").write_text("a,b\n1,2\n")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/eval_info.json").write_text('{"per_task": [')
    write_run(tmp_path / "run")
    places = {name: tmp_path / name for name in ("empty", "run", "other", "damaged")}
    assert main(["plot", *(word.format(**places) for word in words)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") <= 2


@pytest.mark.parametrize("weight", ["1", "-0.1", "nan", "much"])
def test_a_weight_that_is_none_is_refused(tmp_path, weight, capsys):
    with pytest.raises(SystemExit):
        main(["plot", str(tmp_path), "--smooth", weight])
    assert "is no weight" in capsys.readouterr().err
