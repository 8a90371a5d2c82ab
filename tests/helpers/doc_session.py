# SPDX-License-Identifier: Apache-2.0
"""Runs the marked commands of a page in order, in a folder and home of their own, in tiny sizes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import warm_start
from doc_blocks import Block, commands_of, without_prefixes

BIN: Final = Path(sys.executable).parent
COMMAND_S: Final = 240
ARMS: Final = ("--robot.type=koch_follower", "--teleop.type=koch_leader")

# What makes a command short. An option that the page gives is replaced, another one added.
TINY: Final[dict[str, dict[str, str]]] = {
    "lerobot-train": {
        "--steps": "2",
        "--save_freq": "2",
        "--log_freq": "1",
        "--batch_size": "2",
        "--num_workers": "0",
        "--env_eval_freq": "0",
        "--policy.device": "cpu",
    },
    "lerobot-eval": {
        "--eval.n_episodes": "1",
        "--eval.batch_size": "1",
        "--env.episode_length": "5",
        "--policy.device": "cpu",
    },
    "lerobot-record": {
        "--dataset.num_episodes": "1",
        "--dataset.episode_time_s": "2",
        "--dataset.reset_time_s": "0",
        "--play_sounds": "false",
    },
    "lerobot-replay": {"--play_sounds": "false"},
    "lerobot-rollout": {"--duration": "1", "--play_sounds": "false"},
    "lerobot-teleoperate": {"--teleop_time_s": "1"},
    "lerobot-ext demos": {"--episodes": "2"},
    "lerobot-ext convert": {"--sample": "60"},
    "lerobot-ext offline-eval": {"--episodes": "0", "--out": "offline_eval"},
}

# Smaller networks, where the page trains one of these types.
SMALL: Final[dict[str, dict[str, str]]] = {
    "act": {
        "--policy.dim_model": "16",
        "--policy.n_heads": "2",
        "--policy.dim_feedforward": "16",
        "--policy.n_encoder_layers": "1",
        "--policy.pretrained_backbone_weights": "null",
    },
    "hierarchical_diffusion": {"--policy.manipulation_dim": "16", "--policy.denoiser_dim": "16"},
}


def tiny(words: list[str]) -> list[str]:
    """A page's command in a size that takes seconds."""
    name = " ".join(words[:2]) if words[0] == "lerobot-ext" else words[0]
    settings = dict(TINY.get(name, {}))
    if name == "lerobot-ext convert" and "--sample" not in words:
        settings = {}
    if words[0] == "lerobot-train":
        chosen = next((word.partition("=")[2] for word in words if word.startswith("--policy.type=")), "")
        settings |= SMALL.get(chosen, {})
        if "--resume=true" in words:
            settings["--steps"] = "3"  # one more than what is resumed
        # `--policy.path` brings its own device.
        if not chosen and not any(word.startswith("--policy.path=") for word in words):
            settings.pop("--policy.device")
    for arm in ARMS:
        if arm in words and words[0].startswith("lerobot-") and words[0] != "lerobot-ext":
            settings[arm.partition(".")[0] + ".give_up_ms"] = "3000"  # a busy machine is no lost bus
    return _replaced(words, settings)


def _replaced(words: list[str], settings: dict[str, str]) -> list[str]:
    found, skip = [], False
    left = dict(settings)
    for at, word in enumerate(words):
        if skip:
            skip = False
            continue
        name, sign, _ = word.partition("=")
        if name in left:
            value = left.pop(name)
            if not sign:
                skip = at + 1 < len(words) and not words[at + 1].startswith("--")
            found.append(f"{name}={value}")
        else:
            found.append(word)
    return found + [f"{name}={value}" for name, value in left.items()]


def environment(home: Path) -> dict[str, str]:
    """Nothing of this user, no Hub, one thread."""
    drop = {"HF_LEROBOT_CALIBRATION", "PYTHONDONTWRITEBYTECODE", "LEROBOT_EXT_PIPELINES"}
    kept = {key: value for key, value in os.environ.items() if key not in drop}
    mine = {
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_LEROBOT_HOME": str(home / "lerobot"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return kept | mine


def run_page(blocks: list[Block], home: Path) -> None:
    """Execute what the page marks with `run`.

    Raises:
        AssertionError: A command failed; its place and output are told.
    """
    folder = home / "work"
    folder.mkdir(parents=True)
    marked = [block for block in blocks if block.mark == "run"]
    plan: list[tuple[str, list[str], dict[str, str]]] = []
    background: list[list[str]] = []
    for block in marked:
        for words in commands_of(block.text):
            variables, rest = without_prefixes(words)
            if block.note == "background":
                background.append(rest)
            else:
                plan.append((block.place, tiny(rest), variables))
    env = environment(home)
    with _running(background, folder, env):
        for place, words, variables in plan:
            done = warm_start.run(
                [BIN / words[0], *words[1:]], cwd=folder, env=env | variables, timeout=COMMAND_S
            )
            said = done.stdout[-4000:] + done.stderr[-4000:]
            assert done.returncode == 0, (
                f"{place}: exit code {done.returncode} of\n  {' '.join(words)}\n{said}"
            )


@contextmanager
def _running(commands: list[list[str]], folder: Path, env: dict[str, str]) -> Iterator[None]:
    """Virtual benches that run while the rest does."""
    processes = []
    try:
        for number, words in enumerate(commands):
            assert words[:2] == ["lerobot-ext", "sim"], f"{words[:2]} does not say when it is ready"
            ready = folder.parent / f"ready{number}.json"
            log = folder.parent / f"background{number}.log"
            with log.open("w") as out:
                processes.append(
                    subprocess.Popen(
                        [str(BIN / words[0]), *words[1:], "--ready-file", str(ready)],
                        cwd=folder,
                        env=env,
                        stdout=out,
                        stderr=out,
                    )
                )
            end = time.monotonic() + COMMAND_S
            while not ready.exists():
                assert processes[-1].poll() is None, log.read_text()
                assert time.monotonic() < end, "the bench did not get ready"
                time.sleep(0.1)
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(timeout=30)
