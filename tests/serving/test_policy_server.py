# SPDX-License-Identifier: Apache-2.0
"""What a server refuses, over real gRPC; and that a refused call harms nobody."""

import ast
import json
import os
import pickle
import secrets
import struct
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from lerobot.transport import services_pb2, services_pb2_grpc
from lerobot.transport.utils import TransferState, send_bytes_in_chunks

import lerobot_ext.serving
from lerobot_ext.cli.command import CommandError
from lerobot_ext.serving.access import Token
from lerobot_ext.serving.codec import encode
from lerobot_ext.serving.messages import Observation, Welcome, Wish, read_answer
from lerobot_ext.serving.robot_client import to_frame

TOKEN = Token("0123456789abcdef0123")


class RawClient:
    """Calls the service as any program could."""

    def __init__(self, address, token="", session=None):
        self.channel = grpc.insecure_channel(address)
        self.stub = services_pb2_grpc.AsyncInferenceStub(self.channel)
        self.session = session if session is not None else secrets.token_hex(16)
        self.metadata = [("x-lerobot-session", self.session)] if self.session else []
        if token:
            self.metadata.append(("authorization", f"Bearer {token}"))

    def ready(self):
        return self.stub.Ready(services_pb2.Empty(), metadata=self.metadata, timeout=20)

    def instruct(self, data: bytes):
        return self.stub.SendPolicyInstructions(
            services_pb2.PolicySetup(data=data), metadata=self.metadata, timeout=60
        )

    def send(self, data: bytes):
        return self.pieces(send_bytes_in_chunks(data, services_pb2.Observation))

    def pieces(self, pieces):
        return self.stub.SendObservations(iter(pieces), metadata=self.metadata, timeout=20)

    def answer(self) -> bytes:
        return self.stub.GetActions(services_pb2.Empty(), metadata=self.metadata, timeout=60).data

    def join(self, join) -> Welcome:
        self.instruct(join.encode())
        return read_answer(self.answer(), None)


def refused(code, why, call, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    assert caught.value.code() == code, caught.value.details()
    assert why in caught.value.details()


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def joined(serve, act_checkpoint, make_join, robot):
    """A server, a client that joined, and what it was told."""
    with serve([act_checkpoint], poll_s=0.2) as (service, address):
        client = RawClient(address)
        yield service, client, client.join(make_join(robot))


def observation(robot, welcome, timestep=0) -> bytes:
    frame = to_frame(robot.get_observation(), welcome.wanted)
    return Observation(timestep, 1.0, "reach", [frame]).encode(welcome)


def test_a_welcome_says_what_to_send(joined):
    _, _, welcome = joined
    assert welcome.policy_type == "act"
    assert welcome.chunk_size == 20
    assert welcome.frames == 1
    assert {name: feature.shape for name, feature in welcome.wanted.items()} == {
        "observation.state": (6,),
        "observation.images.top": (24, 32, 3),
    }


def test_an_observation_is_answered_with_its_chunk(joined, robot):
    service, client, welcome = joined
    client.send(observation(robot, welcome, timestep=4))
    chunk = read_answer(client.answer(), welcome)
    assert (chunk.timestep, chunk.timestamp, chunk.actions.shape) == (4, 1.0, (20, 6))
    assert service.counts.chunks == 1
    assert client.answer() == b""  # nothing new: an empty answer, as LeRobot's server gives


def test_the_newest_observation_counts(joined, robot):
    service, client, welcome = joined
    for timestep in (1, 2, 3):
        client.send(observation(robot, welcome, timestep))
    assert read_answer(client.answer(), welcome).timestep == 3
    assert service.counts.skipped == 2


def hostile_pickle(marker: Path) -> bytes:
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    return pickle.dumps(Bomb())


def test_a_pickle_that_stock_would_run_is_refused_unread(joined, tmp_path):
    """The attack on LeRobot's own server: first the instructions, then an observation."""
    service, client, _ = joined
    marker = tmp_path / "owned"
    attack = hostile_pickle(marker)
    refused(INVALID, "pickle", client.instruct, attack)
    refused(INVALID, "pickle", client.send, attack)
    assert not marker.exists()
    assert service.counts.refused == 2
    client.ready()  # the session goes on


def test_stocks_server_runs_that_pickle(tmp_path, monkeypatch):
    """Why this server exists: LeRobot 0.6.1 unpickles whatever arrives (CVE-2026-25874)."""
    monkeypatch.chdir(tmp_path)  # its modules make a folder of logs where they are imported
    from lerobot.async_inference.configs import PolicyServerConfig
    from lerobot.async_inference.policy_server import PolicyServer

    marker = tmp_path / "owned"

    class Context:
        def peer(self):
            return "stranger"

    stock = PolicyServer(PolicyServerConfig())
    request = services_pb2.PolicySetup(data=hostile_pickle(marker))
    with pytest.raises(TypeError, match="RemotePolicyConfig"):
        stock.SendPolicyInstructions(request, Context())
    assert marker.exists()


def test_stocks_server_refuses_plugin_policies():
    from lerobot.async_inference.constants import SUPPORTED_POLICIES

    assert "hierarchical_diffusion" not in SUPPORTED_POLICIES


def test_nothing_in_the_package_can_unpickle():
    """No import of a module that runs what it reads, and no call of eval and its like."""
    banned_modules = {
        "pickle",
        "cPickle",
        "_pickle",
        "dill",
        "cloudpickle",
        "marshal",
        "shelve",
        "joblib",
        "yaml",
    }
    banned_calls = {"eval", "exec", "compile", "__import__"}
    banned_attributes = {("torch", "load"), ("np", "load"), ("numpy", "load")}
    stock = ("lerobot.async_inference.policy_server", "lerobot.async_inference.robot_client")
    files = sorted(Path(lerobot_ext.serving.__file__).parent.glob("**/*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
                assert node.module != "lerobot.transport.utils" or {alias.name for alias in node.names} <= {
                    "send_bytes_in_chunks"
                }, file
            for name in imported:
                assert name.partition(".")[0] not in banned_modules, (file, name)
                assert name not in stock, (file, name)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in banned_calls, (file, node.lineno)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in banned_attributes, (file, node.lineno)


def test_calls_without_the_token_are_refused_before_they_are_read(
    serve, act_checkpoint, make_join, robot, tmp_path
):
    marker = tmp_path / "owned"
    with serve([act_checkpoint], token=TOKEN) as (service, address):
        for token in ("", "wrong", "0123456789abcdef012", "0123456789abcdef01234"):
            client = RawClient(address, token)
            for call in (
                client.ready,
                client.answer,
                lambda client=client: client.instruct(hostile_pickle(marker)),
                lambda client=client: client.send(hostile_pickle(marker)),
                lambda client=client: client.instruct(make_join(robot).encode()),
            ):
                refused(grpc.StatusCode.UNAUTHENTICATED, "token", call)
        assert service.counts.refused == 20
        assert service.driver is None
        assert RawClient(address, "0123456789abcdef0123").join(make_join(robot)).policy_type == "act"
    assert not marker.exists()


def test_a_call_without_a_session_is_told_which_client_to_use(serve, act_checkpoint):
    with serve([act_checkpoint]) as (_, address):
        for session in ("", "x", "A" * 32, "0" * 33):
            refused(INVALID, "lerobot-ext robot-client", RawClient(address, session=session).ready)


def test_a_client_that_did_not_join_gets_nothing(joined, robot):
    _, client, welcome = joined
    stranger = RawClient.__new__(RawClient)
    stranger.stub, stranger.metadata = client.stub, [("x-lerobot-session", secrets.token_hex(16))]
    for call in (
        stranger.ready,
        stranger.answer,
        lambda: stranger.send(observation(robot, welcome)),
        lambda: stranger.instruct(Wish("reset").encode()),
    ):
        refused(grpc.StatusCode.FAILED_PRECONDITION, "join", call)
    stranger.instruct(Wish("leave").encode())  # leaving for somebody else changes nothing
    client.ready()


@pytest.mark.parametrize(
    "name",
    ["../../etc", "/etc", "user/repo", "pretrained_model/../pretrained_model", "pretrained_model/", "~"],
)
def test_policies_that_are_not_listed_are_refused(serve, act_checkpoint, make_join, robot, name):
    with serve([act_checkpoint]) as (service, address):
        client = RawClient(address)
        refused(
            grpc.StatusCode.PERMISSION_DENIED,
            "not on this server's list",
            client.instruct,
            make_join(robot, policy=name).encode(),
        )
        assert service.driver is None


def test_oversize_observations_end_at_the_limit(joined):
    _, client, welcome = joined
    limit = welcome.largest_observation()
    sent = []

    def endless():
        for _ in range(1000):
            sent.append(1)
            yield services_pb2.Observation(
                transfer_state=TransferState.TRANSFER_MIDDLE
                if len(sent) > 1
                else TransferState.TRANSFER_BEGIN,
                data=b"\0" * 100_000,
            )

    refused(INVALID, f"longer than {limit} bytes", client.pieces, endless())
    assert len(sent) < 100
    refused(INVALID, "longer than", client.send, b"\0" * (limit + 1))


def piece(state: int, data: bytes = b"x"):
    return services_pb2.Observation(transfer_state=state, data=data)


@pytest.mark.parametrize("states", [[2], [2, 3], [1, 1, 3], [1], [0], [1, 0], []])
def test_pieces_out_of_order_are_refused(joined, states):
    refused(INVALID, "piece", joined[1].pieces, [piece(state) for state in states])


def test_an_observation_that_never_ends_is_cut_off(serve, act_checkpoint, make_join, robot):
    with serve([act_checkpoint]) as (service, address):
        service._receive_s = 0.3
        client = RawClient(address)
        client.join(make_join(robot))
        hurry = threading.Event()

        def trickle():
            yield piece(TransferState.TRANSFER_BEGIN)
            hurry.wait(20)

        with pytest.raises(grpc.RpcError) as caught:
            client.pieces(trickle())
        hurry.set()
        assert caught.value.code() == grpc.StatusCode.CANCELLED
        client.ready()


def test_wrong_tensors_are_refused_by_name(joined, robot):
    _, client, welcome = joined
    frame = to_frame(robot.get_observation(), welcome.wanted)
    good = {f"0/{name}": value for name, value in frame.items()}
    head = {"kind": "observation", "timestep": 0, "timestamp": 0.0, "task": ""}
    for change, why in [
        ({"0/observation.state": np.zeros(7, np.float32)}, "it must be F32 [6]"),
        ({"0/observation.state": np.zeros(6, np.uint8)}, "it must be F32 [6]"),
        ({"0/observation.state": np.full(6, np.nan, np.float32)}, "NaN"),
        ({"0/observation.images.top": np.zeros((32, 24, 3), np.uint8)}, "it must be U8 [24, 32, 3]"),
        ({"0/observation.images.other": np.zeros((24, 32, 3), np.uint8)}, "observation.images.other"),
    ]:
        refused(INVALID, why, client.send, encode(head, {**good, **change}))
    refused(
        INVALID, "missing", client.send, encode(head, {"0/observation.state": frame["observation.state"]})
    )


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b'{"kind": "join", "kind": "leave"}', "twice"),
        (b'{"kind": "leave", "n": NaN}', "NaN"),
        (b'{"kind": "shutdown"}', "must be join, reset or leave"),
        (b"[" * 60_000, "deeper"),
    ],
)
def test_hostile_headers_are_refused(joined, header, why):
    refused(INVALID, why, joined[1].instruct, b"LRX1" + struct.pack("<I", len(header)) + header)


def test_names_that_could_play_tricks_on_a_terminal_are_refused(joined, make_join, robot):
    """They would reach the operator's log and status line."""
    client = joined[1]
    for change in (
        {"robot_type": "\x1b]0;owned\x07"},
        {"action_names": ("a\nb.pos",)},
        {"policy": "a\rb"},
        {"rename_map": {"x": "\x1b[2J"}},
    ):
        refused(INVALID, "must", client.instruct, make_join(robot, **change).encode())


def test_two_servers_do_not_share_a_port(serve, act_checkpoint):
    """By default gRPC lets them, and each gets half of the calls."""
    with (
        serve([act_checkpoint]) as (_, address),
        pytest.raises(CommandError, match="cannot listen"),
        serve([act_checkpoint], port=int(address[10:])),
    ):
        pass


def test_a_policy_whose_observations_are_too_large_is_refused_at_the_join(
    serve, act_checkpoint, make_join, robot
):
    with serve([act_checkpoint]) as (service, address):
        service._max_message = 100_000
        refused(INVALID, "--max-megabytes", RawClient(address).instruct, make_join(robot).encode())
        assert service.driver is None


def test_a_call_larger_than_lerobots_pieces_is_not_read(serve, act_checkpoint):
    """Before the token is asked for, too: 4 MiB is what a stranger can make the server read."""
    with serve([act_checkpoint], token=TOKEN) as (_, address):
        client = RawClient(address)
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max", client.instruct, b"x" * 5_000_000)
        refused(grpc.StatusCode.UNAUTHENTICATED, "token", client.instruct, b"x" * 4_000_000)


def test_a_header_length_beyond_the_message_is_refused(joined):
    refused(INVALID, "claims", joined[1].instruct, b"LRX1" + b"\xff" * 4)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"size": (48, 64)}, "`observation.images.top` is [3, 48, 64], the policy takes [3, 24, 32]"),
        ({"state": ("a.pos", "b.pos")}, "`observation.state` is [2], the policy takes [6]"),
    ],
)
def test_a_robot_that_does_not_fit_is_told_what_differs(
    serve, act_checkpoint, make_join, make_robot, change, why
):
    with serve([act_checkpoint]) as (service, address):
        refused(INVALID, why, RawClient(address).instruct, make_join(make_robot(**change)).encode())
        assert service.driver is None  # it does not block others


def test_a_missing_camera_and_wrong_actions_are_named(serve, act_checkpoint, make_join, robot):
    with serve([act_checkpoint]) as (_, address):
        join = make_join(robot)
        blind = {name: feature for name, feature in join.features.items() if "images" not in name}
        refused(
            INVALID,
            "`observation.images.top` [3, 24, 32] is missing",
            RawClient(address).instruct,
            make_join(robot, features=blind).encode(),
        )
        refused(
            INVALID,
            "the policy gives 6 actions, the robot takes 1",
            RawClient(address).instruct,
            make_join(robot, action_names=("a.pos",)).encode(),
        )


def test_names_can_be_mapped_and_pictures_scaled(serve, act_checkpoint, make_join, make_robot):
    robot = make_robot(size=(48, 64))
    join = make_join(robot, resize=True)
    renamed = {name.replace("top", "front"): feature for name, feature in join.features.items()}
    join = make_join(
        robot,
        features=renamed,
        resize=True,
        rename_map={"observation.images.front": "observation.images.top"},
    )
    with serve([act_checkpoint]) as (_, address):
        welcome = RawClient(address).join(join)
    assert welcome.wanted["observation.images.front"].shape == (24, 32, 3)


def test_what_the_policy_does_not_need_is_not_asked_for(serve, act_checkpoint, make_join, robot):
    join = make_join(robot)
    more = {**join.features, "observation.images.spare": join.features["observation.images.top"]}
    with serve([act_checkpoint]) as (_, address):
        welcome = RawClient(address).join(make_join(robot, features=more))
    assert sorted(welcome.wanted) == ["observation.images.top", "observation.state"]


def test_a_second_client_is_refused_until_the_first_dies(serve, act_checkpoint, make_join, robot):
    with serve([act_checkpoint], lease_s=3.0) as (_, address):
        first, second = RawClient(address), RawClient(address)
        first.join(make_join(robot))
        refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "another client drives",
            second.instruct,
            make_join(robot).encode(),
        )
        time.sleep(3.3)  # without a sign of life
        assert second.join(make_join(robot)).policy_type == "act"
        refused(grpc.StatusCode.FAILED_PRECONDITION, "join again", first.ready)


def test_of_many_clients_at_once_one_drives(serve, act_checkpoint, make_join, robot):
    outcomes = []
    with serve([act_checkpoint]) as (service, address):
        start = threading.Barrier(6)

        def attempt():
            client = RawClient(address)
            start.wait(30)
            try:
                outcomes.append(client.join(make_join(robot)).policy_type)
            except grpc.RpcError as error:
                outcomes.append(error.code())

        threads = [threading.Thread(target=attempt) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(map(str, outcomes)) == ["StatusCode.RESOURCE_EXHAUSTED"] * 5 + ["act"]
    assert service.counts.sessions == 1


def test_a_policy_is_loaded_once(serve, act_checkpoint, make_join, robot, host):
    with serve([act_checkpoint]) as (_, address):
        for _ in range(3):
            client = RawClient(address)
            client.join(make_join(robot))
            client.instruct(Wish("leave").encode())
    assert host.n_loads <= 1


def test_an_answer_nobody_waits_for_is_not_lost(serve, act_checkpoint, make_join, robot):
    """A call for actions of a connection that broke must not take the next observation with it."""

    def ask(n_calls):
        call = client.stub.GetActions.future(services_pb2.Empty(), metadata=client.metadata, timeout=90)
        while service.driver._last_call < n_calls:  # it waits over there
            time.sleep(0.01)
        return call

    with serve([act_checkpoint], poll_s=60.0) as (service, address):
        client = RawClient(address)
        welcome = client.join(make_join(robot))
        forgotten, waiting = ask(2), ask(3)
        client.send(observation(robot, welcome, timestep=9))
        assert read_answer(waiting.result(60).data, welcome).timestep == 9
        assert forgotten.result(60).data == b""


def test_a_policy_that_fails_is_named_and_the_server_lives(joined, robot, monkeypatch):
    service, client, welcome = joined
    policy = service.driver.policy._policy

    def explode(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(policy, "predict_action_chunk", explode)
    client.send(observation(robot, welcome))
    refused(grpc.StatusCode.ABORTED, "out of memory", client.answer)
    monkeypatch.undo()
    client.send(observation(robot, welcome))
    assert client.answer()


def test_actions_that_are_not_numbers_never_reach_the_robot(joined, robot, monkeypatch):
    service, client, welcome = joined
    policy = service.driver.policy._policy
    whole = policy.predict_action_chunk
    monkeypatch.setattr(policy, "predict_action_chunk", lambda batch: whole(batch) * float("nan"))
    client.send(observation(robot, welcome))
    refused(grpc.StatusCode.ABORTED, "NaN", client.answer)


def test_an_old_checkpoint_is_refused_with_the_migration(serve, act_checkpoint, tmp_path, make_join, robot):
    import shutil

    old = shutil.copytree(act_checkpoint, tmp_path / "old")
    (old / "policy_preprocessor.json").unlink()
    with serve([old]) as (_, address):
        refused(
            grpc.StatusCode.ABORTED,
            "migrate_policy_normalization",
            RawClient(address).instruct,
            make_join(robot).encode(),
        )


def test_a_type_that_is_not_installed_is_named(serve, act_checkpoint, tmp_path, make_join, robot):
    import shutil

    foreign = shutil.copytree(act_checkpoint, tmp_path / "foreign")
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps({**config, "type": "from_mars"}))
    with serve([foreign]) as (_, address):
        refused(grpc.StatusCode.ABORTED, "from_mars", RawClient(address).instruct, make_join(robot).encode())
