"""Actors of another node: reached by name, over real sockets, with a link that may be lost."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import lightactors as la
from lightactors.contract import contract_of
from lightactors.errors import (
    AccessDenied,
    ActorNotRunning,
    CannotTravel,
    ConfigurationError,
    ConnectFailed,
    ContractError,
    LinkLost,
    SpawnError,
    WrongCall,
)
from lightactors.remote import outside
from lightactors.remote.node import node_of
from tests.real_time.remote.proxy import Proxy, open_proxy
from tests.remote.pair import standin_of


@dataclass(frozen=True)
class Hello(la.Message[str]):
    name: str


@la.actor
class Counter:
    def __init__(self, value: int = 0) -> None:
        self.value = value
        self.runs = 0

    @la.handler
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    @la.handler(idempotent=True, roles={"runner", "viewer"})
    def read(self) -> int:
        return self.value

    @la.handler(idempotent=True, interleaved=True)
    async def hold(self) -> int:
        self.runs += 1
        await anyio.sleep_forever()
        return 0

    @la.handler(idempotent=True, interleaved=True)
    async def hold_first(self) -> int:
        self.runs += 1
        if self.runs == 1:
            await anyio.sleep_forever()
        return self.runs

    @la.handler(interleaved=True)
    async def hold_once(self) -> None:
        await anyio.sleep_forever()

    @la.handler
    def fail(self) -> None:
        raise KeyError("no such thing")

    @la.handler
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @la.handler
    def echo(self, data: bytes) -> bytes:
        return data

    @la.handler
    async def ask(self, other: Counter, amount: int) -> int:
        return await other.add(amount)


@la.actor
class OtherCounter:
    @la.handler
    def add(self, amount: int) -> int:
        return amount

    @la.handler
    def subtract(self, amount: int) -> int:
        return -amount


@la.actor
async def greeter(mailbox: la.Mailbox[Hello]) -> None:
    async for message in mailbox:
        mailbox.reply(message, f"hello, {message.name}")


class Host:
    """A system that listens, in a task of its own, so that a test can end it and open it again."""

    def __init__(self, listen: str, **options: Any) -> None:
        self.listen = listen
        self.options = options
        self.system: la.System
        self._end = anyio.Event()
        self._ended = anyio.Event()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with la.open_system("host", listen=self.listen, **self.options) as self.system:
            await la.options(name="counter").spawn(Counter)
            await la.options(name="greeter").spawn(greeter)
            task_status.started()
            await self._end.wait()
        self._ended.set()

    async def end(self) -> None:
        self._end.set()
        await self._ended.wait()

    @property
    def address(self) -> str:
        return self.system.addresses[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@asynccontextmanager
async def open_host(listen: str = "grpc://127.0.0.1:0", **options: Any) -> AsyncGenerator[Host]:
    host = Host(listen, **options)
    async with anyio.create_task_group() as tasks:
        await tasks.start(host.run)
        try:
            async with la.open_system("guest"):
                yield host
        finally:
            await host.end()


@asynccontextmanager
async def open_host_behind_proxy() -> AsyncGenerator[tuple[Host, Proxy, str]]:
    async with open_host() as host:
        with open_proxy(host.port) as proxy:
            yield host, proxy, f"grpc://127.0.0.1:{proxy.port}"


# Reaching


@pytest.mark.parametrize("scheme", ["grpc", "unix"])
async def test_actor_of_another_node_is_asked_told_and_streamed_from_as_a_local_one(
    tmp_path: Path, scheme: str
) -> None:
    listen = "grpc://127.0.0.1:0" if scheme == "grpc" else f"unix:{tmp_path}/socket"
    async with open_host(listen) as host:
        counter = await la.connect(Counter, f"{host.address}{'/' if scheme == 'grpc' else '#'}counter")
        assert await counter.add(2) == 2
        await counter.add.tell(3)
        assert await counter.read() == 5
        assert [number async for number in counter.count(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(KeyError, match="no such thing"):
            await counter.fail()


async def test_behaviour_of_another_node_takes_messages() -> None:
    async with open_host() as host:
        ref = await la.connect(greeter, f"{host.address}/greeter")
        assert await ref.ask(Hello("you")) == "hello, you"


@pytest.mark.parametrize("size", [1, 256 * 1024 + 1, 5_000_000])
async def test_message_of_any_size_comes_back_whole(size: int) -> None:
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        assert await counter.echo(b"x" * size) == b"x" * size


async def test_messages_to_one_actor_keep_their_order_whatever_their_size() -> None:
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        await counter.echo.tell(b"x" * 3_000_000)
        await counter.add.tell(1)
        assert await counter.read() == 1


async def test_small_ask_does_not_wait_behind_a_large_one() -> None:
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        other = await la.connect(greeter, f"{host.address}/greeter")
        came: list[str] = []

        async def large() -> None:
            await counter.echo(b"x" * 30_000_000)
            came.append("large")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(large)
            await anyio.sleep(0.01)
            await other.ask(Hello("you"))
            came.append("small")
        assert came == ["small", "large"]


async def test_who_gives_up_cancels_the_handler_there() -> None:
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        with anyio.move_on_after(0.05):
            await counter.hold()
        with anyio.fail_after(5):
            while la.statistics(host.system.children["counter"].ref).interleaved:
                await counter.read()


async def test_ref_of_a_third_node_works_where_it_was_sent() -> None:
    async with open_host() as host, open_host() as third:
        ours = await la.connect(Counter, f"{host.address}/counter")
        theirs = await la.connect(Counter, f"{third.address}/counter")
        mine = await la.spawn(Counter, 100)
        assert await ours.ask(theirs, 5) == 5
        assert await ours.ask(mine, 5) == 105


async def test_connecting_from_a_thread_of_actors_works() -> None:
    @la.actor
    class Caller:
        @la.handler
        async def call(self, address: str) -> int:
            return await (await la.connect(Counter, address)).add(1)

    async with open_host() as host:
        caller = await la.options(place="thread").spawn(Caller)
        assert await caller.call(f"{host.address}/counter") == 1


# The node itself


async def test_node_lists_its_actors_and_shows_its_tree() -> None:
    async with open_host() as host, await la.connect(host.address) as node:
        assert [(info.path, info.kind) for info in await node.actors()] == [
            ("counter", "Counter"),
            ("greeter", "greeter"),
        ]
        tree = await node.survey()
        assert [branch.name for branch in tree.children] == ["counter", "greeter"]
        assert "linked" in repr(node)


async def test_node_that_is_closed_ends_no_ref_of_somebody_else() -> None:
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        async with await la.connect(host.address) as node:
            assert await (await node.connect(Counter, "counter")).add(1) == 1
        assert await counter.add(1) == 2


async def test_link_is_kept_while_somebody_has_a_ref_that_came_over_it() -> None:
    async with open_host() as host:
        guests = node_of(host.system).outside.guests
        async with await la.connect(host.address) as node:
            counter = await node.connect(Counter, "counter")
        assert await counter.add(1) == 1
        assert len(guests) == 1
        del counter, node
        with anyio.fail_after(5):
            while guests:
                gc.collect()
                await anyio.sleep(0.01)


async def test_node_that_nobody_holds_any_more_is_dialled_anew() -> None:
    async with open_host() as host:
        async with await la.connect(host.address) as node:
            assert len(await node.actors()) == 2
        async with await la.connect(host.address) as node:
            assert len(await node.actors()) == 2


# What crosses


async def test_those_who_give_up_connecting_leave_nothing_behind() -> None:
    async with open_host() as host:
        guests = node_of(host.system).outside.guests

        async def give_up_after(seconds: float) -> None:
            with anyio.move_on_after(seconds):
                async with await la.connect(host.address, token=None):
                    await anyio.sleep_forever()

        for step in range(20):
            await give_up_after(step * 0.0006)
        with anyio.fail_after(5):
            while guests:
                gc.collect()
                await anyio.sleep(0.01)


async def test_watch_that_begins_while_there_is_no_link_fires_at_once() -> None:
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        await host.end()
        for _ in range(2):
            with anyio.fail_after(5):
                ended = await la.watch(counter)
            assert isinstance(ended.error, LinkLost)


async def test_actor_can_not_be_stopped_while_there_is_no_link() -> None:
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        await host.end()
        await la.watch(counter)
        with pytest.raises(LinkLost, match="can't be stopped"):
            await la.stop(counter)


async def test_relayed_ref_outlives_a_loss_of_the_link_behind_it() -> None:
    async with open_host_behind_proxy() as (_, proxy, address), open_host() as third:
        ours = await la.connect(Counter, f"{address}/counter")
        theirs = await la.connect(Counter, f"{third.address}/counter")
        keeper = await la.connect(Counter, f"{third.address}/counter")
        assert await theirs.ask(ours, 1) == 1
        proxy.reset()
        await la.watch(ours)
        with anyio.fail_after(5):
            assert await ours.add(1) == 2
            assert await keeper.ask(ours, 1) == 3


async def test_node_that_is_down_is_said_to_be_down_to_who_connects_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "_COMES_BACK_WITHIN", 0.5)
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        address = host.address
        await host.end()
        await la.watch(counter)
        with pytest.raises(ConnectFailed, match="does not answer at the moment"):
            await la.connect(Counter, f"{address}/counter")


async def test_many_who_connect_at_once_share_one_link() -> None:
    async with open_host() as host:
        counters: list[Counter] = []

        async def connect() -> None:
            counters.append(await la.connect(Counter, f"{host.address}/counter"))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(connect)
        assert len(set(counters)) == 1


async def test_node_that_is_told_to_stop_leaves_its_block() -> None:
    async with anyio.create_task_group() as tasks, la.open_system("guest"):
        addresses: list[str] = []

        async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with la.open_system("host", listen="grpc://127.0.0.1:0") as system:
                addresses.extend(system.addresses)
                task_status.started()
                await anyio.sleep_forever()

        await tasks.start(serve)
        node = await la.connect(addresses[0])
        with anyio.fail_after(5):
            await node.stop()


# What is wrong is said at the caller


async def test_actor_that_is_not_there_is_named_with_what_is() -> None:
    async with open_host() as host:
        with pytest.raises(ActorNotRunning, match=r"no actor 'countr' in system host; did you mean 'counter'\?"):
            await la.connect(Counter, f"{host.address}/countr")


async def test_class_that_has_handlers_the_actor_lacks_is_refused() -> None:
    async with open_host() as host:
        with pytest.raises(ContractError, match="Counter 'counter' of host has no subtract; is its class"):
            await la.connect(OtherCounter, f"{host.address}/counter")


async def test_behaviour_is_no_class_and_no_class_a_behaviour() -> None:
    async with open_host() as host:
        with pytest.raises(ContractError, match="greeter"):
            await la.connect(Counter, f"{host.address}/greeter")
        with pytest.raises(ContractError, match="is no greeter"):
            await la.connect(greeter, f"{host.address}/counter")


async def test_address_where_nobody_listens_is_named() -> None:
    with pytest.raises(ConnectFailed, match=r"grpc://127.0.0.1:1 can't be reached: .*is it running\?"):
        async with la.open_system():
            await la.connect(Counter, "grpc://127.0.0.1:1/counter")


async def test_port_that_is_no_node_of_ours_is_said_to_be_none() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:

        async def answer(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with la.open_system():
            with pytest.raises(ConnectFailed, match=f"grpc://127.0.0.1:{port}"):
                await la.connect(f"grpc://127.0.0.1:{port}")
        tasks.cancel_scope.cancel()


async def test_port_in_use_and_socket_file_in_use_are_refused(tmp_path: Path) -> None:
    async with open_host() as host, open_host(f"unix:{tmp_path}/socket"):
        with pytest.raises(ConfigurationError, match="Address already in use; choose another port"):
            async with la.open_system(listen=host.address):
                raise AssertionError("it listens")
        with pytest.raises(ConfigurationError, match="in use by another process"):
            async with la.open_system(listen=f"unix:{tmp_path}/socket"):
                raise AssertionError("it listens")


async def test_socket_file_is_its_owners_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with open_host(f"unix:{path}"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


async def test_address_must_name_an_actor_or_none() -> None:
    async with open_host() as host:
        with pytest.raises(ConfigurationError, match="names no actor"):
            await la.connect(Counter, host.address)
        with pytest.raises(ConfigurationError, match="names an actor"):
            await la.connect(f"{host.address}/counter")
        with pytest.raises(ConfigurationError, match=r"lacks the address; say connect\(Counter"):
            await la.connect(Counter)  # type: ignore[call-overload]


async def test_message_over_the_limit_of_the_other_end_is_refused_at_the_caller() -> None:
    async with open_host(max_message=100_000) as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        with pytest.raises(CannotTravel, match="100000"):
            await counter.echo(b"x" * 200_000)
        assert await counter.add(1) == 1


# Losing the link


async def test_idempotent_ask_is_sent_again_and_another_one_fails_when_the_link_is_lost() -> None:
    async with open_host_behind_proxy() as (_, proxy, address):
        counter = await la.connect(Counter, f"{address}/counter")
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await counter.hold_first())

        async def ask_once() -> None:
            with pytest.raises(LinkLost):
                await counter.hold_once()
            answers.append("lost")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                tasks.start_soon(ask_once)
                await anyio.sleep(0.1)
                assert await counter.read() == 0  # behind both
                proxy.reset()
        assert sorted(map(str, answers)) == ["2", "lost"]


async def test_what_is_sent_while_there_is_no_link_arrives_when_there_is_one_again() -> None:
    async with open_host_behind_proxy() as (_, proxy, address):
        counter = await la.connect(Counter, f"{address}/counter")
        proxy.reset()
        ended = await la.watch(counter)
        assert ended.reason is la.Reason.FAILED
        assert isinstance(ended.error, LinkLost)
        await counter.add.tell(1)
        with anyio.fail_after(5):
            assert await counter.add(1) == 2


async def test_frozen_node_is_noticed_within_five_seconds() -> None:
    async with open_host_behind_proxy() as (_, proxy, address):
        counter = await la.connect(Counter, f"{address}/counter")
        proxy.freeze()
        start = anyio.current_time()
        with anyio.fail_after(10), pytest.raises(LinkLost):
            await counter.hold_once()
        assert anyio.current_time() - start < 6
        proxy.thaw()
        with anyio.fail_after(5):
            assert await counter.add(1) == 1


async def test_ref_by_name_finds_the_actor_of_a_node_that_was_started_again() -> None:
    async with open_host() as host:
        counter = await la.connect(Counter, f"{host.address}/counter")
        assert await counter.add(5) == 5
        port = host.port
        await host.end()
        async with open_host(f"grpc://127.0.0.1:{port}"):
            with anyio.fail_after(5):
                assert await counter.add(1) == 1


async def test_ref_that_was_sent_ends_with_its_node() -> None:
    @la.actor
    class Broker:
        @la.handler
        async def new(self) -> Counter:
            return await la.spawn(Counter)

    async with la.open_system("guest"), anyio.create_task_group() as tasks:
        end = anyio.Event()
        ended = anyio.Event()
        ports: list[int] = []

        async def serve(listen: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with la.open_system("host", listen=listen) as system:
                ports.append(int(system.addresses[0].rpartition(":")[2]))
                await la.options(name="broker").spawn(Broker)
                task_status.started()
                await end.wait()
            ended.set()

        await tasks.start(serve, "grpc://127.0.0.1:0")
        broker = await la.connect(Broker, f"grpc://127.0.0.1:{ports[0]}/broker")
        counter = await broker.new()
        assert await counter.add(1) == 1
        end.set()
        await ended.wait()
        end = anyio.Event()
        await tasks.start(serve, f"grpc://127.0.0.1:{ports[0]}")
        with anyio.fail_after(5), pytest.raises(ActorNotRunning):
            await counter.add(1)
        fresh = await broker.new()
        assert await fresh.add(1) == 1
        end.set()


# Starting actors there


async def test_actor_started_on_another_node_is_a_child_here() -> None:
    async with open_host(spawnable=[Counter]) as host:
        node = await la.connect(host.address)
        counter = await la.options(place=node, name="mine").spawn(Counter, 40)
        assert await counter.add(2) == 42
        assert "mine" in host.system.children
        await la.stop(counter)
        assert "mine" not in host.system.children


async def test_supervised_actor_on_another_node_is_started_again_when_its_link_is_lost() -> None:
    async with open_host(spawnable=[Counter]) as host:
        with open_proxy(host.port) as proxy:
            node = await la.connect(f"grpc://127.0.0.1:{proxy.port}")
            async with la.supervise() as supervisor:
                counter = await supervisor.options(place=node).spawn(Counter, 10)
                assert await counter.add(1) == 11
                proxy.reset()
                await anyio.sleep(0.05)
                with anyio.fail_after(5):
                    assert await counter.add(1) == 11
                assert la.statistics(counter).restarts == 1


async def test_failure_of_an_actor_that_others_have_started_ends_nothing_there() -> None:
    async with open_host(spawnable=[Counter]) as host:
        node = await la.connect(host.address)
        async with la.open_system("spawner") as system:
            system.on_failure = lambda: None
            counter = await la.options(place=node).spawn(Counter)
            await counter.fail.tell()
            ended = await la.watch(counter)
            assert ended.reason is la.Reason.FAILED
            assert isinstance(ended.error, KeyError)
            system.failures.clear()
        assert await (await node.connect(Counter, "counter")).add(1) == 1


async def test_only_what_a_node_lists_can_be_started_there() -> None:
    async with open_host(spawnable=[Counter]) as host:
        node = await la.connect(host.address)
        with pytest.raises(SpawnError, match="host lets others spawn Counter, and not OtherCounter"):
            await la.options(place=node).spawn(OtherCounter)
        with pytest.raises(WrongCall, match="'value'"):
            await la.options(place=node).spawn(Counter, "many")  # type: ignore[call-overload]


# Who may do what


async def test_role_of_a_token_says_what_may_be_called() -> None:
    tokens = la.Tokens.new()
    async with open_host(tokens=tokens) as host:
        address = f"{host.address}/counter"
        viewer = await la.connect(Counter, address, token=tokens.of("viewer"))
        assert await viewer.read() == 0
        with pytest.raises(AccessDenied, match=r"Counter.add\(\) can't be called by a viewer"):
            await viewer.add(1)
        with pytest.raises(AccessDenied, match="a viewer can't stop"):
            await la.stop(viewer)
        runner = await la.connect(Counter, address, token=tokens.of("runner"))
        assert await runner.add(1) == 1
        with pytest.raises(AccessDenied):
            await (await la.connect(host.address, token=tokens.of("runner"))).stop()
        admin = await la.connect(Counter, address, token=tokens.of("admin"))
        await la.stop(admin)


async def test_without_a_token_nobody_gets_in() -> None:
    async with open_host(tokens=la.Tokens.new()) as host:
        with pytest.raises(AccessDenied, match="give a valid token"):
            await la.connect(Counter, f"{host.address}/counter")
        with pytest.raises(AccessDenied):
            await la.connect(Counter, f"{host.address}/counter", token=la.Tokens.new().of("admin"))


async def test_actor_is_only_reached_by_who_was_given_its_ref() -> None:
    async with open_host() as host:
        mine = await la.connect(Counter, f"{host.address}/counter")
        number = standin_of(mine).target
        async with la.open_system("stranger"):
            guess = await la.connect(greeter, f"{host.address}/greeter")
            link = standin_of(guess).link
            assert link is not None
            stranger = node_of(standin_of(guess).system).refs_of(link).standin("guessed", number, contract_of(Counter))
            with pytest.raises(ActorNotRunning, match="there is no actor"):
                await stranger.ref.add(1)  # type: ignore[attr-defined]
        assert await mine.add(1) == 1
