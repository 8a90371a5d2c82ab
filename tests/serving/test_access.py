# SPDX-License-Identifier: Apache-2.0
"""Tokens, addresses, and what may not be exposed."""

import os

import pytest

from lerobot_ext.cli.command import CommandError
from lerobot_ext.serving.access import (
    Token,
    bearer,
    check_exposure,
    is_loopback,
    join_address,
    read_token,
    split_address,
)

SECRET = "0123456789abcdef0123"


@pytest.fixture
def token_file(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "token"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def test_a_token_comes_from_the_file_before_the_environment(token_file):
    token = read_token(token_file(SECRET + "\n"), {"LEROBOT_EXT_TOKEN": "x" * 20})
    assert token.matches(SECRET)
    assert read_token(None, {"LEROBOT_EXT_TOKEN": "x" * 20}).matches("x" * 20)
    assert read_token(None, {}) is None


@pytest.mark.parametrize("given", ["", SECRET[:-1], SECRET + "0", SECRET.upper(), "é" * 20])
def test_another_token_does_not_match(given):
    assert not Token(SECRET).matches(given)


def test_a_token_does_not_show_up_in_messages():
    assert SECRET not in repr(Token(SECRET))
    assert bearer({"authorization": f"Bearer {SECRET}"}) == SECRET
    assert bearer({"authorization": f"Basic {SECRET}"}) == ""
    assert bearer({}) == ""


@pytest.mark.parametrize(
    "text", ["", "short", "two words of a token", "schlüssel" * 3, "a" * 20 + "\n" + "b" * 20]
)
def test_a_weak_or_broken_token_is_refused(token_file, text):
    with pytest.raises(CommandError, match="characters; it needs") as caught:
        read_token(token_file(text), {})
    assert "secrets.token_urlsafe" in caught.value.remedy


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_token_that_others_may_read_is_refused(token_file):
    with pytest.raises(CommandError, match="other users") as caught:
        read_token(token_file(SECRET, 0o644), {})
    assert caught.value.remedy.startswith("`chmod 600")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("robot", False),
        ("", False),
    ],
)
def test_only_true_loopback_counts_as_such(host, loopback):
    assert is_loopback(host) is loopback


def test_the_network_needs_a_token_and_tls():
    token = Token(SECRET)
    check_exposure("127.0.0.1", None, tls=False, insecure_network=False)
    check_exposure("0.0.0.0", token, tls=True, insecure_network=False)
    check_exposure("0.0.0.0", token, tls=False, insecure_network=True)
    with pytest.raises(CommandError, match="no token is set"):
        check_exposure("0.0.0.0", None, tls=True, insecure_network=True)
    for role, option in (("server", "--tls-cert"), ("client", "--tls-ca")):
        with pytest.raises(CommandError, match="in the clear") as caught:
            check_exposure("192.168.1.5", token, tls=False, insecure_network=False, role=role)
        assert option in caught.value.remedy


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "robot.lan:1", "[::1]:65535"])
def test_addresses_come_back_as_they_went(address):
    assert join_address(*split_address(address)) == address


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":80", "host:0", "host:65536", "host:x", "::1:80", "h:-1"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(CommandError, match="no address"):
        split_address(address)
