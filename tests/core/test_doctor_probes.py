# SPDX-License-Identifier: Apache-2.0
"""The doctor's children and what they look at: real libraries, a real capture, a real publisher."""

import base64
import importlib.util
import json
import sys
import threading
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from doctor_faults import datasets

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor import (
    camera_child,
    cameras,
    checkpoint,
    child,
    dataset,
    dataset_pictures,
    gpu,
    gpu_child,
    serial_ports,
    video,
    video_child,
)

HELPERS = Path(__file__).parents[1] / "helpers"


# --- children


def module(folder: Path, monkeypatch, body: str) -> str:
    (folder / "child_zz.py").write_text(
        "from lerobot_ext.doctor.child import answer\nimport os, sys, time\n" + body
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return "child_zz"


def test_a_child_answers_whatever_else_is_printed(tmp_path, monkeypatch):
    name = module(
        tmp_path, monkeypatch, "print('noise', end='')\nanswer({'word': sys.argv[1]})\nprint('more')\n"
    )
    assert child.ask(name, ["é"], 60) == child.Answer({"word": "é"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.stderr.write('driver broke\\n'); sys.stderr.flush(); os._exit(7)\n", "status 7 (driver broke)"),
        ("os.kill(os.getpid(), 11)\n", "was ended by signal 11"),
        ("raise ValueError('no')\n", "status 1 (ValueError: no)"),
    ],
)
def test_a_child_that_dies_is_described(tmp_path, monkeypatch, body, words):
    told = child.ask(module(tmp_path, monkeypatch, body), [], 60)
    assert words in told.failure
    assert not told.timed_out
    assert told.value == {}


def test_a_child_that_hangs_is_ended(tmp_path, monkeypatch):
    told = child.ask(module(tmp_path, monkeypatch, "time.sleep(600)\n"), [], 1.0)
    assert told.timed_out
    assert told.failure == "gave no answer within 1 s"


def test_texts_become_one_short_line():
    assert child.one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert child.one_line(ValueError()) == "ValueError"
    assert child.one_line("x" * 400) == "x" * 300 + "…"


@pytest.mark.parametrize(("check", "kind"), [(video, "video_libraries"), (gpu, "gpu_probe")])
def test_a_library_that_kills_its_process_is_a_problem(check, kind, monkeypatch):
    monkeypatch.setattr(child, "ask", lambda *words: child.Answer(failure="was ended by signal 11"))
    [section] = check.CHECK.examine(Namespace())
    [finding] = section.findings
    assert (finding.level, finding.kind) == ("problem", kind)
    assert "signal 11" in finding.message
    assert finding.remedy


def test_a_decoder_that_dies_is_traced_to_the_file(monkeypatch):
    """The child dies whenever the third of five files is among its jobs."""
    jobs = [{"path": f"/videos/{index}.mp4"} for index in range(5)]
    asked = []

    def ask(name: str, words: list[str], timeout_s: float) -> child.Answer:
        part = json.loads(Path(words[0]).read_text())
        asked.append(len(part))
        if jobs[2] in part:
            return child.Answer(failure="was ended by signal 11")
        return child.Answer({"backends": ["pyav"], "results": [{**job, "errors": {}} for job in part]})

    monkeypatch.setattr(child, "ask", ask)
    told = dataset_pictures.ask_child(jobs).value
    assert [result["path"] for result in told["results"]] == [job["path"] for job in jobs]
    assert [bool(result["errors"]) for result in told["results"]] == [False, False, True, False, False]
    assert "signal 11" in told["results"][2]["errors"]["decoder"]
    assert told["backends"] == ["pyav"]


def test_without_pyserial_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    monkeypatch.setitem(sys.modules, "serial.tools", None)
    [section] = serial_ports.CHECK.examine(Namespace(ports=[]))
    assert [finding.kind for finding in section.findings] == ["pyserial"]
    assert "lerobot[dynamixel]" in section.findings[0].remedy


# --- libraries


def test_pyav_of_this_environment_encodes_and_decodes_all_three_codecs():
    found = video_child.look()
    assert found["av_error"] == ""
    assert {name: entry["decodes"] for name, entry in found["codecs"].items()} == dict.fromkeys(
        ("h264", "hevc", "av1"), True
    )
    assert found["codecs"]["av1"]["encoder"] == "libsvtav1"


@pytest.mark.slow
def test_torchcodec_and_pyav_give_the_same_frames_of_a_real_video(tmp_path, monkeypatch):
    """PyAV's wheel brings an FFmpeg under names of its own; under the usual ones torchcodec loads it."""
    av = pytest.importorskip("av")
    bundled = Path(av.__file__).parents[1] / "av.libs"
    if importlib.util.find_spec("torchcodec") is None or not list(bundled.glob("libavutil-*.so.*")):
        pytest.skip("there is no torchcodec, or PyAV has no FFmpeg of its own")
    for name in ("avutil", "avcodec", "avformat", "avfilter", "avdevice", "swscale", "swresample"):
        [library] = bundled.glob(f"lib{name}-*.so.*")
        major = library.name.partition(".so.")[2].partition(".")[0]
        (tmp_path / f"lib{name}.so.{major}").symlink_to(library)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}:{bundled}")
    loaded = video.CHECK.examine(Namespace())[0]
    assert loaded.facts["backend"] == "torchcodec", loaded.facts["torchcodec_error"]
    assert loaded.facts["ffmpeg"]
    datasets.record(tmp_path / "set", "video")
    file = str(tmp_path / "set" / datasets.VIDEO)
    told = dataset_pictures.ask_child([{"path": file, "times": [0.0, 0.3, 17 / 30], "depth": False}])
    assert told.value["backends"] == ["pyav", "torchcodec"]
    [result] = told.value["results"]
    assert result["errors"] == {}
    assert result["differs"] <= 2.0


def test_an_encoder_that_is_not_there_is_said():
    import av

    entry = video_child.try_codec(av, "h264", ("libnothing",))
    assert entry == {"encoder": "", "decodes": True, "error": "this build of PyAV has no libnothing"}


def test_torch_is_asked_without_a_gpu_and_with_one():
    import torch

    found = gpu_child.look()
    assert found["torch"] == torch.__version__
    assert found["available"] == torch.cuda.is_available()
    assert len(found["devices"]) == (torch.cuda.device_count() if found["available"] else 0)
    gpu.conclude(found, gpu.look_at_machine())


@pytest.mark.gpu
def test_a_real_gpu_has_no_problem():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    section = gpu.conclude(gpu_child.look(), gpu.look_at_machine())
    assert section.ok
    assert section.facts["devices"][0]["error"] == ""


def test_nvidia_cards_are_counted_on_the_bus(tmp_path):
    for name, vendor, kind in (
        ("0", "0x10de", "0x030200"),
        ("1", "0x10de", "0x040300"),
        ("2", "0x8086", "0x030000"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert gpu._count_cards(tmp_path) == 1


@pytest.mark.parametrize(
    ("capability", "arch_list", "runs"),
    [
        ("9.0", ["sm_80", "sm_90"], True),
        ("8.6", ["sm_80", "sm_90"], True),
        ("6.1", ["sm_70", "sm_80"], False),
        ("12.0", ["sm_90", "compute_90"], True),
        ("12.0", ["sm_90a"], False),
        ("7.5", ["sm_80"], False),
    ],
)
def test_which_cards_a_build_of_torch_runs_on(capability, arch_list, runs):
    assert gpu._has_kernels(capability, arch_list) == runs


# --- cameras


def test_a_real_capture_is_measured_in_a_child(tmp_path):
    """OpenCV opens a video file the way it opens a camera."""
    import cv2

    path = tmp_path / "camera.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (64, 48))
    for level in range(50):
        writer.write(np.full((48, 64, 3), 5 * level, np.uint8))
    writer.release()
    told = child.ask("lerobot_ext.doctor.camera_child", ["opencv", str(path), "30"], 60)
    assert told.failure == ""
    assert told.value["opened"]
    assert told.value["claimed"] == {"fps": 30.0, "width": 64, "height": 48}
    assert (told.value["frames"], told.value["failed"], told.value["distinct"]) == (35, 0, 35)
    assert (told.value["width"], told.value["height"]) == (64, 48)


def test_a_capture_that_is_not_there_is_not_opened(tmp_path):
    assert camera_child.measure(str(tmp_path / "none.mp4"), 5) == {"opened": False}


def publish(messages: list[str], stop: threading.Event) -> tuple[threading.Thread, int]:
    """A publisher on loopback that repeats its messages."""
    import zmq

    context = zmq.Context.instance()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")

    def run() -> None:
        while not stop.wait(0.02):
            for message in messages:
                socket.send_string(message)
        socket.close(linger=0)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, port


def jpeg(height: int, width: int) -> str:
    import cv2

    return base64.b64encode(
        cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    ).decode()


@pytest.mark.parametrize(
    ("message", "published", "error"),
    [
        (json.dumps({"images": {"top": jpeg(48, 64)}}), {"top": {"width": 64, "height": 48}}, ""),
        (json.dumps({"images": {"top": "bm8="}}), {"top": {"width": 0, "height": 0}}, ""),
        (json.dumps({"pictures": {}}), {}, "not a message of LeRobot's (KeyError"),
        ("no json", {}, "not a message of LeRobot's (JSONDecodeError"),
    ],
)
def test_a_real_publisher_is_listened_to(message, published, error):
    stop = threading.Event()
    thread, port = publish([message], stop)
    try:
        found = camera_child.listen(f"127.0.0.1:{port}", 30.0)
    finally:
        stop.set()
        thread.join()
    assert found["messages"] > 1
    assert found["cameras"] == published
    assert found["error"].startswith(error)


def test_silence_is_no_message():
    stop = threading.Event()
    thread, port = publish([], stop)
    try:
        assert camera_child.listen(f"127.0.0.1:{port}", 0.2)["messages"] == 0
    finally:
        stop.set()
        thread.join()


def node(sysfs: Path, name: str, label: str, index: int) -> None:
    folder = sysfs / "class/video4linux" / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "index").write_text(f"{index}\n")


def test_linux_lists_cameras_with_name_and_path_that_stays(tmp_path):
    dev, sysfs = tmp_path / "dev", tmp_path / "sys"
    (dev / "v4l/by-path").mkdir(parents=True)
    (dev / "video10").touch()
    (dev / "v4l/by-path/pci-1-video-index0").symlink_to(dev / "video10")
    for name, index in (("video10", 0), ("video11", 1), ("video2", 0)):
        node(sysfs, name, "C920", index)
    system = cameras.System(child.ask, sysfs=sysfs, dev=dev, platform="linux")
    assert cameras.list_devices(system) == [
        cameras.Device(str(dev / "video2"), "C920"),
        cameras.Device(str(dev / "video10"), "C920", stable_path=str(dev / "v4l/by-path/pci-1-video-index0")),
        cameras.Device(str(dev / "video11"), "C920", metadata_only=True),
    ]


def test_the_second_node_of_a_camera_is_not_opened(tmp_path):
    node(tmp_path / "sys", "video1", "C920", 1)
    asked: list[object] = []
    system = cameras.System(lambda *words: asked.append(words), sysfs=tmp_path / "sys", platform="linux")  # type: ignore[arg-type]
    cameras.examine(system)
    assert asked == []


def test_other_systems_try_the_first_indices():
    assert [
        device.target for device in cameras.list_devices(cameras.System(child.ask, platform="darwin"))
    ] == [str(index) for index in range(10)]


@pytest.mark.parametrize(
    "word", ["zmq://", "zmq://host", "zmq://host:port", "zmq://:5555", "zmq://host:70000/top"]
)
def test_an_address_that_is_none_is_refused(word):
    with pytest.raises(CommandError, match="no address of a camera") as caught:
        cameras.examine(cameras.System(child.ask), [word])
    assert "zmq://HOST:PORT" in caught.value.remedy


# --- ports


def test_the_ports_of_this_machine_are_listed():
    for port in serial_ports.list_ports():
        assert port.device
        assert len(port.usb_id) == 9


def test_a_named_port_is_examined_alone(tmp_path):
    one, two = tmp_path / "ttyUSB0", tmp_path / "ttyUSB1"
    one.touch()
    ports = [serial_ports.Port(str(one), "0403:6014"), serial_ports.Port(str(two), "0403:6014")]
    system = serial_ports.System(
        lambda: ports, tmp_path, tmp_path, tmp_path, platform="linux", may_use=lambda path: path == str(two)
    )
    section = serial_ports.examine(system, [str(one)])
    assert [finding.subject for finding in section.findings] == [str(one)]
    assert [entry["device"] for entry in section.facts["ports"]] == [str(one)]


# --- where things are


def test_a_checkpoint_is_found_by_folder_and_in_the_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub/models--me--policy/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "hub/models--me--policy/refs").mkdir()
    (tmp_path / "hub/models--me--policy/refs/main").write_text("abc")
    assert checkpoint.find_checkpoint("me/policy") == snapshot
    assert checkpoint.find_checkpoint("me/policy", "abc") == snapshot
    assert checkpoint.find_checkpoint(str(snapshot)) == snapshot
    with pytest.raises(CommandError) as caught:
        checkpoint.find_checkpoint("me/other", "v1")
    assert caught.value.remedy == "`hf download me/other --revision v1`"
    with pytest.raises(CommandError, match="no such folder"):
        checkpoint.find_checkpoint("./not/there")


def test_the_folder_of_a_run_means_its_last_checkpoint(tmp_path):
    inner = tmp_path / "checkpoints/last/pretrained_model"
    inner.mkdir(parents=True)
    (inner / "config.json").write_text("{}")
    for folder in (tmp_path, inner.parent, inner):
        assert checkpoint.find_checkpoint(str(folder)) == inner
    assert checkpoint.find_checkpoint(str(inner.parents[1])) == inner.parents[1]  # its config.json is missed


def test_a_dataset_is_found_by_root_repo_id_and_in_the_cache(tmp_path, monkeypatch):
    from lerobot.utils import constants

    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_LEROBOT_HUB_CACHE", tmp_path / "hub")
    (tmp_path / "me/set/meta").mkdir(parents=True)
    assert dataset.find_dataset("me/set", None) == tmp_path / "me/set"
    assert dataset.find_dataset("me/any", str(tmp_path / "me/set")) == tmp_path / "me/set"
    snapshot = tmp_path / "hub/datasets--me--loaded/snapshots/abc"
    (snapshot / "meta").mkdir(parents=True)
    (snapshot / "meta/info.json").write_text("{}")
    (tmp_path / "hub/datasets--me--loaded/refs").mkdir()
    (tmp_path / "hub/datasets--me--loaded/refs/v3.0").write_text("abc")
    assert dataset.find_dataset("me/loaded", None) == snapshot
    with pytest.raises(CommandError) as caught:
        dataset.find_dataset("me/none", None)
    assert "hf download --repo-type dataset me/none" in caught.value.remedy
    with pytest.raises(CommandError, match="holds no folder `meta`"):
        dataset.find_dataset(None, str(tmp_path))
