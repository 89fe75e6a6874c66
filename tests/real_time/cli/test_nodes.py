"""`status` and `stop`, on stores and on nodes of a user's own; and every way not to reach one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from lightactors.cli.exits import Exit
from tests.real_time.cli.command import HASTY, Command, lightactors, refusal, running, surroundings

NODE = """
import sys
import anyio
import lightactors as la

@la.actor
class Oven:
    pass

@la.actor
class Baker:
    async def on_start(self) -> None:
        await la.options(name="oven").spawn(Oven)

@la.actor
async def listener(mailbox: la.Mailbox[str]) -> None:
    async for message in mailbox:
        pass

async def main() -> None:
    async with la.open_system("shop", listen=sys.argv[1]) as system:
        await la.options(name="baker").spawn(Baker)
        await la.options(name="listener").spawn(listener)
        print("open", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """A node that is not a store's."""
    (tmp_path / "shop.py").write_text(NODE)
    address = f"unix:{tmp_path}/shop.sock"
    with subprocess.Popen(
        [sys.executable, "shop.py", address], cwd=tmp_path, env=surroundings(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield address
        process.terminate()


def test_status_of_a_node_is_its_tree(shop: str, tmp_path: Path) -> None:
    done = lightactors("status", shop, cwd=tmp_path)

    assert done.returncode == Exit.OK, done.stderr
    address, blank, name, *actors = done.stdout.splitlines()
    assert (address, blank, name) == (shop, "", "shop (system)")
    assert [line.split()[1] for line in actors] == ["baker", "└──", "listener"]


def test_status_as_json(shop: str, tmp_path: Path) -> None:
    facts = json.loads(lightactors("status", shop, "--json", cwd=tmp_path).stdout)

    assert [child["name"] for child in facts["tree"]["children"]] == ["baker", "listener"]
    assert (facts["store"], facts["workers"]) == (None, [])


def test_status_is_watched_until_ctrl_c(shop: str, tmp_path: Path) -> None:
    with running("status", shop, "--watch", "--interval", "0.1", cwd=tmp_path) as command:
        command.says("shop")
        assert command.stop(signal.SIGINT) == Exit.INTERRUPTED
    assert "Traceback" not in command.errors


def test_actors_are_stopped_one_by_one(shop: str, tmp_path: Path) -> None:
    for name in ("listener", "baker/oven", "baker"):
        done = lightactors("stop", shop, name, cwd=tmp_path)
        assert done.stdout == f"stopped {name} of shop at {shop}: drain\n", done.stderr

    tree = json.loads(lightactors("status", shop, "--json", cwd=tmp_path).stdout)["tree"]
    assert tree["children"] == []


def test_actor_that_is_not_there_is_named_with_what_is_near(shop: str, tmp_path: Path) -> None:
    line = refusal(lightactors("stop", shop, "bakre", cwd=tmp_path), Exit.FAILED)
    assert line == "there is no actor 'bakre' in system shop; did you mean 'baker'?"


def test_runner_says_that_a_node_is_no_store(shop: str, tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("def answer(task): return 1.0\n")
    done = lightactors("runner", "--store", shop, "--agent", "agents:answer", cwd=tmp_path, program=HASTY)
    assert refusal(done, Exit.USAGE) == f"the node at {shop} serves no store; start one with 'lightactors store'"


def test_stopping_the_store_ends_its_command(store: Command, address: str, tmp_path: Path) -> None:
    assert lightactors("stop", address, "store", cwd=tmp_path).stdout.endswith("drain\n")
    assert store.process.wait(10) == Exit.OK
    assert "the store was stopped from elsewhere" in store.errors


def test_stopping_the_node_ends_its_command(store: Command, address: str, tmp_path: Path) -> None:
    assert lightactors("stop", address, cwd=tmp_path).stdout == f"store at {address} stops\n"
    assert store.process.wait(10) == Exit.OK
    assert "Traceback" not in store.errors


def test_store_serves_other_languages_at_the_same_port(address: str) -> None:
    with grpc.insecure_channel(address.removeprefix("grpc://")) as channel:
        asked = HealthCheckRequest(service="lightactors.v1.Store")
        answer = HealthStub(channel).Check(asked, timeout=10)
    assert answer.status == HealthCheckResponse.SERVING


def test_port_in_use(address: str, tmp_path: Path) -> None:
    line = refusal(lightactors("store", "--listen", address, cwd=tmp_path), Exit.USAGE)
    assert line == f"{address} can't be listened on: Address already in use; choose another port, or 0 for any"


def test_nobody_there(tmp_path: Path) -> None:
    line = refusal(lightactors("status", "grpc://127.0.0.1:1", cwd=tmp_path), Exit.UNREACHABLE)
    assert line.startswith("grpc://127.0.0.1:1 can't be reached")
    assert line.endswith("is it running?")


def test_what_listens_is_no_node_of_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        process = running("status", f"grpc://127.0.0.1:{server.getsockname()[1]}", cwd=tmp_path)
        with process as command:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                assert command.process.wait(10) == Exit.UNREACHABLE
        assert len(command.errors.splitlines()) == 1
