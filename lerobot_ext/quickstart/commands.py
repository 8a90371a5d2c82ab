# SPDX-License-Identifier: Apache-2.0
"""The stock commands of the quickstart, as a user would type them."""

import json
from collections.abc import Sequence

from lerobot_ext.quickstart.services import BenchInfo
from lerobot_ext.quickstart.settings import CAMERA_SIZE, CAMERAS, FPS, TASK_TEXT, Settings

DATASET_ID = "local/koch_lift"
RECORDED_ID = "local/koch_recorded"


def follower(bench: BenchInfo) -> list[str]:
    """The follower arm of the bench."""
    return [
        "--robot.type=koch_follower",
        f"--robot.port={bench.follower_port}",
        "--robot.id=virtual_follower",
    ]


def leader(bench: BenchInfo) -> list[str]:
    """The leader arm of the bench."""
    return [
        "--teleop.type=koch_leader",
        f"--teleop.port={bench.leader_port}",
        "--teleop.id=virtual_leader",
    ]


def cameras(bench: BenchInfo, names: Sequence[str]) -> str:
    """`--robot.cameras=…` for the bench's ZMQ cameras."""
    spec = {name: bench.cameras[name] for name in names}
    return f"--robot.cameras={json.dumps(spec)}"


def tracker(bench: BenchInfo) -> list[str]:
    """The bench's object tracker: stands for an AprilTag node or a motion-capture system."""
    return [f"--robot.tracker.address={bench.tracker_address}"]


def sim(settings: Settings, base_port: int) -> list[str]:
    """The virtual bench: both arms on pseudo-terminals, cameras, tracker, a scripted hand on the leader."""
    return [
        "lerobot-ext",
        "sim",
        "--task=lift",
        f"--seed={settings.seed}",
        f"--cameras={','.join(CAMERAS)}",
        f"--camera-size={CAMERA_SIZE}x{CAMERA_SIZE}",
        "--hand=auto",
        f"--base-port={base_port}",
        f"--run-dir={settings.bench_dir}",
    ]


def calibrate_follower(bench: BenchInfo) -> list[str]:
    """`lerobot-calibrate` of the follower."""
    return ["lerobot-calibrate", *follower(bench)]


def calibrate_leader(bench: BenchInfo) -> list[str]:
    """`lerobot-calibrate` of the leader."""
    return ["lerobot-calibrate", *leader(bench)]


def teleoperate(settings: Settings, bench: BenchInfo) -> list[str]:
    """`lerobot-teleoperate` for a few seconds."""
    return [
        "lerobot-teleoperate",
        *follower(bench),
        *leader(bench),
        f"--fps={FPS}",
        f"--teleop_time_s={settings.sizes.teleop_s:g}",
    ]


def record(settings: Settings, bench: BenchInfo) -> list[str]:
    """`lerobot-record` through the simulated bus, with a camera."""
    sizes = settings.sizes
    return [
        "lerobot-record",
        *follower(bench),
        cameras(bench, CAMERAS if settings.with_images else CAMERAS[:1]),
        *leader(bench),
        f"--dataset.repo_id={RECORDED_ID}",
        f"--dataset.root={settings.recorded}",
        f"--dataset.single_task={TASK_TEXT}",
        f"--dataset.num_episodes={sizes.record_episodes}",
        f"--dataset.episode_time_s={sizes.record_episode_s:g}",
        "--dataset.reset_time_s=1",
        f"--dataset.fps={FPS}",
        "--dataset.push_to_hub=false",
        "--dataset.no_stamp=true",
        "--dataset.rgb_encoder.vcodec=h264",
        "--play_sounds=false",
    ]


def demos(settings: Settings) -> list[str]:
    """Demonstrations by the scripted expert in the same physics."""
    # Pictures in the parquet files, not a video: each is read in a fraction of a millisecond, in any order.
    images = [
        "--with-images",
        f"--image-size={CAMERA_SIZE}",
        "--image-format=image",
        "--no-environment-state",
    ]
    return [
        "lerobot-ext",
        "demos",
        "--task=lift",
        f"--repo_id={DATASET_ID}",
        f"--root={settings.demos}",
        f"--episodes={settings.sizes.demo_episodes}",
        "--skill=expert",
        f"--seed={settings.seed}",
        *(images if settings.with_images else []),
    ]


def train(settings: Settings) -> list[str]:
    """`lerobot-train` of the hierarchical policy, pushed to the loopback Hub at the end."""
    sizes = settings.sizes
    return [
        "lerobot-train",
        f"--dataset.repo_id={DATASET_ID}",
        f"--dataset.root={settings.demos}",
        "--policy.type=hierarchical_diffusion",
        f"--policy.device={settings.device}",
        "--policy.push_to_hub=true",
        f"--policy.repo_id={settings.repo_id}",
        f"--batch_size={sizes.batch_size}",
        f"--steps={sizes.train_steps}",
        f"--log_freq={settings.log_freq}",
        f"--save_freq={sizes.train_steps}",
        # States come from memory at once; pictures are decoded beside the training.
        f"--num_workers={1 if settings.with_images else 0}",
        "--env_eval_freq=0",
        f"--seed={settings.seed}",
        f"--output_dir={settings.train}",
        "--job_name=quickstart",
        "--wandb.enable=false",
    ]


def evaluate(settings: Settings) -> list[str]:
    """`lerobot-eval` in the gym environment, on seeds that no demonstration used."""
    episodes = settings.sizes.eval_episodes
    observation = "pixels" if settings.with_images else "state"
    return [
        "lerobot-eval",
        f"--policy.path={settings.checkpoint}",
        f"--policy.device={settings.device}",
        "--env.type=koch",
        "--env.task=lift",
        f"--env.obs={observation}",
        f"--eval.n_episodes={episodes}",
        f"--eval.batch_size={min(10, episodes)}",
        "--eval.use_async_envs=false",
        f"--seed={100_000 + 1000 * settings.seed}",
        f"--output_dir={settings.eval}",
    ]


def pull(settings: Settings) -> list[str]:
    """Pull the pushed policy with the Hub's own client."""
    return ["hf", "download", settings.repo_id, f"--local-dir={settings.pulled}"]


def rollout(settings: Settings, bench: BenchInfo) -> list[str]:
    """`lerobot-rollout` of the pulled policy on the virtual arm."""
    sensors = [cameras(bench, CAMERAS)] if settings.with_images else tracker(bench)
    return [
        "lerobot-rollout",
        "--strategy.type=base",
        f"--policy.path={settings.pulled}",
        f"--policy.device={settings.device}",
        *follower(bench),
        *sensors,
        f"--task={TASK_TEXT}",
        f"--fps={FPS}",
        f"--duration={settings.sizes.rollout_s:g}",
    ]
