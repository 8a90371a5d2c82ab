# SPDX-License-Identifier: Apache-2.0
"""What both commands refuse before anything is loaded, connected or moved: one line and a remedy each."""

import json
import subprocess
import sys

import pytest

from lerobot_ext.cli import main as cli
from lerobot_ext.installing import install_command
from lerobot_ext.serving import extra


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; the line, and the remedy."""

    def run(*words: str) -> str:
        assert cli.main(list(words)) == 2
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        assert shown.out == ""
        return shown.err

    return run


@pytest.fixture
def policy(tmp_path):
    """A folder that looks like a checkpoint."""
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("{}")
    return f"--policy.path={tmp_path / 'policy'}"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text("0123456789abcdef0123")
    path.chmod(0o600)
    return f"--token-file={path}"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv("LEROBOT_EXT_TOKEN", raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.7.7", "robot.lan"])
def test_a_server_on_the_network_needs_a_token(refused, policy, host):
    said = refused("policy-server", policy, f"--host={host}", "--insecure-network")
    assert "no token is set: anybody there could drive the robot" in said
    assert "--token-file" in said


def test_a_server_on_the_network_needs_tls_or_the_word_for_it(refused, policy, token_file):
    said = refused("policy-server", policy, "--host=0.0.0.0", token_file)
    assert "travel in the clear" in said
    assert "--tls-cert" in said
    assert "--insecure-network" in said


def test_a_client_does_not_send_its_token_in_the_clear(refused, token_file):
    said = refused("robot-client", "--server=192.168.7.7:8080", token_file, "--robot.type=koch_follower")
    assert "travel in the clear" in said
    assert "--tls-ca" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "no policy is allowed"),
        (["--policy.path=nowhere/at/all"], "neither a checkpoint folder nor a Hub id"),
        (["--allow=nowhere"], "is no folder"),
        (["--policy.path=a/b", "--port=70000"], "--port 70000 is no TCP port"),
        (["--policy.path=a/b", "--tls-cert=x.pem"], "belong together"),
        (["--policy.path=a/b", "--tls-cert=x.pem", "--tls-key=y.pem"], "x.pem is no file"),
        (["--policy.path=a/b", "--lease-s=0"], "--lease-s 0 is not between"),
        (["--policy.path=a/b", "--max-loaded=0"], "--max-loaded 0"),
        (["--policy.path=a/b", "--max-megabytes=0"], "--max-megabytes 0"),
        (["--policy.path=a/b", "--token-file=nowhere"], "`--token-file` nowhere cannot be read"),
    ],
)
def test_wrong_options_of_the_server_are_named(refused, words, why):
    assert why in refused("policy-server", *words)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "no robot is given"),
        (["--fps=0"], "`--fps` 0 is not between"),
        (["--chunk_size_threshold=1.5"], "`--chunk_size_threshold` 1.5"),
        (["--image_quality=101"], "`--image_quality` 101"),
        (["--rename-map=[1]", "--robot.type=x"], "must be a JSON object of names"),
        (["--trace=nowhere/x.jsonl", "--robot.type=x"], "`--trace` nowhere/x.jsonl cannot be written"),
        (["--server=here", "--robot.type=x"], "'here' is no address"),
        (["--tls-ca=nowhere", "--robot.type=x"], "nowhere is no file"),
    ],
)
def test_wrong_options_of_the_client_are_named(refused, words, why):
    assert why in refused("robot-client", *words)


def test_an_unknown_robot_is_refused_with_those_there_are(refused, monkeypatch):
    said = refused("robot-client", "--robot.type=marsrover")
    assert "--robot.type 'marsrover' is no registered robot" in said
    assert "koch_follower" in said  # ours
    assert "so101_follower" in said  # stock's


def test_a_wrong_field_of_the_robot_is_named(refused, capsys):
    said = refused(
        "robot-client", "--robot.type=koch_follower", "--robot.port=/dev/x", "--robot.give_up_ms=soon"
    )
    assert "the robot's options are wrong" in said
    assert "give_up_ms" in said


def test_a_robot_that_cannot_be_built_is_one_line(refused, monkeypatch):
    from lerobot_ext.serving import devices

    def build(config):
        raise ImportError("'some-sdk' is required. Install it with: pip install 'lerobot[some]'")

    monkeypatch.setattr(devices, "make_robot_from_config", build)
    said = refused("robot-client", "--robot.type=koch_follower", "--robot.port=/dev/x")
    assert "robot 'koch_follower' cannot be built" in said
    assert "pip install 'lerobot[some]'" in said


def test_missing_grpc_is_one_line_with_the_command_to_install_it(refused, policy, monkeypatch):
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "grpc" else object())
    for command in ("policy-server", "robot-client"):
        said = refused(command, policy) if command == "policy-server" else refused(command)
        assert "needs grpc, which is not installed" in said
        assert f"remedy: {install_command('lerobot_ext[serving]')}" in said


def test_the_help_of_both_commands_imports_nothing_heavy():
    probe = (
        "import sys, contextlib\n"
        "from lerobot_ext.cli.main import main\n"
        "for name in ('policy-server', 'robot-client'):\n"
        "    with contextlib.suppress(SystemExit): main([name, '--help'])\n"
        "heavy = {'torch', 'lerobot', 'grpc', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "No dataset is recorded" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_the_benchmark_runs_and_its_last_line_is_its_result(tmp_path):
    done = subprocess.run(
        [sys.executable, "benchmarks/async_inference.py", "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("async_inference: without pickle a round trip takes")
    results = json.loads((tmp_path / "async_inference.json").read_text())
    assert set(results) == {"pickle", "lerobot_ext", "lerobot_ext_jpeg"}
    assert (tmp_path / "async_inference.png").read_bytes().startswith(b"\x89PNG")
