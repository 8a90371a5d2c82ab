# SPDX-License-Identifier: Apache-2.0
"""Peaks of memory by phase: in a stock training on the CPU, and with a probe in place of a GPU."""

import sys
from types import SimpleNamespace

import pytest
import torch
from lerobot.utils.logging_utils import AverageMeter
from stock_loop import LOOP, POLICY, train, write_dataset

from lerobot_ext.training import loop, memory_peaks, record
from lerobot_ext.training.memory_peaks import COLUMN, Peaks, note, probe_of
from lerobot_ext.training.metrics_file import read_metrics

PHASES = ("forward", "backward", "optimizer", "update")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak")


@pytest.fixture
def script():
    from lerobot.scripts import lerobot_train

    loop.uninstall()
    yield lerobot_train
    memory_peaks.uninstall()
    loop.uninstall()


@on_linux
def test_log_steps_have_the_peak_of_each_phase_and_the_loop_is_stocks_afterwards(
    script, tmp_path, monkeypatch
):
    stock = script.update_policy
    loop.observe(record.CsvRecorder(), script)
    memory_peaks.install(script)
    words = [*write_dataset(tmp_path / "data"), *POLICY, *LOOP, "--log_freq=2", "--save_checkpoint=false"]
    train(monkeypatch, *words, f"--output_dir={tmp_path / 'out'}", "--steps=4")
    rows = read_metrics(tmp_path / "out" / "metrics.csv")[1]
    assert sorted(rows) == [2, 4]
    for row in rows.values():
        for phase in PHASES:
            assert 0.05 < row[COLUMN.format(phase)] < 100
    memory_peaks.uninstall()
    assert script.update_policy is stock


class Memory:
    """A device whose memory a test sets."""

    def __init__(self):
        self.now = self.most = 0

    def hold(self, size):
        self.now = size
        self.most = max(self.most, size)

    def restart(self):
        self.most = self.now

    def peak(self):
        return self.most


class Accelerator:
    """As little of accelerate's as a step needs."""

    device = torch.device("cpu")

    def __init__(self, memory):
        self.memory = memory

    def backward(self, loss):
        self.memory.hold(70)
        self.memory.hold(30)
        loss.backward()


def test_each_phase_has_its_own_peak():
    memory = Memory()
    memory.hold(1000)  # before the step: none of its business
    memory.hold(10)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.register_step_post_hook(lambda *_: memory.hold(20))
    accelerator = Accelerator(memory)
    peaks = Peaks(memory)
    with peaks.watching(optimizer, accelerator):
        memory.hold(50)
        accelerator.backward(weight.sum())
        optimizer.step()
        memory.hold(25)
    assert peaks.found == {"forward": 50, "backward": 70, "optimizer": 30, "update": 25}
    assert "backward" not in vars(accelerator)
    with pytest.raises(ZeroDivisionError), peaks.watching(optimizer, accelerator):
        _ = 1 / 0
    assert "backward" not in vars(accelerator)


def test_stocks_own_peak_of_the_gpu_is_that_of_the_whole_step():
    meter = AverageMeter("mem_gb", ":.2f")
    for value in (3.0, 0.5):  # the second was read after ours had started the peak anew
        meter.update(value)
    tracker = SimpleNamespace(metrics={"gpu_mem_gb": meter})
    gib = 2**30
    note(tracker, {"forward": 2 * gib, "backward": 5 * gib, "optimizer": gib}, device="cuda")
    assert (meter.val, meter.avg) == (5.0, 4.0)
    assert tracker.metrics["memory/backward_gb"].avg == 5.0
    assert tracker.metrics["memory/backward_gb"].reduction == "max"
    note(tracker, {"backward": 4 * gib}, device="cpu")
    assert tracker.metrics["memory/backward_gb"].avg == 4.0
    assert meter.val == 5.0


@on_linux
def test_the_process_probe_sees_a_peak_that_is_gone_again():
    probe = probe_of("cpu")
    probe.restart()
    before = probe.peak()
    held = torch.ones(100_000_000)
    del held
    assert probe.peak() - before > 300e6
    probe.restart()
    assert probe.peak() - before < 200e6


def test_steps_that_are_not_logged_are_not_touched():
    recorder = memory_peaks.PeakRecorder()
    recorder.started(SimpleNamespace(cfg=SimpleNamespace(log_freq=10)))
    assert recorder.take_step(lambda: "done", SimpleNamespace(steps=7), None, None) == "done"
    recorder.started(SimpleNamespace(cfg=SimpleNamespace(log_freq=0)))
    assert recorder.take_step(lambda: "done", SimpleNamespace(steps=9), None, None) == "done"


def test_a_machine_that_tells_no_peaks_trains_all_the_same(monkeypatch, caplog):
    monkeypatch.setattr(memory_peaks, "probe_of", lambda _: None)
    recorder = memory_peaks.PeakRecorder()
    recorder.started(SimpleNamespace(cfg=SimpleNamespace(log_freq=1)))
    accelerator = SimpleNamespace(device=torch.device("cpu"))
    with caplog.at_level("INFO"):
        for step in (0, 1):
            assert (
                recorder.take_step(lambda: "done", SimpleNamespace(steps=step), None, accelerator) == "done"
            )
    assert [entry.message for entry in caplog.records].count(
        "lerobot_ext: no memory peaks by phase: only Linux and GPUs tell them."
    ) == 1
