# SPDX-License-Identifier: Apache-2.0
"""What an observation costs over the wire: this package's messages and LeRobot's pickle, side by side.

    uv run python benchmarks/async_inference.py [--quick] [--rounds 200] [--out DIR]

Two 640x480 cameras and six joints go to a server in a process of its own on loopback and a chunk of 50
actions comes back, over the same gRPC service; a policy that takes no time answers. The contestants take
turns within one run, so that a busy machine weighs on all of them: LeRobot's pickle (the calls its server
gets, a chunk of `TimedAction`s back), ours with raw pictures, ours with JPEG. Prints a table, writes JSON and
PNG with `--out`, and ends with the line `async_inference: …`. The pickles are the benchmark's own; nothing
else reaches this server.
"""

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from lerobot.async_inference.helpers import TimedAction, TimedObservation
from lerobot.transport import services_pb2, services_pb2_grpc
from lerobot.transport.utils import receive_bytes_in_chunks, send_bytes_in_chunks

from lerobot_ext.serving.chunked import common_options, receive_limited
from lerobot_ext.serving.messages import Chunk, Feature, Observation, Welcome, read_answer

JOINTS = tuple(f"joint_{i}.pos" for i in range(6))
CAMERAS = ("top", "wrist")
SHAPE = (480, 640, 3)
CHUNK = 50
CONTESTANTS = ("pickle", "lerobot_ext", "lerobot_ext_jpeg")
TITLES = {
    "pickle": "LeRobot 0.6.1 (pickle)",
    "lerobot_ext": "lerobot_ext, raw pictures",
    "lerobot_ext_jpeg": "lerobot_ext, JPEG 90",
}


def welcome(*, jpeg: bool) -> Welcome:
    """What our server would ask for."""
    wanted = {"observation.state": Feature("F32", (6,), JOINTS)}
    wanted |= {f"observation.images.{name}": Feature("U8", SHAPE) for name in CAMERAS}
    return Welcome("bench", "act", wanted, jpeg, 1, CHUNK, JOINTS, 10.0)


def pictures() -> dict[str, np.ndarray]:
    """Smooth pictures with some noise: what a camera gives compresses, but not to nothing."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    made = {}
    for shift, name in enumerate(CAMERAS):
        waves = [127 + 80 * np.sin((rows + columns * (k + 1)) / 60 + shift) for k in range(3)]
        noise = rng.normal(0, 4, SHAPE)
        made[name] = np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)
    return made


class Server(services_pb2_grpc.AsyncInferenceServicer):
    """Decodes what arrives as each server does, and answers with a chunk as each does."""

    def __init__(self) -> None:
        self.kind = ""
        self.answer = b""
        self.never = type("Never", (), {"is_set": lambda _: False})()

    def SendPolicyInstructions(self, request: Any, context: Any) -> Any:  # noqa: N802 - LeRobot's name
        """Which contestant comes next."""
        self.kind = request.data.decode()
        return services_pb2.Empty()

    def SendObservations(self, request: Any, context: Any) -> Any:  # noqa: N802 - LeRobot's name
        """Decode an observation."""
        actions = np.zeros((CHUNK, len(JOINTS)), np.float32)
        if self.kind == "pickle":
            got = pickle.loads(receive_bytes_in_chunks(request, None, self.never))
            step, stamp = got.get_timestep(), got.get_timestamp()
            chunk = [TimedAction(stamp, step + i, torch.from_numpy(row)) for i, row in enumerate(actions)]
            self.answer = pickle.dumps(chunk)
        else:
            asked = welcome(jpeg=self.kind == "lerobot_ext_jpeg")
            ours = Observation.decode(receive_limited(request, asked.largest_observation()), asked)
            self.answer = Chunk(ours.timestep, ours.timestamp, actions, 0.0).encode()
        return services_pb2.Empty()

    def GetActions(self, request: Any, context: Any) -> Any:  # noqa: N802 - LeRobot's name
        """The chunk."""
        return services_pb2.Actions(data=self.answer)


def serve() -> None:
    """Serve until the parent closes our stdin."""
    server = grpc.server(futures.ThreadPoolExecutor(4), options=common_options())
    services_pb2_grpc.add_AsyncInferenceServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()


def coders(frames: dict[str, np.ndarray]) -> dict[str, tuple[Callable[[int], bytes], Callable[[bytes], Any]]]:
    """How each contestant writes an observation and reads a chunk."""
    state = np.arange(6, dtype=np.float32)
    raw = {**dict(zip(JOINTS, state.tolist(), strict=True)), **frames, "task": "lift the cube"}
    named = {"observation.state": state, **{f"observation.images.{k}": v for k, v in frames.items()}}

    def pickled(step: int) -> bytes:
        return pickle.dumps(TimedObservation(timestamp=time.time(), timestep=step, observation=raw))

    def ours(jpeg: bool) -> tuple[Callable[[int], bytes], Callable[[bytes], Any]]:
        asked = welcome(jpeg=jpeg)
        return (
            lambda step: Observation(step, time.monotonic(), "lift the cube", [named]).encode(asked),
            lambda data: read_answer(data, asked),
        )

    return {"pickle": (pickled, pickle.loads), "lerobot_ext": ours(False), "lerobot_ext_jpeg": ours(True)}


def round_trip(
    stub: Any, write: Callable[[int], bytes], read: Callable[[bytes], Any], step: int
) -> dict[str, float]:
    """One observation there and one chunk back, in milliseconds, and what travelled."""
    started = time.perf_counter()
    data = write(step)
    written = time.perf_counter()
    stub.SendObservations(send_bytes_in_chunks(data, services_pb2.Observation))
    read(stub.GetActions(services_pb2.Empty()).data)
    ended = time.perf_counter()
    return {"trip_ms": (ended - started) * 1e3, "write_ms": (written - started) * 1e3, "bytes": len(data)}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """All contestants in turn, `rounds` times."""
    child = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    port = int(child.stdout.readline())
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=common_options()) as channel:
            stub = services_pb2_grpc.AsyncInferenceStub(channel)
            code = coders(pictures())
            order = np.random.default_rng(1)
            for step in range(rounds + 3):
                for name in order.permutation(CONTESTANTS):
                    stub.SendPolicyInstructions(services_pb2.PolicySetup(data=name.encode()))
                    trip = round_trip(stub, *code[name], step)
                    if step >= 3:  # the first ones warm up
                        spent[name].append(trip)
    finally:
        child.communicate(timeout=300)
    return {name: summarise(rows) for name, rows in spent.items()}


def summarise(rows: list[dict[str, float]]) -> dict[str, float]:
    """Median and 95th percentile, round trips a second, megabytes."""
    trips = sorted(row["trip_ms"] for row in rows)
    return {
        "p50_ms": statistics.median(trips),
        "p95_ms": trips[min(len(trips) - 1, int(0.95 * len(trips)))],
        "write_p50_ms": statistics.median(row["write_ms"] for row in rows),
        "per_s": 1e3 * len(trips) / sum(trips),
        "megabytes": statistics.median(row["bytes"] for row in rows) / 1e6,
        "rounds": len(trips),
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """The contestants as Markdown."""
    lines = [
        "| messages | MB | write, ms | round trip, ms | p95, ms | a second |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {TITLES[name]} | {row['megabytes']:.3f} | {row['write_p50_ms']:.2f} | {row['p50_ms']:.1f} | "
        f"{row['p95_ms']:.1f} | {row['per_s']:.0f} |"
        for name, row in results.items()
    ]
    return "\n".join(lines)


def last_line(results: dict[str, dict[str, float]]) -> str:
    """What pickle and JPEG are worth."""
    ratio = results["lerobot_ext"]["p50_ms"] / results["pickle"]["p50_ms"]
    smaller = results["pickle"]["megabytes"] / results["lerobot_ext_jpeg"]["megabytes"]
    return (
        f"async_inference: without pickle a round trip takes {ratio:.2f} times as long (median of "
        f"{results['pickle']['rounds']:.0f}); JPEG is {smaller:.0f} times smaller"
    )


def draw(results: dict[str, dict[str, float]], path: Path) -> None:
    """Round trips as bars, with their 95th percentile."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 2.6), layout="constrained")
    names = [f"{TITLES[name]}\n{row['megabytes']:.2f} MB" for name, row in results.items()]
    p50 = [row["p50_ms"] for row in results.values()]
    above = [row["p95_ms"] - row["p50_ms"] for row in results.values()]
    axes.barh(names, p50, xerr=[[0] * len(p50), above], color=["#b0b0b0", "#2a7f9e", "#7fb7be"], capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel("ms for one observation there and one chunk back (median, whisker: p95)")
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure, print the table, write JSON and picture where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: proves that it runs")
    parser.add_argument("--rounds", type=int, default=200, help="round trips a contestant")
    parser.add_argument("--out", type=Path, help="folder for async_inference.json and .png")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return 0
    results = measure(20 if args.quick else args.rounds)
    print(table(results))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "async_inference.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        draw(results, args.out / "async_inference.png")
    print(last_line(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
