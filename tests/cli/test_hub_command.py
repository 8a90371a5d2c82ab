# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext hub serve`: prints what the other shell needs, serves it, ends on Ctrl-C."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

PROGRAM = str(Path(sys.executable).with_name("lerobot-ext"))


def test_what_it_prints_is_what_a_client_needs(tmp_path):
    process = subprocess.Popen(
        [PROGRAM, "hub", "serve", str(tmp_path / "my hub"), "--token=right"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        lines = []
        while not (lines and "Ctrl-C" in lines[-1]):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        exports = dict(
            re.fullmatch(r"export (\w+)=(.*)\n", line).groups() for line in lines if "export" in line
        )
        variables = {name: shlex.split(value)[0] for name, value in exports.items()}
        assert variables["HF_HOME"] == str(tmp_path / "my hub_client")
        assert variables["LEROBOT_EXT_HUB_LOOPBACK"] == variables["HF_ENDPOINT"]
        headers = {"Authorization": f"Bearer {variables['HF_TOKEN']}"}
        answer = httpx.get(f"{variables['HF_ENDPOINT']}/api/whoami-v2", headers=headers, trust_env=False)
        assert answer.json()["name"] == "user"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "message", "remedy"),
    [
        (["--port=99999"], "99999 is not a TCP port", "leave it out"),
        (["--port={taken}"], "cannot serve", "choose another --port"),
        (["--host=0.0.0.0"], "is reached from other machines", "--token"),
        (["--token=:x"], "--token ':x' is not USER:TOKEN", "letters"),
        (["--token=a:x", "--token=b:x"], "given twice", "of their own"),
        (["--max-file-mb=0"], "lets nothing in", "above 0"),
    ],
)
def test_a_wrong_option_is_a_line_and_a_remedy(tmp_path, arguments, message, remedy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [word.format(taken=taken.getsockname()[1]) for word in arguments]
        ran = subprocess.run(
            [PROGRAM, "hub", "serve", str(tmp_path / "hub"), *words],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 2
    first, second = ran.stderr.splitlines()
    assert message in first
    assert remedy in second


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    ran = subprocess.run(
        [PROGRAM, "hub", "serve", str(tmp_path / "file")], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 2
    assert "is a file" in ran.stderr
