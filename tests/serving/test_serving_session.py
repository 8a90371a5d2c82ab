# SPDX-License-Identifier: Apache-2.0
"""Server and client in one process, over real gRPC: a robot on paper is driven by a saved policy."""

import json
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
import trustme
from lerobot.policies import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import prepare_observation_for_inference
from serving_checkpoints import JOINTS, TARGET, features, save, save_act
from slow_proxy import SlowProxy

from lerobot_ext.cli.command import CommandError
from lerobot_ext.serving.access import Token
from lerobot_ext.serving.link import Link, LinkError, Server
from lerobot_ext.serving.messages import Feature, Observation
from lerobot_ext.serving.robot_client import Pace, RobotClient, to_frame
from lerobot_ext.serving.timesteps import TimestepQueue

TOKEN = Token("0123456789abcdef0123")


def newer(old, new):
    return new


class Drive:
    """A client that drives `robot` in a thread of its own."""

    def __init__(
        self,
        robot,
        join,
        address,
        *,
        seconds=60.0,
        give_up_s=60.0,
        trace=None,
        say=print,
        threshold=0.5,
        fps=30.0,
        **server,
    ):
        self.robot, self.trace = robot, trace
        self.stop = threading.Event()
        self.queue = TimestepQueue(newer)
        self.link = Link(Server(address, **server), join, self.queue, give_up_s, say=say)
        self.client = None
        self.error = None
        self.pace = Pace(fps, seconds, threshold, "reach")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.link.start()
            if self.link.wait_until_welcome(self.stop) is None:
                return
            self.robot.connect()
            self.client = RobotClient(self.robot, self.link, self.queue, self.pace, self.trace)
            self.client.run(self.stop)
        except LinkError as error:
            self.error = error
        finally:
            self.link.close()

    def until(self, condition, timeout_s=60.0):
        """Wait for `condition(self)`."""
        end = time.monotonic() + timeout_s
        while not condition(self):
            assert self._thread.is_alive(), self.error
            assert time.monotonic() < end, "it did not come to pass"
            time.sleep(0.01)

    def end(self, timeout_s=60.0):
        """Wait for its own end."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()

    @property
    def actions(self) -> int:
        return self.client.counts.actions if self.client is not None else 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.end()


@pytest.fixture
def drive(make_join):
    def make(robot, address, *, join=None, **options) -> Drive:
        return Drive(robot, join or make_join(robot), address, **options)

    return make


def executed(trace) -> list[int]:
    return [json.loads(line)["action"] for line in trace.read_text().splitlines()]


def rise(numbers: list[int]) -> bool:
    return all(later > earlier for earlier, later in pairwise(numbers))


def test_a_stock_policy_drives_the_robot(serve, drive, robot, act_checkpoint, tmp_path):
    trace = tmp_path / "trace.jsonl"
    with serve([act_checkpoint]) as (service, address):
        with drive(robot, address, trace=trace) as session:
            session.until(lambda it: it.actions >= 45)
        assert service.driver is None  # the client gave its session back
    assert list(robot.joints.values()) == pytest.approx(TARGET, abs=1e-4)
    assert list(robot.actions[0]) == list(JOINTS)
    assert rise(executed(trace))
    assert service.counts.sessions == 1
    assert session.link.counts.chunks >= 2


def test_what_arrives_is_what_the_policy_says(serve, make_join, make_robot, tmp_path):
    """Random weights: the chunk over the wire is the one the policy gives where it stands, bit for bit."""
    shapes = features()
    small = {"chunk_size": 8, "n_action_steps": 8, "dim_model": 16, "n_heads": 2, "dim_feedforward": 32}
    folder = save(tmp_path / "act", "act", shapes, pretrained_backbone_weights=None, **small)
    robot = make_robot()
    robot.joints["elbow.pos"] = 0.5
    frame = to_frame(robot.get_observation(), make_join(robot).features)
    policy = get_policy_class("act").from_pretrained(folder)
    pre, post = make_pre_post_processors(policy.config, pretrained_path=str(folder))
    with torch.inference_mode():
        batch = pre(prepare_observation_for_inference(dict(frame), torch.device("cpu"), "reach", "paper"))
        chunk = policy.predict_action_chunk(batch)
        expected = torch.stack([post(chunk[:, step]) for step in range(8)], dim=1)[0].numpy()

    with serve([folder]) as (_, address):
        queue = TimestepQueue(newer)
        link = Link(Server(address), make_join(robot), queue, give_up_s=20)
        link.start()
        link.wait_until_welcome(threading.Event())
        link.offer(Observation(0, time.monotonic(), "reach", [frame]))
        end = time.monotonic() + 60
        while len(queue) < 8 and time.monotonic() < end:
            time.sleep(0.01)
        link.close()
    np.testing.assert_array_equal(np.stack([queue.pop()[1] for _ in range(8)]), expected)


def test_a_plugin_policy_drives_a_robot_with_a_tracker(serve, drive, make_robot, tmp_path):
    """Its preprocessor splits the tracker's values off the state; stock's server refuses its type."""
    small = dict.fromkeys(("safety_dim", "dynamics_dim", "manipulation_dim", "planning_dim"), 16)
    small |= {"condition_dim": 16, "denoiser_dim": 32, "denoiser_depth": 2, "attention_heads": 2}
    import lerobot_policy_hierarchical_diffusion  # noqa: F401 - registers it, as LeRobot's discovery does

    folder = save(tmp_path / "hd", "hierarchical_diffusion", features(camera=None, env=3), **small)
    robot = make_robot(state=(*JOINTS, "cube_x.pos", "cube_y.pos", "cube_z.pos"))
    with serve([folder]) as (_, address), drive(robot, address) as session:
        session.until(lambda it: it.actions >= 20)
    welcome = session.link.welcome
    assert welcome.policy_type == "hierarchical_diffusion"
    assert list(welcome.wanted) == ["observation.state"]  # the camera is not asked for
    assert welcome.wanted["observation.state"].shape == (9,)


def test_a_policy_that_looks_back_gets_the_frames_it_wants(serve, drive, make_robot, make_join, tmp_path):
    """Stock diffusion with two observation steps: as `select_action` over the same two frames."""
    shapes, robot = features(camera=(64, 64)), make_robot(size=(64, 64))
    small = {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4, "num_inference_steps": 2}
    small |= {"down_dims": (16, 32), "crop_shape": None, "pretrained_backbone_weights": None}
    small |= {"drop_n_last_frames": 3, "spatial_softmax_num_keypoints": 4}
    folder = save(tmp_path / "diffusion", "diffusion", shapes, **small)
    with serve([folder]) as (service, address):
        with drive(robot, address) as session:
            session.until(lambda it: it.actions >= 12)
        assert session.link.welcome.frames == 2
        host_policy = service._host.load(service._allowed.find(""))
        frames = []
        for value in (0.1, 0.2):
            robot.joints["pan.pos"] = value
            frames.append(to_frame(robot.get_observation(), make_join(robot).features))
        served = service._host.open(service._allowed.find(""), make_join(robot), 10.0)
        torch.manual_seed(0)
        got = served.chunk(Observation(0, 0.0, "reach", frames)).actions
    pre, post = make_pre_post_processors(host_policy.config, pretrained_path=str(folder))
    host_policy.reset()
    expected = []
    with torch.inference_mode():
        for frame in frames:
            torch.manual_seed(0)
            host_policy._queues["action"].clear()
            batch = pre(prepare_observation_for_inference(dict(frame), torch.device("cpu"), "reach", "paper"))
            expected = [post(host_policy.select_action(batch))]
        expected += [post(action) for action in host_policy._queues["action"]]
    np.testing.assert_allclose(got, torch.cat(expected).numpy(), atol=1e-6)


def test_after_a_dropped_connection_no_action_is_repeated(serve, drive, robot, act_checkpoint, tmp_path):
    trace, said = tmp_path / "trace.jsonl", []
    with serve([act_checkpoint]) as (service, address), SlowProxy(int(address[10:]), 0.02) as proxy:
        with drive(robot, proxy.address, trace=trace, say=said.append) as session:
            for round_ in range(1, 4):
                session.until(lambda it: it.actions >= 5)
                proxy.refuses = True
                proxy.drop()
                session.until(lambda it: not it.link.connected)
                proxy.refuses = False
                session.until(lambda it, n=round_: it.link.counts.connections == n + 1)
                session.until(lambda it, n=session.actions: it.actions > n + 10)
        assert service.counts.sessions == 1  # the lease was kept: the policy was not reset
    numbers = executed(trace)
    assert rise(numbers)
    assert len(numbers) == session.actions == len(robot.actions)
    assert any("lost" in line for line in said)
    assert any("again" in line for line in said)


def test_the_queue_goes_on_and_then_the_robot_holds_while_the_server_is_away(
    serve, drive, robot, act_checkpoint, tmp_path
):
    trace = tmp_path / "trace.jsonl"
    with serve([act_checkpoint]) as (_, address):
        port = int(address[10:])
        session = drive(robot, address, trace=trace)
        session.until(lambda it: it.actions >= 5)
    left_at = session.actions
    session.until(lambda it: it.client.counts.held >= 3)
    held_at = session.actions
    with serve([act_checkpoint], port=port) as (service, _), session:
        session.until(lambda it: it.actions >= held_at + 10)
        assert service.counts.sessions == 1  # another server, the same session
    assert held_at > left_at  # what was queued was executed meanwhile
    assert rise(executed(trace))


def test_it_gives_up_after_the_time_it_was_given(serve, drive, robot, act_checkpoint):
    with serve([act_checkpoint]) as (_, address):
        session = drive(robot, address, give_up_s=0.5)
        session.until(lambda it: it.actions >= 3)
    session.end()
    assert "has been gone for" in str(session.error)
    assert "--give-up-s" in str(session.error)


def test_nobody_there_is_said_in_time(drive, robot):
    with SlowProxy(1) as proxy:
        proxy.refuses = True
        session = drive(robot, proxy.address, give_up_s=0.3)
        session.end()
    assert f"server {proxy.address} has been gone" in str(session.error)
    assert not robot.is_connected  # the arm never got torque


def test_a_wrong_token_ends_it_at_once(serve, drive, robot, act_checkpoint):
    with serve([act_checkpoint], token=TOKEN) as (_, address):
        for token in (None, Token("another one of sufficient length")):
            session = drive(robot, address, token=token)
            session.end(20)
            assert "--token-file" in str(session.error)
        with drive(robot, address, token=TOKEN) as session:
            session.until(lambda it: it.actions >= 3)


def test_a_robot_that_does_not_fit_never_gets_torque(serve, drive, make_robot, act_checkpoint):
    robot = make_robot(size=(48, 64))
    with serve([act_checkpoint]) as (_, address):
        session = drive(robot, address)
        session.end(20)
    assert "--resize-images" in str(session.error)
    assert not robot.is_connected


def test_scaled_and_compressed_pictures_do_as_well(serve, drive, make_robot, make_join, act_checkpoint):
    robot = make_robot(size=(48, 64))
    join = make_join(robot, resize=True, jpeg=True)
    with serve([act_checkpoint]) as (_, address), drive(robot, address, join=join) as session:
        session.until(lambda it: it.actions >= 3)
    assert session.link.counts.bytes_out / session.link.counts.sent < 24 * 32 * 3


def test_a_second_client_is_told_that_the_server_is_taken(serve, drive, robot, make_robot, act_checkpoint):
    with serve([act_checkpoint]) as (_, address), drive(robot, address) as first:
        first.until(lambda it: it.actions >= 3)
        second = drive(make_robot(), address)
        second.end(20)
        assert "is taken: another client drives" in str(second.error)
        assert first.error is None


def test_a_queued_client_drives_when_the_first_one_ends(serve, drive, robot, make_robot, act_checkpoint):
    said = []
    with serve([act_checkpoint], clients="queue") as (_, address):
        first = drive(robot, address)
        first.until(lambda it: it.actions >= 3)
        with drive(make_robot(), address, say=said.append) as second:
            second.until(lambda it: said)
            assert second.actions == 0
            first.stop.set()
            first.end()
            second.until(lambda it: it.actions >= 3)
    assert "0 more before this client" in said[0]


def test_a_client_lives_on_signs_of_life_alone(serve, drive, robot, act_checkpoint):
    """The queue is fuller than the threshold for longer than the lease: nothing else is sent meanwhile."""
    with serve([act_checkpoint], lease_s=2.0) as (service, address):
        with drive(robot, address, threshold=0.0, fps=4.0) as session:
            session.until(lambda it: it.actions >= 15)
        assert service.counts.sessions == 1


def test_a_server_that_comes_back_with_another_policy_is_refused(
    serve, drive, robot, act_checkpoint, tmp_path
):
    other = save_act(tmp_path / "other", chunk_size=7)
    with serve([act_checkpoint]) as (_, address):
        session = drive(robot, address)
        session.until(lambda it: it.actions >= 3)
    with serve([other], port=int(address[10:])):
        session.end()
    assert "another policy" in str(session.error)


def test_a_new_episode_resets_the_policy(serve, drive, robot, act_checkpoint, monkeypatch):
    with serve([act_checkpoint]) as (service, address), drive(robot, address) as session:
        session.until(lambda it: it.actions >= 3)
        resets = []
        monkeypatch.setattr(service.driver.policy, "reset", lambda: resets.append(1))
        session.link.new_episode()
        session.until(lambda it: resets)


def test_a_base_stands_still_while_there_is_nothing_to_do(make_join, make_robot):
    """A position stays commanded; a velocity must be told to be zero, once."""

    class Idle:
        welcome = None
        idle = connected = False

        def raise_if_failed(self):
            pass

    robot = make_robot()
    link, queue = Idle(), TimestepQueue(newer)
    from lerobot_ext.serving.messages import Welcome

    link.welcome = Welcome("p", "act", {}, False, 1, 4, ("x.vel", "arm.pos"), 10.0)
    queue.merge(0, np.array([[0.5, 7.0], [0.4, 8.0]], np.float32))
    client = RobotClient(robot, link, queue, Pace(200.0, 0.1, 0.5, ""))
    client.run(threading.Event())
    assert [list(action.values()) for action in robot.actions] == [
        [0.5, 7.0],
        [pytest.approx(0.4), 8.0],
        [0.0, 8.0],
    ]
    assert client.counts.held > 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"a.pos": float("nan")}, "NaN"),
        ({"a.pos": None}, "lacks a.pos"),
        ({"top": None}, "lacks top"),
        ({"top": np.zeros((4, 4), np.uint8)}, "promises"),
        ({"top": np.zeros((4, 4, 3), np.float32)}, "promises"),
    ],
)
def test_a_broken_observation_is_not_sent(change, why):
    wanted = {
        "observation.state": Feature("F32", (1,), ("a.pos",)),
        "observation.images.top": Feature("U8", (4, 4, 3)),
    }
    right = {"a.pos": 1.0, "top": np.zeros((4, 4, 3), np.uint8)}
    assert to_frame(right, wanted)["observation.state"].tolist() == [1.0]
    with pytest.raises(ValueError, match=why):
        to_frame({key: value for key, value in {**right, **change}.items() if value is not None}, wanted)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A private authority, a certificate of it for 127.0.0.1, and one for another name."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, host in (("server", "127.0.0.1"), ("other", "robot.example.org")):
        issued = authority.issue_cert(host)
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "stranger.pem"))
    return folder


def test_tls_with_ones_own_authority(serve, drive, robot, act_checkpoint, certificates):
    tls = {"tls_cert": certificates / "server.pem", "tls_key": certificates / "server.key", "token": TOKEN}
    with serve([act_checkpoint], **tls) as (_, address):
        with drive(robot, address, tls=True, tls_ca=certificates / "ca.pem", token=TOKEN) as session:
            session.until(lambda it: it.actions >= 3)
        for wrong in (
            {"tls": True, "tls_ca": certificates / "stranger.pem"},
            {"tls": True},
            {"tls": False},
        ):
            session = drive(robot, address, give_up_s=0.3, token=TOKEN, **wrong)
            session.end()
            assert "has been gone" in str(session.error), wrong


@pytest.mark.parametrize("key", ["other.key", "server.pem"])
def test_a_certificate_without_its_key_is_refused_at_the_start(serve, act_checkpoint, certificates, key):
    tls = {"tls_cert": certificates / "server.pem", "tls_key": certificates / key}
    with pytest.raises(CommandError, match="cannot"), serve([act_checkpoint], **tls):
        pass


def test_tls_refuses_a_certificate_of_another_host(serve, drive, robot, act_checkpoint, certificates):
    tls = {"tls_cert": certificates / "other.pem", "tls_key": certificates / "other.key"}
    with serve([act_checkpoint], **tls) as (_, address):
        session = drive(robot, address, give_up_s=0.3, tls=True, tls_ca=certificates / "ca.pem")
        session.end()
        assert "has been gone" in str(session.error)
