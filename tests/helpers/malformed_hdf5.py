# SPDX-License-Identifier: Apache-2.0
"""HDF5 files that cannot be converted, each broken in one way, made from a whole one."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Break = Callable[[Path], None]
IMAGE = "observations/left_image"


def _edit(change: Callable[[h5py.File], Any]) -> Break:
    def broken(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return broken


def _replace(name: str, make: Callable[[Any], Any]) -> Break:
    def change(file: h5py.File) -> None:
        values = file[name][()]
        del file[name]
        made = make(values)
        if made is not None:
            file[name] = made

    return _edit(change)


def _set(name: str, place: Any, value: Any) -> Break:
    return _edit(lambda file: file[name].__setitem__(place, value))


def _bytes(change: Callable[[bytearray], bytearray | bytes]) -> Break:
    return lambda path: path.write_bytes(change(bytearray(path.read_bytes()))) and None


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((120, 16), np.float32)
    layout[:] = h5py.VirtualSource("other.hdf5", "x", (120, 16))
    del file["actions"]
    file.create_virtual_dataset("actions", layout)


def _external_storage(file: h5py.File) -> None:
    del file["actions"]
    file.create_dataset("actions", (120, 16), np.float32, external=[("raw.bin", 0, 120 * 16 * 4)])


def _external_link(file: h5py.File) -> None:
    del file["actions"]
    file["actions"] = h5py.ExternalLink("elsewhere.hdf5", "/actions")


def _soft_link(file: h5py.File) -> None:
    del file["rewards"]
    file["rewards"] = h5py.SoftLink("/nowhere")


def _loop(file: h5py.File) -> None:
    del file["observations"]
    file.create_group("observations")["observations"] = file["/"]


def _never_written(file: h5py.File) -> None:
    del file[IMAGE]
    file.create_dataset(IMAGE, (120, 64, 64, 3), np.uint8, chunks=(10, 64, 64, 3))


def _unknown_filter(path: Path) -> None:
    """Say of a gzip dataset that it was made by a filter that nobody has."""
    with h5py.File(path, "r+") as file:
        values = file["actions"][()]
        del file["actions"]
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((60, 16))
        made.set_filter(32123, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple(values.shape)
        h5py.h5d.create(file.id, b"actions", h5py.h5t.IEEE_F32LE, space, made)
        file["actions"][:] = values


def _damaged_chunk(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        values = file["actions"][()]
        del file["actions"]
        made = file.create_dataset("actions", data=values, chunks=(60, 16), compression="gzip")
        where = made.id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + where.size] = bytes(where.size)
    path.write_bytes(content)


def _damaged_pictures(path: Path) -> None:
    """A chunk in the middle of the pictures, which only the conversion reads."""
    with h5py.File(path, "r+") as file:
        values = file[IMAGE][()]
        del file[IMAGE]
        made = file.create_dataset(IMAGE, data=values, chunks=(4, 64, 64, 3), compression="gzip")
        where = made.id.get_chunk_info(14)
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + where.size] = bytes(where.size)
    path.write_bytes(content)


def _strings(values: Any) -> Any:
    return np.array([b"a"] * len(values), dtype="S4")


def _compound(values: Any) -> Any:
    return np.zeros(len(values), dtype=[("x", "f4"), ("y", "f4")])


def _objects(file: h5py.File) -> None:
    del file["actions"]
    made = file.create_dataset("actions", (120,), dtype=h5py.string_dtype())
    made[:] = "[0.0, 1.0]"


def _references(file: h5py.File) -> None:
    target = file["rewards"].ref
    del file["terminals"]
    file.create_dataset("terminals", (120,), dtype=h5py.ref_dtype)[:] = target


def _user_block(path: Path) -> None:
    path.write_bytes(b"\x00" * 777 + path.read_bytes())


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


MALFORMED: dict[str, Break] = {
    "empty file": _bytes(lambda b: b""),
    "text file": _bytes(lambda b: b"time,reward\n0,1\n"),
    "half a file": _bytes(lambda b: b[: len(b) // 2]),
    "one byte short": _bytes(lambda b: b[:-1]),
    "header only": _bytes(lambda b: b[:96]),
    "no signature": _bytes(lambda b: b"\x00" * 8 + b[8:]),
    "odd user block": _user_block,
    "zeros in the root group": _bytes(lambda b: b[:96] + bytes(400) + b[496:]),
    "ones in the root group": _bytes(lambda b: b[:96] + b"\xff" * 400 + b[496:]),
    "a folder": _folder,
    "no groups": _edit(lambda file: [file.pop(name) for name in list(file)]),
    "no actions": _edit(lambda file: file.pop("actions")),
    "misspelt camera": _edit(lambda file: file.move(IMAGE, "observations/left_imgae")),
    "no terminals": _edit(lambda file: file.pop("terminals")),
    "no rewards": _edit(lambda file: file.pop("rewards")),
    "no joints": _edit(lambda file: file.pop("observations/joint")),
    "group for actions": _edit(lambda file: (file.pop("actions"), file.create_group("actions"))),
    "group for a camera": _edit(lambda file: (file.pop(IMAGE), file.create_group(IMAGE))),
    "dataset for observations": _edit(
        lambda file: (file.pop("observations"), file.create_dataset("observations", data=np.zeros(120)))
    ),
    "external link": _edit(_external_link),
    "dangling soft link": _edit(_soft_link),
    "group that contains itself": _edit(_loop),
    "virtual dataset": _edit(_virtual),
    "external storage": _edit(_external_storage),
    "unknown compression": _unknown_filter,
    "damaged chunk of numbers": _damaged_chunk,
    "damaged chunk of pictures": _damaged_pictures,
    "never written pictures": _edit(_never_written),
    "compound actions": _replace("actions", _compound),
    "text actions": _replace("actions", _strings),
    "object actions": _edit(_objects),
    "references for terminals": _edit(_references),
    "scalar rewards": _replace("rewards", lambda values: 1.0),
    "wide rewards": _replace("rewards", lambda values: np.zeros((120, 2))),
    "actions of three ranks": _replace("actions", lambda values: values.reshape(120, 4, 4)),
    "short actions": _replace("actions", lambda values: values[:-1]),
    "long rewards": _replace("rewards", lambda values: np.zeros(121)),
    "no frames": _edit(
        lambda file: [
            (file.pop(name), file.create_dataset(name, data=np.zeros(shape, kind)))
            for name, shape, kind in [
                *((f"observations/{c}_image", (0, 64, 64, 3), "u1") for c in ("left", "right", "global")),
                ("observations/joint", (0, 16), "f4"),
                ("actions", (0, 16), "f4"),
                ("rewards", (0,), "f4"),
                ("terminals", (0,), "f4"),
                ("timeouts", (0,), "f4"),
            ]
        ]
    ),
    "NaN in actions": _set("actions", (7, 3), np.nan),
    "infinite rewards": _set("rewards", 5, np.inf),
    "too large for float32": _replace("rewards", lambda values: np.full(120, 1e300)),
    "integers beyond float32": _replace("rewards", lambda values: np.full(120, 2**40 + 1)),
    "terminals that are no flags": _set("terminals", 5, 0.5),
    "terminals that never fire": _edit(
        lambda file: (file.pop("timeouts"), file["terminals"].__setitem__(slice(None), 0))
    ),
    "float pictures": _replace(IMAGE, lambda values: (values / 255).astype(np.float32)),
    "channels first": _replace(IMAGE, lambda values: values.transpose(0, 3, 1, 2)),
    "grey pictures": _replace(IMAGE, lambda values: values[..., 0]),
    "pictures of one pixel": _replace(IMAGE, lambda values: values[:, :1, :1]),
    "bytes that are no pictures": _replace(IMAGE, lambda values: values.reshape(120, -1)[:, :500]),
    "black pictures": _replace(IMAGE, lambda values: np.zeros_like(values)),
    "a camera that stands still": _replace(IMAGE, lambda values: np.repeat(values[:1], 120, 0)),
    "joints of another width": _replace("actions", lambda values: values[:, :7]),
}


def malformed(whole: Path, name: str, path: Path) -> Path:
    """A copy of a whole LAPO file (120 frames, 64x64) that is broken in the way called `name`."""
    shutil.copyfile(whole, path)
    MALFORMED[name](path)
    return path


def scribbled(whole: bytes, seed: int) -> bytes:
    """A file with random bytes, mostly in the structures at its beginning, or cut short."""
    rng = random.Random(seed)
    content = bytearray(whole)
    if rng.random() < 0.25:
        return bytes(content[: rng.randrange(len(content))])
    reach = min(len(content), rng.choice([2_000, 40_000, len(content)]))
    for _ in range(rng.choice([1, 4, 20, 200])):
        content[rng.randrange(reach)] = rng.randrange(256)
    return bytes(content)
