# SPDX-License-Identifier: Apache-2.0
"""act_plus in LeRobot's own real-time chunking engine, whose planning takes as long as it likes."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.rollout.inference.rtc import RTCInferenceEngine, supports_rtc_inference
from small_act import act_plus

FPS = 30
STATS = {
    "observation.state": {"mean": torch.zeros(4), "std": torch.ones(4)},
    "action": {"mean": torch.full((4,), 5.0), "std": torch.full((4,), 3.0)},
    "observation.environment_state": {"mean": torch.zeros(3), "std": torch.ones(3)},
}


class Slow:
    """Writes down what the engine asks of a policy, and takes its time to answer."""

    def __init__(self, policy, latency_s: float) -> None:
        self.policy, self.latency_s = policy, latency_s
        self.asked: list[tuple[int, torch.Tensor | None, torch.Tensor]] = []
        self.plan = policy.predict_action_chunk
        policy.predict_action_chunk = self

    def __call__(self, batch, inference_delay=None, prev_chunk_left_over=None):
        chunk = self.plan(batch, inference_delay=inference_delay, prev_chunk_left_over=prev_chunk_left_over)
        self.asked.append((inference_delay, prev_chunk_left_over, chunk))
        time.sleep(self.latency_s)
        return chunk


@pytest.mark.parametrize("latency_s", [0.0, 0.1, 0.3])
def test_every_chunk_continues_the_one_that_runs_however_long_planning_takes(latency_s):
    """0 to 300 ms are injected; each plan keeps the actions that pass meanwhile."""
    policy = act_plus(
        shape={"env": 3}, stats=STATS, chunk_size=32, n_action_steps=16, prefix_steps=20, dropout=0.0
    ).eval()
    torch.nn.init.normal_(policy.model.prefix_embedding.project.weight)
    slow = Slow(policy, latency_s)
    assert supports_rtc_inference(policy)
    before, after = make_pre_post_processors(policy.config, dataset_stats=STATS)
    joints = [f"j{number}.pos" for number in range(4)]
    names = [*joints, "x.pos", "y.pos", "z.pos"]  # an arm with a tracker: all in one state
    engine = RTCInferenceEngine(
        policy,
        before,
        after,
        SimpleNamespace(robot_type="toy", action_features=dict.fromkeys(joints, float)),
        RTCConfig(execution_horizon=20),
        {"observation.state": {"dtype": "float32", "shape": (7,), "names": names}},
        "reach",
        FPS,
        "cpu",
        rtc_queue_threshold=16,
    )
    engine.reset()
    engine.start()
    engine.resume()
    rng = np.random.default_rng(0)
    got, end = 0, time.monotonic() + 60
    try:
        while (len(slow.asked) < 5 or got < 40) and time.monotonic() < end:
            engine.notify_observation(dict(zip(names, rng.normal(size=7).tolist(), strict=True)))
            got += engine.get_action(None) is not None
            time.sleep(1 / FPS)
    finally:
        engine.stop()
    assert not engine.failed
    assert len(slow.asked) >= 5
    continued = 0
    for delay, left, chunk in slow.asked:
        if left is None or not delay:
            continue
        kept = min(delay, int((left.abs().sum(1) > 0).sum()))
        assert torch.equal(chunk[0, :kept], left[:kept])
        continued += kept > 0
    assert continued >= 2
    if latency_s:
        assert max(delay for delay, *_ in slow.asked) >= round(latency_s * FPS)
