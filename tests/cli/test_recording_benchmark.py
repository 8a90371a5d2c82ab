# SPDX-License-Identifier: Apache-2.0
"""Stock `lerobot-record` with flags of ours and the benchmark's robot; and the benchmark's arithmetic."""

import argparse
import importlib
from pathlib import Path

import pytest

from lerobot_ext.recording.candidates import Candidate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def recording():
    return importlib.import_module("recording")


@pytest.mark.slow
def test_stock_records_with_our_flags_and_says_at_which_rate(recording, tmp_path, monkeypatch):
    printed = []
    real = recording.figures

    def figures(report, root, output, fps, cameras):
        printed.append(output)
        return real(report, root, output, fps, cameras)

    monkeypatch.setattr(recording, "figures", figures)
    flags = Candidate("h264", "ultrafast", 23, fast_decode=1, threads=1, queue=20).flags()
    args = argparse.Namespace(cameras=2, size="96x64", fps=30, seconds=6.0)
    found = recording.record(tmp_path, "ours", flags, args)
    assert found["missing"] == 0
    assert found["frames"] > 10
    assert 0 < found["hz"] <= 31
    assert found["encoder_lines"] == 0
    assert "lerobot_ext: recorded at" in printed[0]
    assert "Traceback" not in printed[0]


def test_figures_are_those_of_the_intervals(recording, tmp_path):
    report = {"asked_s": [0.0, 0.1, 0.2, 0.4, 0.5], "saved_after_s": 0.3, "cpu_s": 0.05}
    found = recording.figures(report, tmp_path, f"x {recording.SLOW} y", fps=10, cameras=0)
    assert found["hz"] == pytest.approx(8)
    assert (found["late"], found["stock_warnings"], found["missing"]) == (1, 1, 0)
    assert found["longest_ms"] == pytest.approx(200)
    assert found["cpu_ms"] == pytest.approx(10)


def test_of_several_rounds_the_worst_lateness_counts(recording):
    runs = [
        {"hz": hz, "late": late, "missing": 0, "longest_ms": 1, "stock_warnings": 0}
        for hz, late in ((29.0, 0), (30.0, 2), (29.5, 1))
    ]
    found = recording.medians(runs)
    assert (found["hz"], found["late"]) == (29.5, 2)
