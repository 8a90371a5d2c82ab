# SPDX-License-Identifier: Apache-2.0
"""Records scripted demonstrations into a LeRobotDataset v3 with the names the stock recorder gives a Koch.

The dataset is written by LeRobot's own writer. Next to its `meta/info.json` goes
`meta/lerobot_env_koch.json`: task, region, renderer, seed, and for every episode its seed, skill and success.
That file is also what makes a recording resumable: each episode follows from the base seed and its attempt's
number alone.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION, DONE, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE, REWARD
from numpy.typing import NDArray

from lerobot_env_koch.constants import (
    CAMERAS,
    DEPTH_CAMERAS,
    ENVIRONMENT_STATE_NAMES,
    FPS,
    JOINT_NAMES,
    MOTOR_KEYS,
)
from lerobot_env_koch.environment import KochEnv
from lerobot_env_koch.expert import SKILLS, make_expert
from lerobot_env_koch.rendering import resolve_renderer
from lerobot_env_koch.tasks import Region, check_belt, check_task
from lerobot_env_koch.units import UNIT_HIGH, UNIT_LOW

SUCCESS: Final = "next.success"
DEMO_SKILLS: Final = (*SKILLS, "mixed")
PROVENANCE_FILE: Final = Path("meta/lerobot_env_koch.json")
MAX_ATTEMPTS_PER_EPISODE: Final = 20
_BEFORE: Final = {"belt_m_s": 0.0, "depth": False}
"""What recordings were made with that do not say it, being older than the option."""

_NOISE_PERSISTENCE: Final = 0.8
# Standard deviation of the noise on executed actions at `action_noise=1`, in LeRobot units.
_NOISE_UNITS: Final = np.array([0.5, 1.0, 1.0, 1.0, 0.5, 0.5])


@dataclass(frozen=True)
class DemoOptions:
    """What to record.

    Args:
        repo_id (`str`): Name of the dataset.
        root (`Path`): Folder of the dataset; must not exist yet, or be a recording of the same options to go
            on with.
        task (`str`, *optional*, defaults to `"lift"`): `reach`, `lift` or `place`.
        episodes (`int`, *optional*, defaults to `50`): Episodes the dataset shall have.
        skill (`str`, *optional*, defaults to `"expert"`): `expert`, `noisy`, `random`, or `mixed` (a third
            each).
        seed (`int`, *optional*, defaults to `0`): Base of all randomness.
        noise (`float`, *optional*, defaults to `1.0`): Clumsiness of the skill `noisy`.
        action_noise (`float`, *optional*, defaults to `1.0`): Disturbs what the *expert's* arm executes while
            the expert's own action is recorded, so that the data shows the way back; 0 is off.
        keep_failures (`bool`, *optional*, defaults to `False`): Keep unsuccessful episodes; `random` and
            `mixed` always do.
        images (`str`, *optional*, defaults to `"none"`): `none`, `video` or `image` (lossless, in the parquet
            files).
        image_size (`int`, *optional*, defaults to `96`): Rows and columns of both cameras.
        environment_state (`bool`, *optional*, defaults to `True`): Record the pose of cube and goal. Without,
            the data holds only what a real arm with cameras sees.
        episode_length (`int`, *optional*, defaults to `150`): Frames until an episode counts as failed.
        renderer (`str`, *optional*, defaults to `"auto"`): `auto`, `mujoco` or `painter`.
        region (`Region`, *optional*): Where the cube starts.
        belt_m_s (`float`, *optional*, defaults to `0.0`): Speed of the table's top to the arm's right.
        depth (`bool`, *optional*, defaults to `False`): Record the depth maps of both cameras too; lossless
            in the parquet files, also with videos. LeRobot's depth videos have steps of more than a
            millimetre, and where nothing was measured they say 10 mm instead of 0, unlike the environment.

    Raises:
        ValueError: If an option has no meaning; names it, its value and the valid ones.
    """

    repo_id: str
    root: Path
    task: str = "lift"
    episodes: int = 50
    skill: str = "expert"
    seed: int = 0
    noise: float = 1.0
    action_noise: float = 1.0
    keep_failures: bool = False
    images: str = "none"
    image_size: int = 96
    environment_state: bool = True
    episode_length: int = 150
    renderer: str = "auto"
    region: Region = field(default_factory=Region)
    belt_m_s: float = 0.0
    depth: bool = False

    def __post_init__(self) -> None:
        check_task(self.task)
        if self.skill not in DEMO_SKILLS:
            raise ValueError(f"`skill` is {self.skill!r}; choose one of {', '.join(DEMO_SKILLS)}.")
        if self.images not in ("none", "video", "image"):
            raise ValueError(f"`images` is {self.images!r}; choose one of none, video, image.")
        if self.episodes < 1:
            raise ValueError(f"`episodes` is {self.episodes}; record at least 1.")
        if self.image_size < 64 or self.image_size % 2:
            raise ValueError(
                f"`image_size` is {self.image_size}; give an even number from 64 (video codecs need it)."
            )
        if self.action_noise < 0:
            raise ValueError(f"`action_noise` is {self.action_noise}; give 0 (off) or more.")
        if self.seed < 0:
            raise ValueError(f"`seed` is {self.seed}; give 0 or more.")
        if self.depth and self.images == "none":
            raise ValueError(
                "`depth` is true, but `images` is 'none'; record the cameras as video or image "
                "(--with-images)."
            )
        self.region.check()
        check_belt(self.belt_m_s)

    @property
    def keeps_failures(self) -> bool:
        """Whether unsuccessful episodes become part of the dataset."""
        return self.keep_failures or self.skill in ("random", "mixed")

    def features(self) -> dict[str, dict[str, Any]]:
        """The dataset's features, named as the stock recorder names them for a Koch."""
        n = len(JOINT_NAMES)
        features: dict[str, dict[str, Any]] = {
            ACTION: {"dtype": "float32", "shape": (n,), "names": list(MOTOR_KEYS)},
            OBS_STATE: {"dtype": "float32", "shape": (n,), "names": list(MOTOR_KEYS)},
            REWARD: {"dtype": "float32", "shape": (1,), "names": None},
            DONE: {"dtype": "bool", "shape": (1,), "names": None},
            SUCCESS: {"dtype": "bool", "shape": (1,), "names": None},
        }
        if self.environment_state:
            names = list(ENVIRONMENT_STATE_NAMES)
            features[OBS_ENV_STATE] = {"dtype": "float32", "shape": (len(names),), "names": names}
        if self.images != "none":
            size = (self.image_size, self.image_size, 3)
            for camera in CAMERAS:
                features[f"{OBS_IMAGES}.{camera}"] = {
                    "dtype": self.images,
                    "shape": size,
                    "names": ["height", "width", "channels"],
                }
        if self.depth:
            for camera in DEPTH_CAMERAS:
                features[f"{OBS_IMAGES}.{camera}"] = {
                    "dtype": "image",
                    "shape": (self.image_size, self.image_size, 1),
                    "names": ["height", "width", "channels"],
                    "info": {"is_depth_map": True},
                }
        return features


@dataclass(frozen=True)
class EpisodeRecord:
    """How one recorded episode came about.

    Args:
        attempt (`int`): Number of the attempt it is; rejected attempts are counted too.
        skill (`str`): Who acted.
        success (`bool`): Whether the task was done.
        frames (`int`): Its length.
    """

    attempt: int
    skill: str
    success: bool
    frames: int


@dataclass
class DemoReport:
    """What is in the dataset.

    Args:
        episodes (`list[EpisodeRecord]`): One entry an episode.
        attempts (`int`): Attempts made for them.
    """

    episodes: list[EpisodeRecord] = field(default_factory=list)
    attempts: int = 0

    @property
    def successes(self) -> int:
        """Episodes that did the task."""
        return sum(episode.success for episode in self.episodes)

    @property
    def frames(self) -> int:
        """Frames of all episodes."""
        return sum(episode.frames for episode in self.episodes)


def attempt_rng(seed: int, attempt: int) -> np.random.Generator:
    """The generator of all of one attempt's randomness."""
    return np.random.default_rng(np.random.SeedSequence([seed, attempt]))


def roll_out(env: KochEnv, options: DemoOptions, attempt: int) -> tuple[list[dict[str, Any]], EpisodeRecord]:
    """Play one attempt.

    Args:
        env (`KochEnv`): Environment with the options' observations.
        options (`DemoOptions`): What is recorded.
        attempt (`int`): Number of the attempt, which determines it together with the base seed.

    Returns:
        `tuple[list[dict[str, Any]], EpisodeRecord]`: Frames for `LeRobotDataset.add_frame`, and how it went.
    """
    rng = attempt_rng(options.seed, attempt)
    skill = str(rng.choice(SKILLS)) if options.skill == "mixed" else options.skill
    expert = make_expert(options.task, skill, rng, options.noise)
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    expert.reset(env.world)
    amplitude = options.action_noise if skill == "expert" else 0.0
    shake = np.zeros(len(JOINT_NAMES))
    frames: list[dict[str, Any]] = []
    success = done = False
    while not done:
        action = np.clip(expert.act(env.world), UNIT_LOW, UNIT_HIGH)
        fresh = rng.normal(0.0, 1.0, len(JOINT_NAMES)) * _NOISE_UNITS * amplitude
        shake = _NOISE_PERSISTENCE * shake + np.sqrt(1 - _NOISE_PERSISTENCE**2) * fresh
        frame = _frame(observation, action, env.task_description, environment_state=options.environment_state)
        observation, reward, terminated, truncated, info = env.step((action + shake).astype(np.float32))
        success = info["is_success"]
        done = terminated or truncated
        frame[REWARD] = np.array([reward], dtype=np.float32)
        frame[DONE] = np.array([done])
        frame[SUCCESS] = np.array([success])
        frames.append(frame)
    return frames, EpisodeRecord(attempt, skill, success, len(frames))


def _frame(
    observation: dict[str, Any], action: NDArray[np.float64], instruction: str, *, environment_state: bool
) -> dict[str, Any]:
    frame: dict[str, Any] = {
        OBS_STATE: observation["agent_pos"],
        ACTION: action.astype(np.float32),
        "task": instruction,
    }
    if environment_state:
        frame[OBS_ENV_STATE] = observation["environment_state"]
    for camera, picture in observation.get("pixels", {}).items():
        frame[f"{OBS_IMAGES}.{camera}"] = picture
    for camera in DEPTH_CAMERAS:
        if f"images.{camera}" in observation:
            frame[f"{OBS_IMAGES}.{camera}"] = np.moveaxis(observation[f"images.{camera}"], 0, -1)
    return frame


def _settings(options: DemoOptions, renderer: str) -> dict[str, Any]:
    """What must be the same for a recording to be gone on with."""
    settings = asdict(options)
    for name in ("repo_id", "root", "episodes"):
        del settings[name]
    settings["renderer"] = renderer
    return settings


def _load_report(root: Path, settings: dict[str, Any]) -> DemoReport:
    """The report of the recording that lies at `root`."""
    path = root / PROVENANCE_FILE
    if not path.is_file():
        raise FileExistsError(
            f"`root` {root} exists and holds no demonstrations; give another folder or remove it."
        )
    saved = json.loads(path.read_text(encoding="utf-8"))
    then = _BEFORE | saved["settings"]
    changed = [key for key, value in settings.items() if then.get(key) != value]
    if changed:
        was = ", ".join(f"{key}={then.get(key)!r}" for key in changed)
        raise FileExistsError(
            f"`root` {root} was recorded with {was}; give the same options to go on, or another folder."
        )
    if not saved["closed"]:
        raise FileExistsError(
            f"`root` {root}: its recording was killed, so that its last file cannot be read; "
            "remove the folder and record again."
        )
    return DemoReport([EpisodeRecord(**episode) for episode in saved["episodes"]], int(saved["attempts"]))


def _save_report(root: Path, settings: dict[str, Any], report: DemoReport, closed: bool) -> None:
    content = {
        "closed": closed,
        "settings": settings,
        "attempts": report.attempts,
        "episodes": [asdict(episode) for episode in report.episodes],
    }
    path = root / PROVENANCE_FILE
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    partial.replace(path)


def _open_dataset(options: DemoOptions, resume: bool) -> LeRobotDataset:
    # The decoder is not used here; naming it spares the search for FFmpeg and its warnings.
    settings: dict[str, Any] = {"video_backend": "pyav"}
    if options.images == "video":
        # Small pictures are encoded about as fast as they are drawn: no PNG files in between. The queue must
        # hold a whole episode, since the stock encoder drops what does not fit.
        queue = options.episode_length + 1
        settings |= {"streaming_encoding": True, "encoder_threads": 1, "encoder_queue_maxsize": queue}
    if resume:
        return LeRobotDataset.resume(options.repo_id, root=options.root, **settings)
    return LeRobotDataset.create(
        options.repo_id,
        fps=FPS,
        features=options.features(),
        root=options.root,
        robot_type="koch_follower",
        use_videos=options.images == "video",
        metadata_buffer_size=options.episodes,
        **settings,
    )


def record_demos(
    options: DemoOptions, on_episode: Callable[[DemoReport], None] = lambda report: None
) -> DemoReport:
    """Record demonstrations, or go on with a recording that was interrupted.

    Args:
        options (`DemoOptions`): What to record.
        on_episode (`Callable[[DemoReport], None]`, *optional*): Called after each attempt, recorded or not.

    Returns:
        `DemoReport`: What the dataset now holds.

    Raises:
        FileExistsError: If `root` holds something else, or a recording with other options.
        RuntimeError: If the skill does the task too rarely to fill the dataset.
    """
    settings = _settings(options, resolve_renderer(options.renderer) if options.images != "none" else "none")
    resume = options.root.exists()
    report = _load_report(options.root, settings) if resume else DemoReport()
    if len(report.episodes) >= options.episodes:
        return report
    dataset = _open_dataset(options, resume)
    if resume and dataset.meta.total_episodes != len(report.episodes):
        raise FileExistsError(
            f"`root` {options.root} has {dataset.meta.total_episodes} episodes, but {PROVENANCE_FILE} knows "
            f"{len(report.episodes)}: it was interrupted while saving; remove the folder and record again."
        )
    size = (options.image_size, options.image_size)
    env = KochEnv(
        options.task,
        obs="state" if options.images == "none" else "state_pixels",
        episode_length=options.episode_length,
        image_size=size,
        renderer=options.renderer,
        region=options.region,
        belt_m_s=options.belt_m_s,
        depth=options.depth,
    )
    try:
        for frames, episode in _attempts(env, options, report):
            if episode.success or options.keeps_failures:
                for frame in frames:
                    dataset.add_frame(frame)
                dataset.save_episode()
                report.episodes.append(episode)
                _save_report(options.root, settings, report, closed=False)
            on_episode(report)
    finally:
        env.close()
        dataset.finalize()
        _save_report(options.root, settings, report, closed=True)
    return report


def _attempts(
    env: KochEnv, options: DemoOptions, report: DemoReport
) -> Iterator[tuple[list[dict[str, Any]], EpisodeRecord]]:
    while len(report.episodes) < options.episodes:
        if report.attempts >= MAX_ATTEMPTS_PER_EPISODE * options.episodes:
            done = f"{len(report.episodes)} of {report.attempts} attempts"
            raise RuntimeError(
                f"`skill` {options.skill!r} did {options.task!r} in {done}; "
                "keep failures (--keep-failures) or make it less clumsy (--noise)."
            )
        attempt = report.attempts
        report.attempts += 1
        yield roll_out(env, options, attempt)
