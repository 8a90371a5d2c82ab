# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext profile`: the stopwatch, and the command on a tiny training."""

import gzip
import json

import pytest
from stock_cli import run
from stock_loop import POLICY, write_dataset

from lerobot_ext.cli.main import main
from lerobot_ext.training.profile import spans
from lerobot_ext.training.profile.session import Profile
from lerobot_ext.training.profile.spans import Stopwatch


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_phases_inside_the_update_are_taken_out_of_other():
    clock = Clock()
    watch = Stopwatch(clock=clock)

    def work(seconds):
        clock.now += seconds

    watch.next_step()
    watch.start(spans.DATA)
    work(1.0)
    watch.stop(spans.DATA)
    watch.start(spans.UPDATE)
    watch.timed(spans.FORWARD, work)(2.0)
    watch.timed(spans.OPTIMIZER, work)(0.25)
    watch.timed(spans.OPTIMIZER, work)(0.25)  # step and zero_grad
    work(0.5)
    watch.stop(spans.UPDATE)
    whole = spans.whole(watch.steps[0])
    assert whole[spans.FORWARD] == 2.0
    assert whole[spans.OPTIMIZER] == 0.5
    assert whole[spans.OTHER] == 0.5
    assert whole[spans.STEP] == 4.0


def test_a_phase_ends_also_when_it_fails():
    watch = Stopwatch(clock=Clock())
    watch.next_step()
    with pytest.raises(ZeroDivisionError):
        watch.timed(spans.FORWARD, lambda: 1 / 0)()
    assert watch.steps == [{spans.FORWARD: 0.0}]
    assert not watch._open


def test_each_phase_is_a_median():
    profile = Profile(steps=[{spans.DATA: seconds} for seconds in (1.0, 9.0, 2.0)])
    assert profile.phases()[spans.DATA] == 2.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "there is nothing to profile"),
        (["--policy.type=act", "--trace", "trace.png"], "no known format"),
    ],
)
def test_what_cannot_be_profiled_is_said_in_one_line(words, says, capsys):
    assert main(["profile", *words]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_a_stock_policy_is_profiled_and_nothing_is_left_but_the_trace(tmp_path):
    dataset = write_dataset(tmp_path / "data")
    trace = tmp_path / "out" / "trace.json.gz"
    words = [*dataset, *POLICY, "--batch_size=2", "--num_workers=0", "--steps", "3"]
    done = run(tmp_path, "lerobot-ext", "profile", *words, "--trace", str(trace), "--json", real=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert (said["steps"], said["batch_size"], said["device"]) == (3, 2, "cpu")
    assert all(said["seconds"][phase] > 0 for phase in spans.PHASES)
    assert said["seconds"]["step"] >= said["seconds"]["forward"]
    assert said["parameters"] > 1000
    assert said["rss_bytes"] > 1e8
    names = {operation["name"] for operation in said["operations"]}
    assert any(name.startswith("aten::") for name in names)
    assert not any(spans.is_span(name) for name in names)
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    spanned = [event["name"] for event in events if spans.is_span(str(event.get("name")))]
    for phase in (spans.DATA, spans.PREPROCESS, spans.FORWARD, spans.BACKWARD, spans.CLIP):
        assert spanned.count(f"lerobot_ext: {phase}") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
