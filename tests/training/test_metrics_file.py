# SPDX-License-Identifier: Apache-2.0
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_ext.training.metrics_file import MetricsFile, MetricsFileError, read_metrics

NAMES = st.sampled_from(["loss", "lr", 'odd "name", with comma', "env/pc_success"])
NUMBERS = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False))
WRITES = st.lists(st.tuples(st.integers(0, 2), st.dictionaries(NAMES, NUMBERS, max_size=3)), max_size=12)


@settings(deadline=None)
@given(WRITES)
def test_reads_back_exactly_what_was_written(tmp_path_factory, writes):
    path = tmp_path_factory.mktemp("m") / "metrics.csv"
    file, expected, step = MetricsFile(path), {}, 1
    for later, values in writes:
        step += later
        file.write(step, values)
        expected.setdefault(step, {}).update(values)
    if writes:
        assert read_metrics(path)[1] == expected


@settings(deadline=None)
@given(WRITES, st.integers(0, 20), st.integers(1, 400))
def test_a_resumed_file_has_each_step_once_whatever_was_cut_off(tmp_path_factory, writes, resume_at, cut):
    path = tmp_path_factory.mktemp("m") / "metrics.csv"
    file, step = MetricsFile(path), 0
    for _, values in writes:
        step += 1
        file.write(step, values)
    file.write(step + 1, {"loss": 1.0})
    whole = read_metrics(path)[1]
    header = path.read_bytes().index(b"\n") + 1
    path.write_bytes(path.read_bytes()[: max(header, path.stat().st_size - cut)])

    file = MetricsFile(path, first_step=resume_at)
    file.write(resume_at + 1, {"loss": 2.0, "new": 3.0})

    rows = read_metrics(path)[1]
    assert rows.pop(resume_at + 1) == {"loss": 2.0, "new": 3.0}
    assert all(whole[step] == row and step <= resume_at for step, row in rows.items())
    text = path.read_text().splitlines()
    assert len(text) == len(rows) + 2


def test_one_step_that_is_written_twice_is_one_row(tmp_path):
    file = MetricsFile(tmp_path / "metrics.csv")
    file.write(10, {"loss": 0.5, "eval_loss": 0.7})
    file.write(20, {"loss": 0.25})
    file.write(20, {"eval_loss": 0.125})
    assert (tmp_path / "metrics.csv").read_text() == "step,loss,eval_loss\n10,0.5,0.7\n20,0.25,0.125\n"
    with pytest.raises(ValueError, match="step 10 comes after step 20"):
        file.write(10, {"loss": 0.0})


def test_values_that_are_no_numbers_are_kept(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsFile(path).write(1, {"loss": math.nan, "norm": math.inf})
    row = read_metrics(path)[1][1]
    assert math.isnan(row["loss"])
    assert row["norm"] == math.inf


def test_a_file_of_another_kind_is_refused_and_kept(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("name,price\nnut,1\n")
    with pytest.raises(MetricsFileError, match="no column `step`"):
        MetricsFile(path)
    assert path.read_text() == "name,price\nnut,1\n"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_damaged_bytes_never_break_the_reader(tmp_path_factory, tail):
    path = tmp_path_factory.mktemp("m") / "metrics.csv"
    path.write_bytes(b"step,loss\n1,0.5\n" + tail)
    assert 1 in read_metrics(path)[1]
