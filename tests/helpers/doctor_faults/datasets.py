# SPDX-License-Identifier: Apache-2.0
"""Small whole datasets, every way to break them, and policies that do not fit."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cut_off_recording import CAMERA, record

from doctor_faults import Fault, World, checkpoints
from doctor_faults.checkpoints import config, edited, tensors
from lerobot_ext.doctor import dataset, dataset_video_child, fit_child
from lerobot_ext.doctor.child import Answer
from lerobot_ext.doctor.findings import Section

KINDS = ("video", "image", "joints", "small_files", "odd")
DATA = "data/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
STATS = "meta/stats.json"
INFO = "meta/info.json"


def build(originals: Path) -> None:
    """Record one dataset of each kind, of three episodes."""
    for kind in KINDS[:-1]:
        record(originals / kind, kind)
    build_odd(originals / "odd")


def build_odd(root: Path) -> None:
    """Record every sort of feature that LeRobot takes."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = ["height", "width", "channels"]
    features = {
        "action": {"dtype": "float32", "shape": (6,), "names": list("abcdef")},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        "observation.count": {"dtype": "int64", "shape": (2,), "names": ["x", "y"]},
        "observation.matrix": {"dtype": "float32", "shape": (2, 3), "names": None},
        "note": {"dtype": "string", "shape": (1,), "names": None},
        "observation.images.depth": {
            "dtype": "video",
            "shape": (64, 64, 1),
            "names": names,
            "info": {"is_depth_map": True},
        },
        "observation.images.wide": {"dtype": "video", "shape": (48, 64, 3), "names": names},
    }
    dataset = LeRobotDataset.create("me/odd", 30, features, root=root)
    noise = np.random.default_rng(0)
    for episode in range(3):
        for index in range(8):
            dataset.add_frame(
                {
                    "action": noise.normal(size=6).astype(np.float32),
                    "next.reward": noise.normal(size=1).astype(np.float32),
                    "next.done": np.array([index == 7]),
                    "observation.count": np.array([index, episode]),
                    "observation.matrix": noise.normal(size=(2, 3)).astype(np.float32),
                    "note": "text",
                    "observation.images.depth": noise.integers(100, 2000, (64, 64, 1)).astype(np.uint16),
                    "observation.images.wide": noise.integers(0, 255, (48, 64, 3), dtype=np.uint8),
                    "task": "t",
                }
            )
        dataset.save_episode()
    dataset.finalize()


decoders = functools.cache(dataset_video_child.installed)


def ask_videos(jobs: list[dict[str, Any]]) -> Answer:
    results = [dataset_video_child.try_job(job, decoders()) for job in jobs]
    return Answer({"backends": list(decoders()), "results": results})


def ask_policy(question: dict[str, Any]) -> Answer:
    """A type's own chunk would be longer than these episodes; a checkpoint's is not."""
    seen = fit_child.look(question)
    return Answer(seen if question["folder"] or seen["error"] else seen | {"indices": {"action": [0, 1]}})


def look(root: Path, policy: dict[str, Any] | None = None, videos: Any = ask_videos) -> list[Section]:
    """As the doctor does, without processes of its own."""
    return dataset.examine(root, "me/set", policy or {"path": None, "type": None}, videos, ask_policy)


def broken(
    kind: str, *breaks: Callable[[Path], object], videos: Any = ask_videos
) -> Callable[[World], Section]:
    """Copies a healthy dataset, breaks it, and has it examined."""

    def examine(world: World) -> Section:
        root = world.tmp / "set"
        shutil.copytree(world.originals / kind, root)
        for break_ in breaks:
            break_(root)
        [section] = look(root, videos=videos)
        return section

    return examine


def cut(file: str, size: int = 100) -> Callable[[Path], object]:
    return lambda root: (root / file).write_bytes((root / file).read_bytes()[:-size])


def without(file: str) -> Callable[[Path], object]:
    return lambda root: (root / file).unlink()


def zeroed(file: str) -> Callable[[Path], object]:
    """Overwrites the middle of a file, whose size and index stay."""

    def change(root: Path) -> None:
        data = bytearray((root / file).read_bytes())
        middle = len(data) // 3
        data[middle : 2 * middle] = bytes(middle)
        (root / file).write_bytes(bytes(data))

    return change


def rows(edit: Callable[[pa.Table], pa.Table]) -> Callable[[Path], object]:
    """Changes the table of the only data file."""

    def change(root: Path) -> None:
        table = pq.read_table(root / DATA)
        pq.write_table(edit(table).replace_schema_metadata(table.schema.metadata), root / DATA)

    return change


def column(name: str, values: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    """Changes a column of numbers; rows of several values are lists."""

    def edit(table: pa.Table) -> pa.Table:
        old = np.array(table.column(name).to_pylist())
        new = values(old)
        if new.ndim == 1:
            made = pa.array(new.astype(old.dtype), table.schema.field(name).type)
        else:
            made = pa.FixedSizeListArray.from_arrays(
                pa.array(new.reshape(-1).astype(np.float32)), new.shape[1]
            )
        return table.set_column(table.column_names.index(name), name, made)

    return rows(edit)


def with_nan(values: np.ndarray) -> np.ndarray:
    values[8, 2] = np.nan
    return values


def broken_images(table: pa.Table) -> pa.Table:
    cells = table.column(CAMERA).to_pylist()
    cells[0]["bytes"] = cells[0]["bytes"][:40]
    made = pa.array(cells, table.schema.field(CAMERA).type)
    return table.set_column(table.column_names.index(CAMERA), CAMERA, made)


def drop(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([name])


def stats(edit: Callable[[dict], object]) -> Callable[[Path], object]:
    return edited(STATS, edit)


def still_joint(root: Path) -> None:
    """One joint of the action never moves; the statistics agree."""

    def stop(values: np.ndarray) -> np.ndarray:
        values[:, 3] = 0.5
        return values

    column("action", stop)(root)

    def agree(value: dict) -> None:
        for name in ("min", "max", "mean"):
            value["action"][name][3] = 0.5
        value["action"]["std"][3] = 0.0

    stats(agree)(root)


def blank_task(root: Path) -> None:
    table = pq.read_table(root / "meta/tasks.parquet").to_pandas()
    table = table.rename(index={"task 0": " "})
    table.to_parquet(root / "meta/tasks.parquet")


def told(**changes: Any) -> Callable[[list[dict[str, Any]]], Answer]:
    """A decoder that decodes well, but for the changes."""

    def ask(jobs: list[dict[str, Any]]) -> Answer:
        good = {"errors": {}, "shape": [3, 64, 64], "fps": 30.0, "differs": 0.5}
        results = [{"path": job["path"], **good, **changes} for job in jobs]
        return Answer({"backends": ["pyav", "torchcodec"], "results": results})

    return ask


FAULTS = [
    Fault(
        "info.json of nonsense",
        "dataset_unreadable",
        "me/set",
        broken("joints", edited(INFO, lambda v: v["features"]["action"].update(shape="six"))),
    ),
    Fault(
        "statistics of nonsense",
        "dataset_stats",
        "action",
        broken("joints", stats(lambda v: v["action"].update(mean="none"))),
    ),
    Fault(
        "footer missing in one of many files",
        "dataset_damaged",
        "data/chunk-002/file-000.parquet",
        broken("small_files", cut("data/chunk-002/file-000.parquet")),
    ),
    Fault("footer missing in the only file", "dataset_unreadable", "me/set", broken("video", cut(DATA))),
    Fault("no info.json", "dataset_unreadable", "me/set", broken("joints", without(INFO))),
    Fault(
        "of an older LeRobot",
        "dataset_unreadable",
        "me/set",
        broken("joints", edited(INFO, lambda v: v.update(codebase_version="v2.1"))),
    ),
    Fault("video missing", "dataset_unreadable", "me/set", broken("video", without(VIDEO))),
    Fault("broken video", "video_decode", VIDEO, broken("video", zeroed(VIDEO))),
    Fault(
        "torchcodec alone fails",
        "video_decode",
        VIDEO,
        broken("video", videos=told(errors={"torchcodec": "x"})),
    ),
    Fault(
        "backends give different frames",
        "video_backends_differ",
        VIDEO,
        broken("video", videos=told(differs=60.0)),
    ),
    Fault("video of another rate", "video_fps", VIDEO, broken("video", videos=told(fps=25.0))),
    Fault("video of another size", "video_size", VIDEO, broken("video", videos=told(shape=[3, 48, 64]))),
    Fault("broken image", "image_decode", CAMERA, broken("image", rows(broken_images))),
    Fault(
        "timestamps of another rate",
        "timestamps",
        "timestamp",
        broken("video", column("timestamp", lambda v: v * 30 / 25)),
    ),
    Fault(
        "timestamps of a dataset without videos",
        "timestamps",
        "timestamp",
        broken("joints", column("timestamp", lambda v: v * 30 / 25)),
        "note",
    ),
    Fault(
        "NaN in the rows",
        "dataset_nan",
        "observation.state",
        broken("joints", column("observation.state", with_nan)),
    ),
    Fault(
        "column missing",
        "dataset_column",
        "observation.state",
        broken("joints", rows(drop("observation.state"))),
    ),
    Fault(
        "rows of another size",
        "dataset_shape",
        "action",
        broken("joints", column("action", lambda v: v[:, :5])),
    ),
    Fault(
        "too few names",
        "feature_names",
        "action",
        broken("joints", edited(INFO, lambda v: v["features"]["action"]["names"].pop())),
    ),
    Fault("no stats.json", "dataset_stats", STATS, broken("joints", without(STATS))),
    Fault("half a stats.json", "dataset_stats", STATS, broken("joints", cut(STATS))),
    Fault(
        "statistics of a feature missing",
        "dataset_stats",
        "action",
        broken("joints", stats(lambda v: v.pop("action"))),
    ),
    Fault(
        "statistics without a count",
        "dataset_stats",
        "action",
        broken("joints", stats(lambda v: v["action"].pop("count"))),
    ),
    Fault(
        "statistics of a camera flat",
        "dataset_stats",
        CAMERA,
        broken("video", stats(lambda v: v[CAMERA].update(mean=[0.5, 0.5, 0.5]))),
    ),
    Fault(
        "NaN in the statistics of the data",
        "dataset_stats",
        "action",
        broken("joints", stats(lambda v: v["action"]["std"].__setitem__(1, float("nan")))),
    ),
    Fault(
        "statistics of other data",
        "dataset_stats_wrong",
        "action",
        broken("joints", stats(lambda v: v["action"]["mean"].__setitem__(1, 0.9))),
    ),
    Fault("joint that never moves", "dataset_constant", "action", broken("joints", still_joint), "note"),
    Fault("task without text", "task_blank", "meta/tasks.parquet", broken("joints", blank_task), "note"),
]


# --- a dataset and a policy


def fitting(kind: str, policy_type: str = "", *breaks: Callable[[Path], object], data: Any = None) -> Any:
    """Looks how a dataset fits a policy type, or the healthy checkpoint after some changes."""

    def examine(world: World) -> Section:
        root, folder = world.tmp / "set", world.tmp / "checkpoint"
        shutil.copytree(world.originals / kind, root)
        shutil.copytree(world.originals / "checkpoint", folder)
        as_recorded(folder)
        for break_ in breaks:
            break_(folder)
        if data is not None:
            data(root)
        policy = {"path": None if policy_type else str(folder), "type": policy_type or None}
        first, second = look(root, policy)
        assert first.ok
        return second

    return examine


def as_recorded(folder: Path) -> None:
    """Give the checkpoint's camera the name it has in the dataset."""
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace(checkpoints.CAMERA, CAMERA))


def inputs(**changes: Any) -> Callable[[Path], object]:
    return edited(
        "config.json",
        lambda value: value["input_features"].update(
            {name.replace("__", "."): feature for name, feature in changes.items()}
        ),
    )


def long_chunk(folder: Path) -> None:
    config(chunk_size=40, n_action_steps=40)(folder)


def no_quantiles(root: Path) -> None:
    def edit(value: dict) -> None:
        for name in ("q01", "q99"):
            del value["observation.state"][name]

    stats(edit)(root)


def other_units(folder: Path) -> None:
    name = checkpoints.PRE_STATE
    tensors(name, lambda v: checkpoints.fill(v, "observation.state.mean", 180.0, 0))(folder)


STATE_7 = {"type": "STATE", "shape": [7]}
FIT_FAULTS = [
    Fault("policy of an unknown type", "policy_config", "not_there_zz", fitting("joints", "not_there_zz")),
    Fault("policy that needs a picture", "policy_rejects", "act", fitting("joints", "act")),
    Fault(
        "other state",
        "feature_shape",
        "observation.state",
        fitting("video", "", inputs(observation__state=STATE_7)),
    ),
    Fault(
        "other action",
        "feature_shape",
        "action",
        fitting(
            "video", "", edited("config.json", lambda v: v["output_features"]["action"].update(shape=[5]))
        ),
    ),
    Fault(
        "camera by another name",
        "feature_missing",
        checkpoints.CAMERA,
        fitting(
            "video",
            "",
            edited(
                "config.json",
                lambda v: v["input_features"].update({checkpoints.CAMERA: v["input_features"].pop(CAMERA)}),
            ),
        ),
    ),
    Fault("no camera in the dataset", "feature_missing", CAMERA, fitting("joints")),
    Fault(
        "one camera too few",
        "feature_missing",
        checkpoints.CAMERA,
        fitting("video", "", inputs(observation__images__wrist_cam={"type": "VISUAL", "shape": [3, 64, 64]})),
        "note",
    ),
    Fault(
        "picture of another size",
        "feature_shape",
        CAMERA,
        fitting("video", "", inputs(observation__images__top={"type": "VISUAL", "shape": [3, 96, 96]})),
        "note",
    ),
    Fault(
        "camera that is not used",
        "feature_unused",
        CAMERA,
        fitting("video", "", edited("config.json", lambda v: v["input_features"].pop(CAMERA))),
        "note",
    ),
    Fault(
        "episodes shorter than the chunk", "horizon", "episode 1", fitting("video", "", long_chunk), "note"
    ),
    Fault(
        "statistics without quantiles",
        "quantiles_missing",
        "observation.state",
        fitting("video", "pi05", data=no_quantiles),
    ),
    Fault("other units", "stats_far", "observation.state", fitting("video", "", other_units), "note"),
]


def other_joints(world: World) -> Section:
    """A policy that notes the names of its joints, in another order."""
    root, folder = world.tmp / "set", world.tmp / "checkpoint"
    shutil.copytree(world.originals / "video", root)
    shutil.copytree(world.originals / "checkpoint", folder)
    as_recorded(folder)
    named = dataset.examine(
        root,
        "me/set",
        {"path": str(folder), "type": None},
        ask_videos,
        lambda question: Answer(fit_child.look(question) | {"action_names": list("bacdef")}),
    )
    return named[1]


FIT_FAULTS.append(Fault("joints in another order", "action_names", "action", other_joints))
HEALTHY = {
    **{kind: broken(kind) for kind in KINDS},
    "two backends": broken("video", videos=told()),
    "fit": fitting("video"),
}
