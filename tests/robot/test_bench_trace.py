# SPDX-License-Identifier: Apache-2.0
"""Every packet written down, shown, and its fate repeated."""

import json
import select
import time

import pytest
import serial
from lerobot_env_koch.bench.assembly import BenchConfig
from lerobot_env_koch.bench.command import _delay_warning
from lerobot_env_koch.bench.control import BenchClient
from lerobot_env_koch.bench.fate import Fate
from lerobot_env_koch.bench.faults import FaultPlan
from lerobot_env_koch.bench.protocol import Instruction, encode
from lerobot_env_koch.bench.replay import ReplayedFaults
from lerobot_env_koch.bench.show_trace import summary
from lerobot_env_koch.bench.trace import Trace, TraceWriter

from lerobot_ext.cli.main import main

SYNC_READ = encode(254, Instruction.SYNC_READ, bytes([7, 0, 1, 0, 1, 2, 3, 4, 5, 6]))
WRITE = encode(2, Instruction.WRITE, bytes([65, 0, 1]))


HEADER = '{"format": "koch bench trace 1"}\n'


def talk(port_path: str, n: int) -> bytes:
    """Everything that comes back for `n` requests."""
    data = b""
    with serial.Serial(port_path, 1_000_000, timeout=0) as port:
        for i in range(n):
            port.write(WRITE if i % 5 == 4 else SYNC_READ)
            while select.select([port], [], [], 0.05 if i < n - 1 else 0.5)[0]:
                data += port.read(4096)
    return data


@pytest.fixture
def trace_path(tmp_path):
    return tmp_path / "bus.jsonl"


SPEC = "drop=0.1,crc=0.1,noise=0.1,truncate=0.1,txdrop=0.1,late_ms=2@0.2,burst=0.1@2"


def test_a_trace_holds_every_packet_and_repeats_its_fate(start_bench, trace_path):
    bench = start_bench(faults=FaultPlan.parse(SPEC), trace=trace_path, seed=3)
    first = talk(bench.ready()["ports"]["follower"], 20)
    stats = bench.buses["follower"].stats
    counts = bench.buses["follower"].faults.counts.as_dict()
    bench.stop()
    trace = Trace.read(trace_path)
    assert FaultPlan.parse(trace.header["faults"]["follower"]) == FaultPlan.parse(SPEC)
    rows = [row for row in trace.rows if row["arm"] == "follower"]
    requests = [row for row in rows if row["dir"] == "in"]
    replies = [row for row in rows if row["dir"] == "out"]
    assert len(requests) == stats.n_instructions == 20
    assert [row["hex"] for row in requests] == [(WRITE if i % 5 == 4 else SYNC_READ).hex() for i in range(20)]
    assert {row["inst"] for row in rows} == {"SYNC_READ", "WRITE"}
    sent = b"".join(
        bytes.fromhex(row.get("got", row["hex"])) for row in replies if "lost" not in row.get("how", {})
    )
    assert sent == first
    assert {row["fate"] for row in replies} >= {"ok", "drop", "crc", "noise", "truncate", "late", "burst"}
    assert [row["t"] for row in requests] == sorted(row["t"] for row in requests)

    again = start_bench(replay=trace_path)
    assert talk(again.ready()["ports"]["follower"], 20) == first
    assert again.buses["follower"].faults.counts.as_dict() == counts


def test_stalls_and_adapter_are_repeated_too(start_bench, trace_path):
    bench = start_bench(
        faults=FaultPlan.parse("stall=150,latency_timer=20,alert=2:voltage"), trace=trace_path
    )
    talk(bench.ready()["ports"]["leader"], 1)
    bench.stop()
    held = Trace.read(trace_path).rows[0]["how"]["late_ms"]
    assert 0 < held <= 150 + 1e-6  # differences of clock readings
    again = start_bench(replay=trace_path)
    assert again.buses["leader"].faults.plan == FaultPlan.parse("latency_timer=20,alert=2:voltage")
    with serial.Serial(again.ready()["ports"]["leader"], 1_000_000, timeout=0) as port:
        start = time.monotonic()
        port.write(SYNC_READ)
        assert select.select([port], [], [], 5.0)[0]
        assert time.monotonic() - start >= held / 1000
    assert again.buses["leader"].faults.counts.stalled == 1


def test_a_replay_takes_no_other_faults(start_bench, trace_path):
    start_bench(trace=trace_path).stop()
    bench = start_bench(replay=trace_path)
    with BenchClient(bench.control.path) as client, pytest.raises(RuntimeError, match="without `--replay`"):
        client.request("fault", spec="drop=0.1")
    with pytest.raises(ValueError, match=r"`faults` .*`replay` exclude each other"):
        BenchConfig(replay=trace_path, faults=FaultPlan(drop=0.1))
    with pytest.raises(ValueError, match="the same file"):
        BenchConfig(replay=trace_path, trace=trace_path)


def test_after_the_end_of_a_trace_everything_arrives(trace_path):
    trace_path.write_text(
        '{"format": "koch bench trace 1", "faults": {"follower": "drop=1"}}\n'
        '{"t": 0, "arm": "follower", "dir": "in", "fate": "txdrop", "how": {"lost": "txdrop"}}\n'
    )
    faults = ReplayedFaults(Trace.read(trace_path), "follower")
    assert [faults.instruction(0.0) for _ in range(3)] == [Fate(lost="txdrop"), Fate(), Fate()]
    assert ReplayedFaults(Trace.read(trace_path), "leader").instruction(0.0) == Fate()


def test_the_port_and_the_faults_are_noted(start_bench, trace_path):
    bench = start_bench(trace=trace_path)
    with BenchClient(bench.control.path) as client:
        client.request("fault", spec="drop=0.5", arm="leader")
        client.request("unplug", arm="leader")
        client.request("plug", arm="leader")
    bench.stop()
    assert [row["what"] for row in Trace.read(trace_path).rows] == ["fault drop=0.5", "unplug", "plug"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no trace"),
        ('{"a": 1}\n', "no trace"),
        (HEADER + "nonsense\n", "line 2"),
        (HEADER + "[1]\n", "line 2 is no JSON object"),
    ],
)
def test_what_is_no_trace_is_refused(trace_path, text, message):
    trace_path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Trace.read(trace_path)
    with pytest.raises(ValueError, match="cannot be read"):
        Trace.read(trace_path.with_name("none.jsonl"))
    with pytest.raises(OSError, match=r"trace .* cannot be written"):
        TraceWriter(trace_path / "below_a_file.jsonl", {})


def test_a_line_that_broke_off_is_left_out(trace_path):
    trace_path.write_text(HEADER + '{"t": 0, "arm": "foll')
    assert Trace.read(trace_path).rows == []


def test_a_trace_is_shown_as_a_table(start_bench, trace_path, capsys):
    bench = start_bench(faults=FaultPlan.parse("drop_every=3"), trace=trace_path)
    talk(bench.ready()["ports"]["follower"], 2)
    bench.stop()
    assert main(["sim", "--show-trace", str(trace_path), "--rows", "3"]) == 0
    text = capsys.readouterr().out
    assert "3 of 14 packets; faults: follower drop_every=3; leader drop_every=3" in text
    assert text.count("SYNC_READ") == 3
    for part in ("drop", "answers", "33.33%", "66.67%", "instructions"):
        assert part in text, part
    assert main(["sim", "--show-trace", str(trace_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {"arm": "follower", "dir": "out", "fate": "drop", "n": 4} in answer["summary"]
    assert answer["summary"] == summary(answer["rows"])
    assert main(["sim", "--show-trace", str(trace_path.with_name("none"))]) == 2
    assert "--trace FILE.jsonl" in capsys.readouterr().err


def test_a_machine_that_is_too_slow_is_told_so():
    def status(n_late: int) -> dict:
        bus = {"n_late": n_late, "n_stalls": 1, "n_status": 3000, "max_late_ms": 11.0, "max_stall_ms": 41.5}
        return {"buses": {"follower": bus}}

    assert _delay_warning(status(2)) == ""
    text = _delay_warning(status(3))
    assert "4 times in 3000 replies (at worst by 41.5 ms)" in text
    assert "--cameras none" in text
