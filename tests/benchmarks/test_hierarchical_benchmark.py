# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/hierarchical.py`: its arithmetic, its books, and one short run of everything."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def settings(tmp_path):
    from hierarchical_parts.settings import TASKS, Settings, quick

    return quick(Settings(tmp_path, (TASKS["lift"],), ("ours", "stock")))


# ---- intervals


def test_a_ratio_of_sums_weighs_frames_and_not_episodes():
    from lerobot_ext.bootstrap import ratio_of_sums

    found = ratio_of_sums(np.array([[1.0, 9.0]]), np.array([[10.0, 10.0]]))
    assert found.value == 0.5
    assert found.each == (0.5,)
    assert (found.low, found.high) == (0.1, 0.9)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    from lerobot_ext.bootstrap import ratio_of_sums

    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        values = rng.normal(1.0, 1.0, size=(3, 40))
        found = ratio_of_sums(values, np.ones_like(values), repeats=400)
        hits += found.low <= 1.0 <= found.high
    assert hits >= 90


def test_the_interval_is_wider_when_trainings_differ():
    from lerobot_ext.bootstrap import difference

    rng = np.random.default_rng(2)
    alike = rng.normal(0.0, 0.1, size=(3, 50))
    apart = alike + np.array([[-1.0], [0.0], [1.0]])
    zero = np.zeros_like(alike)
    narrow, wide = difference(alike, zero), difference(apart, zero)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_sums_of_different_shapes_are_refused():
    from lerobot_ext.bootstrap import ratio_of_sums

    with pytest.raises(ValueError, match="one shape"):
        ratio_of_sums(np.ones((3, 4)), np.ones((3, 5)))


def test_auroc_counts_pairs_and_half_of_the_ties():
    from lerobot_ext.bootstrap import auroc

    negative, positive = np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.4, 0.95])
    slow = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    assert auroc(negative, positive) == slow


# ---- matching


@pytest.mark.parametrize(("wanted", "width"), [(0, 4), (90, 8), (100, 8), (120, 12), (10**9, 100)])
def test_the_closest_width_is_found_among_all(wanted, width):
    from hierarchical_parts.matching import closest_width

    found, count = closest_width(wanted, lambda width: width * width, range(4, 101, 4))
    by_hand = min(range(4, 101, 4), key=lambda width: abs(width * width - wanted))
    assert (found, count) == (by_hand, by_hand**2)
    assert found == width


def test_the_flat_policy_has_as_many_parameters_as_ours():
    from hierarchical_parts import methods
    from hierarchical_parts.settings import TASKS

    for task in (TASKS["lift"], TASKS["lift_cameras"]):
        ours, flat = (methods.count(name, task) for name in ("ours", "flat"))
        assert flat == pytest.approx(ours, rel=0.02)


def test_the_stock_unet_has_about_as_many_parameters_as_ours():
    from hierarchical_parts import methods
    from hierarchical_parts.settings import TASKS

    ours, stock = (methods.count(name, TASKS["lift"]) for name in ("ours", "stock"))
    assert stock == pytest.approx(ours, rel=0.25)


def test_every_policys_parameters_can_be_counted():
    from hierarchical_parts import methods
    from hierarchical_parts.settings import TASKS

    counted = {name: methods.count(name, TASKS["lift"]) for name in methods.DEFAULT_METHODS}
    assert counted["curriculum"] == counted["ours"] > 1e6


def test_curriculum_stages_fill_the_training():
    from hierarchical_parts import methods
    from lerobot_policy_hierarchical_diffusion.configuration_hierarchical_diffusion import LAYER_NAMES
    from lerobot_policy_hierarchical_diffusion.curriculum import Curriculum, CurriculumStage

    for steps in (4, 800):
        stages = [CurriculumStage(**stage) for stage in methods.stages(steps)]
        curriculum = Curriculum(stages, LAYER_NAMES)
        assert curriculum.stage_at(0) == 0
        assert curriculum.stage_at(steps - 1) == 2
        assert curriculum.weights_at(steps - 1) == (1.0,) * 4


# ---- cells and their books


def test_a_result_of_another_recipe_does_not_count(tmp_path):
    from hierarchical_parts.store import Store

    store = Store(tmp_path)
    store.save("success.a", {"steps": (1, 2)}, {"rate": 0.5})
    assert store.load("success.a", {"steps": (1, 2)}) == {"rate": 0.5}
    assert store.load("success.a", {"steps": (1, 3)}) is None
    assert store.load("success.b", {"steps": (1, 2)}) is None


def test_a_broken_result_is_named(tmp_path):
    from hierarchical_parts.store import Store

    (tmp_path / "success.a.json").write_text("{")
    with pytest.raises(SystemExit, match=r"success\.a\.json"):
        Store(tmp_path).load("success.a", {})


class _Pretending:
    """Stands for `Commands`: leaves what the stock scripts would leave."""

    def __init__(self):
        self.names = []

    def run(self, name, words, *, pool=False):
        self.names.append(name)
        given = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
        out = Path(given["output_dir"])
        if words[0] == "lerobot-train":
            every = int(given["save_freq"])
            for step in range(every, int(given["steps"]) + 1, every):
                for folder in ("pretrained_model", "training_state"):
                    (out / "checkpoints" / f"{step:06d}" / folder).mkdir(parents=True)
        else:
            metrics = {"successes": [True] * int(given["eval.n_episodes"])}
            out.mkdir(parents=True)
            (out / "eval_info.json").write_text(json.dumps({"per_task": [{"metrics": metrics}]}))
        return ""


def _do(cell, settings, store, commands):
    from hierarchical_parts import cells

    training = cells.train(cell, settings, store, commands)
    for what in cells.evaluations(cell, settings):
        cells.evaluate(what, settings, store, commands, training)


def test_what_is_done_is_not_done_again(settings, tmp_path):
    from hierarchical_parts.cells import Cell
    from hierarchical_parts.store import Store

    store, commands = Store(tmp_path / "results"), _Pretending()
    cell = Cell(settings.tasks[0], "ours", 0)
    _do(cell, settings, store, commands)
    assert commands.names == ["train.lift.ours.seed0", "success.lift.ours.seed0.4"]
    _do(cell, settings, store, commands)
    assert len(commands.names) == 2


def test_more_episodes_are_evaluated_without_another_training(settings, tmp_path):
    from dataclasses import replace

    from hierarchical_parts.cells import Cell
    from hierarchical_parts.store import Store

    store, commands = Store(tmp_path / "results"), _Pretending()
    cell = Cell(settings.tasks[0], "ours", 0)
    _do(cell, settings, store, commands)
    _do(cell, replace(settings, episodes=5), store, commands)
    assert commands.names[2:] == ["success.lift.ours.seed0.4"]


def test_a_lost_checkpoint_is_trained_again_and_what_was_measured_on_it_forgotten(settings, tmp_path):
    import shutil

    from hierarchical_parts.cells import Cell
    from hierarchical_parts.store import Store

    store, commands = Store(tmp_path / "results"), _Pretending()
    cell = Cell(settings.tasks[0], "ours", 0)
    _do(cell, settings, store, commands)
    store.save("nulling.lift.seed0", {}, {})
    shutil.rmtree(cell.checkpoint(settings, 4))
    _do(cell, settings, store, commands)
    assert len(commands.names) == 4
    assert not list(store.all("nulling"))


def test_all_policies_meet_the_same_episodes(settings):
    from hierarchical_parts import cells
    from hierarchical_parts.settings import EVAL_SEED

    task = settings.tasks[0]
    recipes = [
        cells.evaluation_recipe(what, settings, {"id": "x"})
        for method in ("ours", "stock")
        for what in cells.evaluations(cells.Cell(task, method, 2), settings)
    ]
    assert {recipe["seed"] for recipe in recipes} == {EVAL_SEED + 2000}


def test_checkpoints_between_the_points_are_not_kept(settings, tmp_path):
    from dataclasses import replace

    from hierarchical_parts.cells import Cell
    from hierarchical_parts.store import Store

    task = replace(settings.tasks[0], points=(100, 400))
    cell = Cell(task, "ours", 0)
    _do(cell, settings, Store(tmp_path / "results"), _Pretending())
    folder = cell.folder(settings) / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["000100", "000400"]
    assert not list(folder.rglob("training_state"))


def test_what_is_left_takes_as_long_as_its_like_did(settings, tmp_path):
    from dataclasses import replace

    from hierarchical_parts import cells, running
    from hierarchical_parts.store import Store

    store = Store(tmp_path / "results")
    wide = replace(settings, seeds=(0, 1), methods=("ours",))
    first, _ = every = cells.cells(wide)
    pieces, _ = running.remaining(wide, store, every, running.Pace())
    assert pieces == 4
    recipe = cells.train_recipe(first, wide)
    store.save(f"train.{first.name}", recipe, {"id": "x", "wall_s": 100.0})
    first.checkpoint(wide, 4).mkdir(parents=True)
    what = cells.evaluations(first, wide)[0]
    store.save(f"success.{what.name}", cells.evaluation_recipe(what, wide, {"id": "x"}), {"wall_s": 7.0})
    assert running.remaining(wide, store, every, running.Pace()) == (2, 107.0)


# ---- nulling


def test_a_rise_is_relative_to_the_full_loss():
    from hierarchical_parts.nulling import rises

    one = {"sums": {"all layers": [1.0, 3.0], "without a": [2.0, 4.0]}, "frames": [2, 2]}
    assert rises([one])["without a"].value == pytest.approx(0.5)


# ---- violations


@pytest.fixture
def usual():
    from hierarchical_parts.injection import Usual

    return Usual(
        low=torch.tensor([-1.0, -1.0, 0.0]),
        high=torch.tensor([1.0, 0.5, 0.0]),
        speed=torch.tensor([0.1, 0.2, 0.0]),
        lag=torch.tensor([0.05, 0.1, 0.0]),
        joints=torch.tensor([0, 1]),
    )


def test_a_limit_is_crossed_now_and_the_future_left_alone(usual):
    from hierarchical_parts import injection

    state = torch.zeros(64, 6, 3)
    offsets = [-8, -2, -1, 0, 1, 2]
    changed = injection.limit(state, offsets, usual, torch.Generator().manual_seed(0))
    now = changed[:, 3]
    assert ((now < usual.low) | (now > usual.high)).any(-1).all()
    assert torch.equal(changed[:, 4:], state[:, 4:])
    assert torch.equal(changed[:, 0], state[:, 0])
    assert not changed[..., 2].any()  # a joint that never moves
    assert (changed.diff(dim=1)[:, :3].abs().sum(-1) > 0).all()


def test_a_jump_is_faster_than_usual(usual):
    from hierarchical_parts import injection

    changed = injection.speed(torch.zeros(64, 3, 3), [-1, 0, 1], usual, torch.Generator().manual_seed(0))
    jumps = (changed[:, 1] - changed[:, 0]).abs()
    assert (jumps > usual.speed).any(-1).all()
    assert not changed[:, [0, 2]].any()


def test_a_command_is_further_away_than_usual(usual):
    from hierarchical_parts import injection

    state, command = torch.zeros(64, 3), torch.full((64, 3), 0.01)
    changed = injection.tracking(state, command, usual, torch.Generator().manual_seed(0))
    assert ((changed - state).abs() > usual.lag).any(-1).all()
    assert ((changed != command).sum(-1) == 1).all()


def test_the_threshold_comes_from_other_episodes_than_it_is_tried_on():
    from hierarchical_parts.safety import flagged

    calm, wild = [0.0] * 200, [1.0] * 200
    found = flagged({"clean": [calm, wild], "speed": [calm, wild]})
    assert found == {"clean": 1.0, "speed": 1.0}


def test_actions_beyond_the_bounds_are_counted_once_each():
    from hierarchical_parts.safety import Bounds

    bounds = Bounds(torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.5]))
    actions = torch.tensor([[0.0, 0.0], [0.4, 0.4], [1.1, -1.2], [0.9, -0.9]])
    assert bounds.beyond(actions) == 1
    assert bounds.too_fast(actions) == 1


# ---- report


def _success(task, method, seed, step, successes):
    return {
        "task": task,
        "method": method,
        "variant": "",
        "seed": seed,
        "step": step,
        "successes": successes,
        "parameters": 1000,
        "source": "aaaa",
        "wall_s": 1.0,
    }


def test_the_report_compares_the_same_episodes(tmp_path):
    from hierarchical_parts import report
    from hierarchical_parts.store import Store

    store = Store(tmp_path)
    for method, rate in (("ours", 0.8), ("flat", 0.6)):
        for seed in range(3):
            successes = [number < 100 * rate for number in range(100)]
            store.save(
                f"success.lift.{method}.seed{seed}.100", {}, _success("lift", method, seed, 100, successes)
            )
    found = report.collect(store)
    flat = found["success"]["lift"]["flat"]["points"]["100"]
    assert flat["rate"] == pytest.approx(0.6)
    assert flat["ours_better_by"]["value"] == pytest.approx(0.2)
    assert 0.1 < flat["ours_better_by"]["low"] < 0.2 < flat["ours_better_by"]["high"] < 0.3
    text = report.markdown(found)
    assert "| flat diffusion, parameter-matched | 0.00 M | 60 (54 to 65) | +20" in text
    assert report.summary(found).startswith("hierarchical: lift ours 80, flat 60 %; 1 of 1 targets")
    assert json.loads(json.dumps(found)) == found


def test_success_that_falls_beyond_its_interval_is_not_monotone():
    from hierarchical_parts.targets import monotone

    def point(rate):
        return {"rate": rate, "low": rate - 0.05, "high": rate + 0.05}

    assert monotone([point(0.5), point(0.6), point(0.57), point(0.9)])
    assert not monotone([point(0.5), point(0.7), point(0.72), point(0.6)])


def test_a_target_is_reached_only_when_its_interval_says_so():
    from hierarchical_parts.targets import targets

    def rise(value, low):
        return {"value": value, "low": low, "high": value + 0.1}

    nothing = {part: {} for part in ("success", "detection", "filter", "budget", "speed")}
    rises = {"without safety": rise(0.2, 0.1), "without planning": rise(0.1, -0.1)}
    rows = {"lift": {"layers": ["safety", "planning"], "rise": rises}}
    found = {what: reached for what, _, reached in targets(nothing | {"nulling": rows})}
    assert list(found.values()) == [True, False]


def test_the_readme_changes_between_the_markers_only(tmp_path):
    from hierarchical_parts import report

    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_readme("new\n", readme)
    report.write_readme("newer\n", readme)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "newer" in text
    assert "old" not in text
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="put both lines"):
        report.write_readme("new", readme)


def test_nothing_measured_is_said(tmp_path):
    from hierarchical_parts import report
    from hierarchical_parts.store import Store

    found = report.collect(Store(tmp_path))
    assert report.markdown(found).strip() == ""
    assert report.summary(found) == "hierarchical: nothing measured"


@pytest.mark.parametrize("words", [["--only", "luck"], ["--tasks", "juggle"], ["--seeds", "0"]])
def test_what_it_does_not_know_is_refused(words, capsys):
    import hierarchical

    with pytest.raises(SystemExit):
        hierarchical.parse(words)
    assert words[1] in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_run_measures_every_part(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(BENCHMARKS / "hierarchical.py"),
            "--quick",
            "--jobs=2",
            f"--out={tmp_path}",
        ],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=880,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "quick" / "hierarchical.json").read_text())
    for part in ("success", "nulling", "detection", "filter", "budget", "speed"):
        assert found[part], part
    assert (tmp_path / "quick" / "hierarchical.png").stat().st_size > 1000
    filtered = found["filter"]["lift"]["on"]
    assert (filtered["limit"], filtered["velocity"]) == (0, 0)
    assert math.isfinite(found["nulling"]["lift"]["loss"]["value"])
    assert done.stdout.splitlines()[-1].startswith("hierarchical: lift ours")


def test_two_runs_do_not_share_a_folder(tmp_path):
    import hierarchical
    from filelock import FileLock

    with FileLock(tmp_path / "lock"), pytest.raises(SystemExit, match="another run"):
        hierarchical.alone(tmp_path, lambda: [])
    assert hierarchical.alone(tmp_path, lambda: ["done"]) == ["done"]


def test_an_interrupted_command_is_ended_with_all_its_children(tmp_path):
    import threading

    from hierarchical_parts.commands import CommandError, Commands

    commands = Commands(tmp_path, nice=0)
    failed = []

    def work():
        try:
            commands.run("sleeper", [Path(sys.executable).name, "-c", "import time; time.sleep(600)"])
        except CommandError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not commands._running:
        pass
    commands.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert "sleeper" in str(failed[0])
    with pytest.raises(CommandError, match="stopped"):
        commands.run("late", [Path(sys.executable).name, "-c", ""])


def test_a_failed_command_shows_its_last_lines(tmp_path):
    from hierarchical_parts.commands import CommandError, Commands

    program = "import sys; sys.exit('no such policy')"
    with pytest.raises(CommandError, match="no such policy"):
        Commands(tmp_path, nice=0).run("broken", [Path(sys.executable).name, "-c", program])


def test_a_script_gives_what_it_writes(tmp_path):
    from hierarchical_parts.commands import Commands

    words = [Path(sys.executable).name, "-c", "print(1); import sys; print(2, file=sys.stderr)"]
    assert Commands(tmp_path, nice=1).run("fine", words) == "1\n"
    assert (tmp_path / "fine.log").read_text() == "2\n"
