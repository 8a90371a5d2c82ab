# SPDX-License-Identifier: Apache-2.0
"""What client and server say to each other, as bytes and back.

A `Join` asks for a policy and says what the robot gives and takes; the `Welcome` says what to send. Then
`Observation`s go one way and `Chunk`s of actions the other. Every `decode` raises `PayloadError` alone.

Which gRPC call carries what: `SendPolicyInstructions` a `Join`, `Reset` or `Leave`; `SendObservations` an
`Observation`, in LeRobot's transfer chunks; `GetActions` answers with a `Welcome`, a `Chunk` or nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np

from lerobot_ext.serving.codec import (
    DTYPES,
    Array,
    TensorSpec,
    encode,
    largest_message,
    read_tensors,
    split,
)
from lerobot_ext.serving.pictures import compress, decompress
from lerobot_ext.serving.strict_json import Fields, PayloadError

MAX_FRAMES: Final = 16
MAX_CHUNK: Final = 4096
MAX_TASK: Final = 4096
MAX_SIDE: Final = 4096
"""Pixels: a server may ask a client to scale a picture, but not to fill its memory with it."""
_MAX_STEP: Final = 2**53
_MAX_TIME: Final = 1e12
ACTION: Final = "action"


@dataclass(frozen=True)
class Feature:
    """One observation of a robot.

    Args:
        dtype (`str`): `F32` for numbers, `U8` for pictures, `U16` for depth.
        shape (`tuple[int, ...]`): (D,), or (H, W, C) of a picture.
        names (`tuple[str, ...]`, *optional*): Names of the D numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether it comes from a camera."""
        return len(self.shape) == 3

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"dtype": self.dtype, "shape": list(self.shape), "names": list(self.names)}

    @classmethod
    def read(cls, value: object, name: str) -> "Feature":
        """From parsed JSON."""
        if not isinstance(value, dict):
            raise PayloadError(f"feature {name!r} is no object")
        fields = Fields(value, f"feature {name!r}")
        dtype = fields.text("dtype", max_length=8)
        if dtype not in DTYPES:
            raise PayloadError(f"feature {name!r} has dtype {dtype!r}; one of {', '.join(DTYPES)} travels")
        made = cls(dtype, fields.sizes("shape", max_items=3), tuple(fields.texts("names", default=())))
        fields.done()
        return made


@dataclass(frozen=True)
class Join:
    """A client asks for a session.

    Args:
        policy (`str`): The policy's name on the server; empty where the server offers only one.
        robot_type (`str`): LeRobot's name of the robot.
        features (`Mapping[str, Feature]`): What the robot observes, with LeRobot's dataset names.
        action_names (`tuple[str, ...]`): What it takes, in its own order.
        rename_map (`Mapping[str, str]`): Robot's names to the policy's, as `--rename_map` of lerobot-rollout.
        resize (`bool`): Pictures of another size may be asked for; the client scales them.
        jpeg (`bool`): Pictures come as JPEG.
        actions_per_chunk (`int`): Most actions of a chunk that are wanted, 0 for all.
    """

    policy: str
    robot_type: str
    features: Mapping[str, Feature]
    action_names: tuple[str, ...]
    rename_map: Mapping[str, str] = field(default_factory=dict)
    resize: bool = False
    jpeg: bool = False
    actions_per_chunk: int = 0

    def encode(self) -> bytes:
        """As bytes."""
        return encode(
            {
                "kind": "join",
                "policy": self.policy,
                "robot_type": self.robot_type,
                "features": {name: feature.plain() for name, feature in self.features.items()},
                "action_names": list(self.action_names),
                "rename_map": dict(self.rename_map),
                "resize": self.resize,
                "jpeg": self.jpeg,
                "actions_per_chunk": self.actions_per_chunk,
            }
        )

    @classmethod
    def _read(cls, fields: Fields) -> "Join":
        features = {name: Feature.read(value, name) for name, value in fields.mapping("features").items()}
        rename_map = fields.mapping("rename_map", default=True)
        if not all(isinstance(value, str) and value.isprintable() for value in rename_map.values()):
            raise PayloadError("the join's `rename_map` must map names to names")
        made = cls(
            policy=fields.text("policy", max_length=512),
            robot_type=fields.text("robot_type"),
            features=features,
            action_names=tuple(fields.texts("action_names")),
            rename_map=rename_map,
            resize=fields.flag("resize"),
            jpeg=fields.flag("jpeg"),
            actions_per_chunk=fields.whole("actions_per_chunk", 0, MAX_CHUNK, default=0),
        )
        fields.done()
        return made


@dataclass(frozen=True)
class Wish:
    """A client asks to start a new episode (`reset`), or says that it ends (`leave`)."""

    kind: Literal["reset", "leave"]

    def encode(self) -> bytes:
        """As bytes."""
        return encode({"kind": self.kind})


def read_instruction(data: bytes) -> Join | Wish:
    """What `SendPolicyInstructions` carried.

    Raises:
        PayloadError: It is neither a `Join` nor a `Wish`.
    """
    header, body = split(data)
    read_tensors(body, {})
    fields = Fields(header, "the instruction")
    kind = fields.text("kind", max_length=16)
    if kind == "join":
        return Join._read(fields)
    fields.done()
    if kind == "reset":
        return Wish("reset")
    if kind == "leave":
        return Wish("leave")
    raise PayloadError(f"the instruction is {kind!r}; it must be join, reset or leave")


@dataclass(frozen=True)
class Welcome:
    """The server's answer to a `Join`: what to send, and what comes back.

    Args:
        policy (`str`): Name of the policy that runs.
        policy_type (`str`): Its type, such as `act`.
        wanted (`Mapping[str, Feature]`): Observations to send, and their sizes.
        jpeg (`bool`): Pictures of three channels come as JPEG.
        frames (`int`): Newest observations a message carries, oldest first.
        chunk_size (`int`): Most actions of a chunk.
        action_names (`tuple[str, ...]`): What the actions' columns are.
        lease_s (`float`): The session ends after this long without a sign of life.
    """

    policy: str
    policy_type: str
    wanted: Mapping[str, Feature]
    jpeg: bool
    frames: int
    chunk_size: int
    action_names: tuple[str, ...]
    lease_s: float

    def encode(self) -> bytes:
        """As bytes."""
        return encode(
            {
                "kind": "welcome",
                "policy": self.policy,
                "policy_type": self.policy_type,
                "wanted": {name: feature.plain() for name, feature in self.wanted.items()},
                "jpeg": self.jpeg,
                "frames": self.frames,
                "chunk_size": self.chunk_size,
                "action_names": list(self.action_names),
                "lease_s": self.lease_s,
            }
        )

    @classmethod
    def _read(cls, fields: Fields) -> "Welcome":
        made = cls(
            policy=fields.text("policy", max_length=512),
            policy_type=fields.text("policy_type"),
            wanted={name: Feature.read(value, name) for name, value in fields.mapping("wanted").items()},
            jpeg=fields.flag("jpeg"),
            frames=fields.whole("frames", 1, MAX_FRAMES),
            chunk_size=fields.whole("chunk_size", 1, MAX_CHUNK),
            action_names=tuple(fields.texts("action_names")),
            lease_s=fields.number("lease_s", 0.1, 86400),
        )
        fields.done()
        return made

    def observation_specs(self) -> dict[str, TensorSpec]:
        """The tensors of an observation message: `0/observation.state` is that of the oldest frame."""
        return {
            f"{frame}/{name}": TensorSpec(feature.dtype, feature.shape, self.compresses(feature))
            for frame in range(self.frames)
            for name, feature in self.wanted.items()
        }

    def largest_observation(self) -> int:
        """Bytes of the largest observation message."""
        return largest_message(self.observation_specs())

    def check_for(self, join: Join) -> None:
        """Make sure that this is an answer to `join`: a client sends nothing it did not offer.

        Raises:
            PayloadError: It asks for other features or sizes, or announces other actions.
        """
        if self.action_names != join.action_names or self.jpeg != join.jpeg:
            raise PayloadError("the welcome announces other actions or pictures than were asked for")
        for name, feature in self.wanted.items():
            offered = join.features.get(name)
            if offered is not None and join.resize and offered.is_picture and max(feature.shape) <= MAX_SIDE:
                offered = replace(offered, shape=(*feature.shape[:2], *offered.shape[2:]))
            if feature != offered:
                raise PayloadError(
                    f"the welcome asks for {name!r} {list(feature.shape)}, which was not offered"
                )

    def compresses(self, feature: Feature) -> bool:
        """Whether `feature` comes as JPEG."""
        return self.jpeg and feature.is_picture and feature.dtype == "U8" and feature.shape[2] == 3


@dataclass(frozen=True)
class Observation:
    """What the robot saw.

    Args:
        timestep (`int`): Number of the action that is to follow it.
        timestamp (`float`): The client's clock, echoed with the chunk.
        task (`str`): What the robot is to do, in words.
        frames (`Sequence[Mapping[str, ndarray]]`): The newest observations, oldest first.
    """

    timestep: int
    timestamp: float
    task: str
    frames: Sequence[Mapping[str, Array]]

    def encode(self, welcome: Welcome, quality: int = 90) -> bytes:
        """As bytes, in the form that `welcome` asks for.

        Raises:
            ValueError: The frames are not what it asks for.
        """
        if len(self.frames) != welcome.frames:
            raise ValueError(f"{len(self.frames)} frames where the server asks for {welcome.frames}.")
        tensors = {}
        for index, frame in enumerate(self.frames):
            for name, feature in welcome.wanted.items():
                value = np.asarray(frame[name])
                if value.dtype != DTYPES[feature.dtype] or value.shape != feature.shape:
                    raise ValueError(
                        f"`{name}` is {value.dtype} {list(value.shape)}; the server asks for "
                        f"{feature.dtype} {list(feature.shape)}."
                    )
                packed = compress(value, quality) if welcome.compresses(feature) else value
                tensors[f"{index}/{name}"] = packed
        header = {
            "kind": "observation",
            "timestep": self.timestep,
            "timestamp": self.timestamp,
            "task": self.task,
        }
        return encode(header, tensors)

    @classmethod
    def decode(cls, data: bytes, welcome: Welcome) -> "Observation":
        """From bytes.

        Raises:
            PayloadError: It is not what `welcome` asks for.
        """
        header, body = split(data, welcome.largest_observation())
        fields = Fields(header, "the observation")
        if (kind := fields.text("kind", max_length=16)) != "observation":
            raise PayloadError(f"this is {kind!r}, not an observation")
        timestep = fields.whole("timestep", 0, _MAX_STEP)
        timestamp = fields.number("timestamp", -_MAX_TIME, _MAX_TIME)
        task = fields.text("task", max_length=MAX_TASK, any_letters=True)
        fields.done()
        tensors = read_tensors(body, welcome.observation_specs())
        frames = []
        for index in range(welcome.frames):
            frame = {}
            for name, feature in welcome.wanted.items():
                tensor = tensors[f"{index}/{name}"]
                packed = welcome.compresses(feature)
                frame[name] = decompress(tensor, feature.shape, name) if packed else tensor
            frames.append(frame)
        return cls(timestep, timestamp, task, frames)


@dataclass(frozen=True)
class Chunk:
    """Actions for the next steps.

    Args:
        timestep (`int`): Number of the first action.
        timestamp (`float`): That of the observation it follows from.
        actions (`ndarray`): (T, A) float32, in the robot's units and order.
        compute_ms (`float`): What the policy took.
    """

    timestep: int
    timestamp: float
    actions: Array
    compute_ms: float

    def encode(self) -> bytes:
        """As bytes."""
        header = {
            "kind": "chunk",
            "timestep": self.timestep,
            "timestamp": self.timestamp,
            "compute_ms": round(self.compute_ms, 3),
            "n_actions": len(self.actions),
        }
        return encode(header, {ACTION: self.actions})

    @classmethod
    def _read(cls, fields: Fields, body: memoryview, welcome: Welcome) -> "Chunk":
        count = fields.whole("n_actions", 1, welcome.chunk_size)
        timestep = fields.whole("timestep", 0, _MAX_STEP)
        timestamp = fields.number("timestamp", -_MAX_TIME, _MAX_TIME)
        compute_ms = fields.number("compute_ms", 0, _MAX_TIME)
        fields.done()
        spec = TensorSpec("F32", (count, len(welcome.action_names)))
        return cls(timestep, timestamp, read_tensors(body, {ACTION: spec})[ACTION], compute_ms)


def read_answer(data: bytes, welcome: Welcome | None) -> Welcome | Chunk:
    """What `GetActions` answered.

    Args:
        data (`bytes`): Not empty; an empty answer means that there is nothing yet.
        welcome (`Welcome`, *optional*): The session's; a chunk before it is refused.

    Raises:
        PayloadError: It is neither, or not what the welcome announced.
    """
    header, body = split(data)
    fields = Fields(header, "the answer")
    kind = fields.text("kind", max_length=16)
    if kind == "welcome":
        read_tensors(body, {})
        return Welcome._read(fields)
    if kind == "chunk" and welcome is not None:
        return Chunk._read(fields, body, welcome)
    raise PayloadError(f"the answer is {kind!r}; it must be a welcome, then chunks")
