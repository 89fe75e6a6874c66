"""Addresses: what is read is written back, and what is wrong is told with its cure."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightactors.address import Address
from lightactors.errors import ConfigurationError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=20)
PATHS = st.just("") | st.lists(NAMES, min_size=1, max_size=3).map("/".join)
HOSTS = st.sampled_from(["localhost", "127.0.0.1", "store-1.example.org", "x_y", "::1", "2001:db8::7"])
SOCKETS = st.lists(NAMES.filter(lambda name: "\0" not in name), min_size=1, max_size=3).map("/".join)
NETWORK = st.builds(Address, st.sampled_from(["grpc", "grpcs"]), HOSTS, st.integers(0, 65535), path=PATHS)
FILES = st.builds(Address, st.just("unix"), socket=SOCKETS.filter(lambda path: len(path.encode()) <= 107), path=PATHS)


@given(NETWORK | FILES)
def test_what_is_written_is_read_back(address: Address) -> None:
    assert Address.parse(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_a_configuration_error(text: str) -> None:
    with suppress(ConfigurationError):
        address = Address.parse(text)
        assert Address.parse(str(address)) == address


READ = {
    "grpc://host:1/counter": Address("grpc", "host", 1, path="counter"),
    "grpcs://host": Address("grpcs", "host", 4747),
    "GRPC://host/": Address("grpc", "host", 4747),
    "grpc://host:0": Address("grpc", "host", 0),
    "grpc://[::1]:4748/team/first": Address("grpc", "::1", 4748, path="team/first"),
    "grpc://[::1]": Address("grpc", "::1", 4747),
    "grpc://host/my%20counter": Address("grpc", "host", 4747, path="my counter"),
    "unix:/run/me.sock": Address("unix", socket="/run/me.sock"),
    "unix:///run/me.sock": Address("unix", socket="/run/me.sock"),
    "unix:me.sock#counter": Address("unix", socket="me.sock", path="counter"),
    "unix:/run/a%23b.sock#/team/first": Address("unix", socket="/run/a#b.sock", path="team/first"),
}


@pytest.mark.parametrize("text", READ)
def test_addresses_that_are_right(text: str) -> None:
    assert Address.parse(text) == READ[text]


WRONG = {
    "": "empty",
    "http://host:1/x": "say 'grpc://host:1/x'",
    "https://host": "say 'grpcs://host'",
    "ftp://host": "no scheme of ours",
    "localhost:4747": "say 'grpc://localhost:4747'",
    "host": "say 'grpc://host'",
    "/run/me.sock": "say 'unix:/run/me.sock'",
    "grpc:host:1": "say 'grpc://host:1'",
    "grpc://host:http": "'http' is no port",
    "grpc://host:": "'' is no port",
    "grpc://host:-1": "'-1' is no port",
    "grpc://host:65536": "no port 65536",
    "grpc://host:\u0661": "is no port",
    "grpc://:4747": "names no host",
    "grpc://": "names no host",
    "grpc://ho st:1": "has ' ' in it",
    "grpc://host:1\n": r"has '\\n' in it",
    "grpc://host\x00:1": "in it",
    " grpc://host:1": "has ' ' in it",
    "grpc://::1": "put the IPv6 address in brackets",
    "grpc://::1:4747": "put the IPv6 address in brackets",
    "grpc://[::1:4747": "in brackets",
    "grpc://[::1]4747": "in brackets",
    "grpc://[host]:1": "no IPv6 address",
    "grpc://host?x=1": "leave out '\\?'",
    "grpc://host#x": "leave out '#'",
    "grpc://host/a//b": "without a name",
    "grpc://host/%": "two hexadecimal digits",
    "grpc://host/%ff": "no UTF-8",
    "grpc://ho*st": "is no host",
    "unix:": "no socket file",
    "unix:/run/": "no socket file",
    "unix:/run/me.sock#": "without a name",
    "unix:/run/%00": "%00",
    "unix:/" + "x" * 107: "108 bytes",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_addresses_are_told_with_their_cure(text: str) -> None:
    with pytest.raises(ConfigurationError, match=WRONG[text]):
        Address.parse(text)


@pytest.mark.parametrize(
    "text", ["grpc://me:secret@host:1", "http://me:secret@host", "me:secret@host", "grpc://secret@x/y"]
)
def test_secrets_in_addresses_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="pass token=") as raised:
        Address.parse(text)
    assert "secret" not in str(raised.value).replace("secrets", "")


@pytest.mark.parametrize("value", [None, 4747, b"grpc://host"])
def test_what_is_no_text_is_no_address(value: object) -> None:
    with pytest.raises(ConfigurationError, match="is no address"):
        Address.parse(value)  # type: ignore[arg-type]


def test_address_of_an_actor_at_a_node() -> None:
    node = Address.parse("grpc://host:1")
    assert str(node.at("/my counter")) == "grpc://host:1/my%20counter"
    assert str(Address.parse("unix:me.sock").at("team/first")) == "unix:me.sock#team/first"
    assert node.at("counter").node == node == node.at("counter").at("")
    with pytest.raises(ConfigurationError, match="without a name"):
        node.at("a//b")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        node.at("\ud800")


def test_what_grpc_calls_it() -> None:
    assert Address.parse("grpc://host/x").grpc_target() == "host:4747"
    assert Address.parse("grpcs://[::1]").grpc_target() == "[::1]:4747"
    assert Address.parse("unix:/run/me%20too.sock#x").grpc_target() == "unix:/run/me%20too.sock"


LOCAL = ["unix:x", "grpc://localhost", "grpc://LOCALHOST.", "grpc://127.0.0.1", "grpc://127.9.9.9", "grpc://[::1]"]
FAR = ["grpc://0.0.0.0", "grpc://[::]", "grpc://10.0.0.1", "grpc://localhost.example.org", "grpc://127.1"]


@pytest.mark.parametrize("text", LOCAL + FAR)
def test_what_only_this_machine_can_reach(text: str) -> None:
    assert Address.parse(text).is_local is (text in LOCAL)
