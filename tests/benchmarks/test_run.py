# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/run.py`: what it runs, what it does not run again and what it keeps."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import run as driver
from doc_commands import check
from hierarchical_parts.commands import CommandError
from run_parts import engines, index, kept, running, suites

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

COUNTING = """
import json, sys
from pathlib import Path

out = Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True, exist_ok=True)
runs = out / "runs"
runs.write_text(runs.read_text() + "." if runs.exists() else ".")
found = {"quick": "--quick" in sys.argv, "runs": len(runs.read_text())}
(out / "counting.json").write_text(json.dumps(found))
(out / "counting.png").write_bytes(b"picture")
print("a table")
print(f"counting: {len(runs.read_text())} runs, in {out}")
"""
FAILING = "import sys\nprint('no good', file=sys.stderr)\nsys.exit(3)\n"


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two suites of their own, `counting` and `failing`, in place of all."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "counting.py").write_text(COUNTING, encoding="utf-8")
    (folder / "failing.py").write_text(FAILING, encoding="utf-8")
    made = tuple(suites.Suite(name, f"{name} things", 7, packages=()) for name in ("counting", "failing"))
    for module in (suites, running):
        monkeypatch.setattr(module, "BENCHMARKS", folder)
    for module in (suites, index, driver):
        monkeypatch.setattr(module, "SUITES", made)
    return folder


def words(tmp_path, *more):
    return [*more, "--out", str(tmp_path / "out"), "--results", str(tmp_path / "results")]


def runs(tmp_path, size="full"):
    return len((tmp_path / "out" / size / "counting" / "runs").read_text())


def test_every_benchmark_is_a_suite():
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")} - {"run"}
    assert {suite.name for suite in suites.SUITES} == scripts


@pytest.mark.parametrize("suite", suites.SUITES, ids=lambda suite: suite.name)
def test_the_words_of_a_suite_are_options_of_its_script(suite):
    for size in (suites.QUICK, suites.FULL):
        script, *rest = suite.words(size, "DIR")
        assert Path(script).exists()
        check(["uv", "run", "python", f"benchmarks/{suite.name}.py", *rest])
    assert "--quick" in suite.quick
    assert all((BENCHMARKS / part).is_dir() for part in suite.parts)


@pytest.mark.parametrize("suite", suites.SUITES, ids=lambda suite: suite.name)
def test_the_recipe_of_a_suite_can_be_told_and_is_its_own(suite):
    found = running.recipe(suite, suites.FULL)
    assert found == json.loads(json.dumps(found))
    assert found != running.recipe(suite, suites.QUICK)
    assert all(found["packages"].values())


def test_the_cost_of_all_suites_is_told_with_what_is_not_known():
    known = suites.Suite("a", "things", 50)
    partly = suites.Suite("b", "things", 75, "of one core", unknown="the other half")
    never = suites.Suite("c", "things", None)
    assert suites.cost([known]) == "1 of 1 suites take 50 min together, one after the other."
    assert suites.cost([known, partly, never]).endswith(
        "2 of 3 suites take 2 h 5 min together, one after the other; not known: `c`, the other half of `b`."
    )
    assert partly.about == "1 h 15 min of one core; the other half: not known"
    assert never.about == "not known"
    assert suites.cost(suites.SUITES) in driver.listing()


def test_what_is_done_is_not_run_again_until_its_script_changes(two, tmp_path, capsys):
    asked = words(tmp_path, "--suite", "full", "--only", "counting")
    assert driver.main(asked) == 0
    assert driver.main(asked) == 0
    assert runs(tmp_path) == 1
    said = capsys.readouterr().out
    assert "counting: 1 runs, in DIR" in said, "no folder of this machine in the line"
    assert said.strip().splitlines()[-1] == "run: 1 of 1 suites done"
    (two / "counting.py").write_text(COUNTING + "# changed\n", encoding="utf-8")
    driver.main(asked)
    assert runs(tmp_path) == 2
    driver.main([*asked, "--again", "counting"])
    assert runs(tmp_path) == 3


def test_the_rest_is_run_where_one_suite_fails_and_it_is_said(two, tmp_path, capsys):
    assert driver.main(words(tmp_path, "--suite", "quick", "--jobs", "2")) == 1
    said = capsys.readouterr()
    assert "failed: quick.failing" in said.err
    assert "no good" in said.err
    assert said.out.strip().splitlines()[-1] == "run: 1 of 2 suites done"
    assert runs(tmp_path, "quick") == 1
    assert not (tmp_path / "results").exists(), "a quick run writes no docs"


def test_docs_get_figures_command_day_and_machine(two, tmp_path):
    driver.main(words(tmp_path, "--suite", "full", "--only", "counting", "--write-docs"))
    found = kept.read("counting", tmp_path / "results")
    assert found["figures"] == {"quick": False, "runs": 1}
    assert found["command"] == "uv run python benchmarks/counting.py --out DIR"
    assert found["machine"]["versions"]["lerobot"]
    assert found["machine"]["processors"] >= 1
    page = (tmp_path / "results" / "README.md").read_text(encoding="utf-8")
    assert "[`counting`](counting.json): counting things | counting: 1 runs, in DIR" in page
    assert "| `failing`: failing things | not kept |" in page


def test_what_cannot_be_kept_is_said_and_the_rest_is_kept(two, tmp_path, capsys):
    (two / "failing.py").write_text("print('failing: no more')\n", encoding="utf-8")
    assert driver.main(words(tmp_path, "--suite", "full", "--write-docs")) == 1
    assert "failing is not kept" in capsys.readouterr().err
    assert kept.read("counting", tmp_path / "results")
    assert kept.read("failing", tmp_path / "results") is None


def test_a_suite_that_prints_nothing_failed(two, tmp_path, capsys):
    (two / "counting.py").write_text("", encoding="utf-8")
    assert driver.main(words(tmp_path, "--suite", "quick", "--only", "counting")) == 1
    assert "not even its last line" in capsys.readouterr().err


def test_nobody_works_in_the_same_folder_at_once(two, tmp_path):
    with running.working_in(tmp_path / "out"), pytest.raises(SystemExit, match="another run works in"):
        driver.main(words(tmp_path, "--suite", "quick"))


@pytest.mark.parametrize(
    ("asked", "because"),
    [
        (["--suite", "quick", "--write-docs"], "measures nothing that belongs into docs"),
        (
            ["--suite", "full", "--only", "startup,speed"],
            "no suite is called speed; choose from koch_policies, hierarchical",
        ),
        (["--suite", "full", "--jobs", "0"], "at least 1"),
        (["--list", "--suite", "quick"], "say one of"),
        ([], "say one of"),
        (["--take", "nothing", "x.json"], "no suite is called nothing"),
        (["--suite", "quick", "--ray-address", "auto"], "is an option of --engine ray"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked, because, capsys):
    with pytest.raises(SystemExit):
        driver.parse(asked)
    assert because in capsys.readouterr().err


# ---- taking over


def test_a_file_is_taken_with_its_day_and_its_last_line(tmp_path, capsys):
    figures = kept.read("startup")["figures"]
    file = tmp_path / "startup.json"
    file.write_text(json.dumps(figures | {"timings": {"with": [1.0]}}), encoding="utf-8")
    more = ["--measured", "2026-11-20", "--note", "a quiet night"]
    assert driver.main([*words(tmp_path, "--take", "startup", str(file)), *more]) == 0
    found = kept.read("startup", tmp_path / "results")
    assert found["measured"] == "2026-11-20"
    assert found["machine"] == {"note": "a quiet night"}
    assert found["figures"] == figures
    assert found["last_line"] == kept.read("startup")["last_line"]
    assert "a quiet night" in (tmp_path / "results" / "README.md").read_text(encoding="utf-8")


def test_tasks_are_kept_beside_each_other(tmp_path):
    lift = kept.read("offline_rl")["figures"]["lift"]
    for task in ("lift", "place"):
        one = lift | {"conditions": lift["conditions"] | {"task": task}}
        (tmp_path / f"offline_rl_{task}.json").write_text(json.dumps(one), encoding="utf-8")
        driver.main(words(tmp_path, "--take", "offline_rl", str(tmp_path / f"offline_rl_{task}.json")))
    found = kept.read("offline_rl", tmp_path / "results")
    assert {name: one["conditions"]["task"] for name, one in found["figures"].items()} == {
        "lift": "lift",
        "place": "place",
    }


@pytest.mark.parametrize("content", ["{}", "[]", "no JSON"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    file = tmp_path / "startup.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match="holds no figures of startup"):
        driver.main(words(tmp_path, "--take", "startup", str(file)))
    with pytest.raises(SystemExit, match=r"missing\.json holds no figures"):
        driver.main(words(tmp_path, "--take", "startup", str(tmp_path / "missing.json")))
    assert not (tmp_path / "results").exists()


# ---- machines of a Ray cluster


class FakeRay(ModuleType):
    """As much of Ray as the engine asks for: a cluster of two machines, tasks in threads of this process."""

    def __init__(self):
        super().__init__("ray")
        self.seen, self.left, self.cancelled = [], 0, []
        self.exceptions = SimpleNamespace(RayTaskError=FakeTaskError)
        self.cluster = [
            {"NodeID": name, "Alive": alive, "Resources": {"CPU": 4.0}}
            for name, alive in (("one", True), ("two", True), ("gone", False))
        ]

    def init(self, address, runtime_env, log_to_driver):
        assert Path(runtime_env["env_vars"]["PYTHONPATH"].split(os.pathsep)[0], "run_parts").is_dir()
        if address == "nowhere:6379":
            raise ConnectionError("nobody answers")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does

    def nodes(self):
        return self.cluster

    def remote(self, function):
        return SimpleNamespace(options=lambda **options: self._bound(function, options))

    def _bound(self, function, options):
        def call(run, suite):
            given = pickle.loads(pickle.dumps((run, suite)))
            self.seen.append((suite.name, options["scheduling_strategy"].node_id, options["num_cpus"]))
            return lambda: function(*given)

        return SimpleNamespace(remote=call)

    def get(self, task):
        try:
            return task()
        except CommandError as error:
            raise FakeTaskError(error) from error

    def wait(self, tasks, num_returns, timeout):
        return tasks, []

    def cancel(self, task):
        self.cancelled.append(task)

    def shutdown(self):
        self.left += 1


class FakeTaskError(Exception):
    def __init__(self, cause):
        self.cause = cause


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = SimpleNamespace
    for name, module in (("ray", fake), ("ray.util.scheduling_strategies", strategies)):
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def test_each_suite_is_a_task_on_a_machine_of_the_cluster(two, tmp_path, ray, capsys):
    asked = words(tmp_path, "--suite", "full", "--engine", "ray")
    assert driver.main(asked) == 1
    said = capsys.readouterr()
    assert "failed: full.failing" in said.err
    assert "no good" in said.err
    assert said.out.strip().splitlines()[-1] == "run: 1 of 2 suites done"
    assert sorted(ray.seen) == [("counting", "one", 4.0), ("failing", "two", 4.0)]
    assert ray.left == 1
    assert driver.main([*asked, "--only", "counting"]) == 0
    assert runs(tmp_path) == 1, "what a machine has done is not run again"


def test_a_quick_run_shares_each_machine(two, tmp_path, ray):
    handler = signal.getsignal(signal.SIGTERM)
    engine = engines.Ray(running.Run("quick", tmp_path, 2), "auto")
    assert signal.getsignal(signal.SIGTERM) == handler
    assert engine.at_once == 4
    engine.perform(suites.SUITES[0])
    assert ray.seen == [("counting", "one", 2.0)]


def test_a_folder_that_is_not_shared_is_found(two, tmp_path, ray, monkeypatch, capsys):
    monkeypatch.setattr(running.Store, "save", lambda *_: None)
    assert driver.main(words(tmp_path, "--suite", "full", "--only", "counting", "--engine", "ray")) == 1
    assert "has to be a folder that all machines see" in capsys.readouterr().err


def test_tasks_are_cancelled_when_the_run_is_stopped(two, tmp_path, ray, monkeypatch):
    engine = engines.Ray(running.Run("full", tmp_path, 1), "auto")

    def get(task):
        engine.stop()
        raise RuntimeError("the task was cancelled")

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(RuntimeError, match="cancelled"):
        engine.perform(suites.SUITES[0])
    assert len(ray.cancelled) == 1
    assert ray.left == 1


def test_a_task_that_ends_early_ends_what_it_started(two, tmp_path, monkeypatch):
    stopped = []
    monkeypatch.setattr(engines.Commands, "stop", lambda commands: stopped.append(commands))
    monkeypatch.setattr(running, "one", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        engines.in_task(running.Run("full", tmp_path, 1), suites.SUITES[0])
    assert len(stopped) == 1


@pytest.mark.parametrize(
    ("more", "because"),
    [
        ([], r"needs Ray, which cannot be imported .*`uv pip install ray`"),
        (["--ray-address", "nowhere:6379"], r"no such cluster \(nobody answers\); `uv run ray start --head`"),
        (["--ray-address", "auto"], "no machine of this cluster offers a CPU"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_with_the_remedy(two, tmp_path, ray, monkeypatch, more, because):
    ray.cluster = []
    if not more:
        monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match=because):
        driver.main(words(tmp_path, "--suite", "quick", "--engine", "ray", *more))
