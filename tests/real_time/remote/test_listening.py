"""What a node listens on is its own, and free again as soon as it doesn't: ports, socket files, room for links."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import lightactors as la
from lightactors.errors import ConfigurationError, ConnectFailed
from lightactors.remote.grpc import server
from tests.users import nobody


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def health_watched(target: str) -> Generator[None]:
    """Have a call of a typed service under way that doesn't end by itself."""
    with grpc.insecure_channel(target) as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        next(call)
        yield


async def test_listening_that_fails_takes_nothing(tmp_path: Path) -> None:
    addresses = [f"grpc://127.0.0.1:{free_port()}", f"unix:{tmp_path}/socket"]
    with pytest.raises(ConfigurationError, match="can its folder be written to"):
        async with la.open_system(listen=[*addresses, f"unix:{tmp_path}/no/folder"]):
            raise AssertionError("it listens")
    assert not (tmp_path / "socket").exists()
    async with la.open_system(listen=addresses) as system:
        assert [str(address) for address in system.addresses] == addresses


async def test_socket_file_of_a_successor_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    has_ended = anyio.Event()

    async def take_a_while_to_end(watched: ExitStack) -> None:
        async with la.open_system("first", listen=f"unix:{path}"):
            await anyio.to_thread.run_sync(watched.enter_context, health_watched(f"unix:{path}"))
        has_ended.set()

    with ExitStack() as watched:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_a_while_to_end, watched)
            while not path.exists():  # noqa: ASYNC110 (nobody tells)
                await anyio.sleep(0.001)
            while path.exists():  # noqa: ASYNC110
                await anyio.sleep(0.001)
            async with la.open_system("second", listen=f"unix:{path}"):
                assert not has_ended.is_set()
                await has_ended.wait()
                assert path.exists()
                async with la.open_system("caller"):
                    await la.connect(f"unix:{path}")
    assert not path.exists()


async def test_socket_file_of_who_is_too_busy_to_answer_is_in_use(tmp_path: Path) -> None:
    path = f"{tmp_path}/socket"
    with ExitStack() as sockets:
        busy = sockets.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        busy.bind(path)
        busy.listen(0)
        sockets.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)).connect(path)
        with pytest.raises(ConfigurationError, match="in use by another process"):
            async with la.open_system(listen=f"unix:{path}"):
                raise AssertionError("it listens")


async def test_socket_file_that_may_not_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
    os.chmod(tmp_path, 0)
    try:
        with nobody(), pytest.raises(ConfigurationError, match=f"unix:{path} is not ours"):
            async with la.open_system(listen=f"unix:{path}"):
                raise AssertionError("it listens")
    finally:
        os.chmod(tmp_path, 0o700)


async def test_node_serves_so_many_links_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_LINKS", 1)
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        async with la.open_system("first"):
            await la.connect(system.addresses[0])
            async with la.open_system("second"):
                with pytest.raises(ConnectFailed, match="1 links are open"):
                    await la.connect(system.addresses[0])
        with anyio.fail_after(5):
            while not await can_connect(system.addresses[0]):  # noqa: ASYNC110 (nobody tells)
                await anyio.sleep(0.01)


async def can_connect(address: str) -> bool:
    async with la.open_system("later"):
        try:
            await la.connect(address)
        except ConnectFailed:
            return False
        return True


@pytest.mark.parametrize("taken", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_localhost_is_all_of_it_or_refused(taken: tuple[socket.AddressFamily, str]) -> None:
    family, host = taken
    try:
        other = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with other, pytest.raises(ConfigurationError, match="Address already in use"):
        async with la.open_system(listen=f"grpc://localhost:{other.getsockname()[1]}"):
            raise AssertionError("it listens")
    async with la.open_system(listen="grpc://localhost:0") as system:
        port = system.addresses[0].rpartition(":")[2]
        async with la.open_system("caller"):
            for name in ("127.0.0.1", "[::1]" if ":" in host else "localhost"):
                await la.connect(f"grpc://{name}:{port}")
