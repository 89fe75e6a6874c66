"""The tools of the partition tests do what they say."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator

import pytest

from tests.real_time.remote.networks import Host, Networks
from tests.real_time.remote.proxy import Proxy, Way, open_proxy


@pytest.fixture
def proxy() -> Generator[Proxy]:
    """Give a proxy to a server that echoes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_echo, args=(server,))
        thread.start()
        with open_proxy(server.getsockname()[1]) as proxy:
            yield proxy
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _echo(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo_one, args=(connection,)).start()


def _echo_one(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(1000):
                connection.sendall(data)
        except OSError:
            return


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def test_it_lets_through(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""
    assert proxy.accepted == 1


@pytest.mark.parametrize("ways", [(), ("up",), ("down",)])
def test_what_was_cut_comes_late_but_whole(proxy: Proxy, ways: tuple[Way, ...]) -> None:
    with connect(proxy) as client:
        proxy.cut(*ways)
        client.sendall(b"hello")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(10)
        proxy.heal()
        client.settimeout(5)
        assert client.recv(10) == b"hello"


def test_delay_is_each_ways(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.delay(0.1)
        start = time.monotonic()
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        assert 0.2 <= time.monotonic() - start < 2


def test_reset_is_no_goodbye(proxy: Proxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        client.recv(10)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(10)


def test_frozen_it_neither_reads_nor_accepts(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.freeze()
        client.sendall(b"hello")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(10)
        with connect(proxy):
            assert proxy.accepted <= 1
        proxy.thaw()
        client.settimeout(5)
        assert client.recv(10) == b"hello"


ECHO = """
import socket
server = socket.create_server(("0.0.0.0", 4747))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
"""

KNOCK = """
import socket, sys
with socket.create_connection((sys.argv[1], 4747), timeout=0.3) as connection:
    assert connection.recv(10) == b"hello"
"""


def test_networks_lose_in_silence_what_they_are_told_to_lose(networks: Networks) -> None:
    def knock() -> str:
        command = networks.command("near", sys.executable, "-c", KNOCK, networks.address("far"))
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stderr

    echo = networks.command("far", sys.executable, "-c", ECHO)
    with subprocess.Popen(echo, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        assert knock() == ""
        for ways in WAYS:
            networks.cut(*ways)
            assert "timed out" in knock()
            networks.heal()
            assert knock() == ""
        server.terminate()


WAYS: list[list[Host]] = [["near"], ["far"], ["near", "far"], []]
