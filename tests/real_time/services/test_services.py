"""Actors served to other languages: calls, streams, errors, ends, roles, health and reflection, on a real port."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from typing import Any, Literal

import anyio
import anyio.to_thread
import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry import trace

import lightactors as la
from lightactors.contract import ROLES
from lightactors.errors import ConfigurationError, ContractError
from lightactors.services.schema import file_of
from lightactors.training.stores.memory import MemoryStore
from tests.real_time.services.callers import Caller, reason_of, refusal, violations_of
from tests.remote.pair import standin_of


class OutOfStock(Exception):
    """A user's own error."""


@la.actor
class Shop:
    """Sells."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @la.handler
    def double(self, number: int = 21) -> int:
        return number * 2

    @la.handler
    async def count(self, upto: int, fails: bool = False) -> AsyncIterator[int]:
        try:
            for number in range(upto):
                yield number
            if fails:
                raise OutOfStock("no more")
        finally:
            self.events.append("count ended")

    @la.handler(interleaved=True)
    async def wait(self) -> None:
        self.events.append("waits")
        try:
            await anyio.sleep(60)
        finally:
            self.events.append("waits no more")

    @la.handler(interleaved=True)
    async def has_happened(self, event: str) -> bool:
        with anyio.move_on_after(5):
            while event not in self.events:  # noqa: ASYNC110 (all that it may use is a clock)
                await anyio.sleep(0.01)
        return event in self.events

    @la.handler
    def sell(self) -> None:
        raise OutOfStock("the shelf is empty")

    @la.handler
    def leave(self) -> None:
        sys.exit("closing time")

    @la.handler
    def complain(self, text: str, times: int) -> None:
        raise OutOfStock(text * times)

    @la.handler
    def lie(self) -> int:
        return "no number"  # type: ignore[return-value]

    @la.handler
    def much(self, size: int) -> bytes:
        return bytes(size)

    @la.handler(roles={"algorithm"})
    def order(self) -> int:
        return 1

    @la.handler
    def trace(self) -> str:
        return format(trace.get_current_span().get_span_context().trace_id, "032x")


@asynccontextmanager
async def shop(**options: Any) -> AsyncGenerator[tuple[Shop, Caller]]:
    async with la.open_system(listen="grpc://127.0.0.1:0", **options) as system:
        ref = await la.spawn(Shop)
        assert await la.serve(ref, service="shop.v1.Shop") == "shop.v1.Shop"
        yield ref, Caller(system.addresses[0], file_of(Shop, package="shop.v1"))


async def test_handler_answers() -> None:
    async with shop() as (_, caller):
        assert (await caller.call("double")).value == 42
        assert (await caller.call("double", number=0)).value == 0


@pytest.mark.parametrize("place", ["thread", "process"])
async def test_actor_is_served_wherever_it_lives(place: Literal["thread", "process"]) -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        ref = await la.options(place=place).spawn(Shop)
        await la.serve(ref, service="shop.v1.Shop")
        caller = Caller(system.addresses[0], file_of(Shop, package="shop.v1"))
        assert (await caller.call("double")).value == 42
        items = await anyio.to_thread.run_sync(lambda: list(caller.items("count", upto=100)))
        assert [item.value for item in items] == list(range(100))
        error = await refusal(lambda: caller.call("sell"))
        assert reason_of(error) == "OutOfStock"
        number = "0af7651916cd43dd8448eb211c80319c"
        metadata = [("traceparent", f"00-{number}-b7ad6b7169203331-01")]
        assert (await caller.send("trace", b"", metadata=metadata)).value == number


async def test_remote_actor_is_served_too() -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        await la.options(name="shop").spawn(Shop)
        far = await la.connect(Shop, f"{system.addresses[0]}/shop")
        await la.serve(far, service="shop.v1.Shop")
        caller = Caller(system.addresses[0], file_of(Shop, package="shop.v1"))
        assert (await caller.call("double", number=4)).value == 8
        kept = []
        for number in range(1, 10):
            metadata = [("traceparent", f"00-{number:032x}-b7ad6b7169203331-01")]
            assert (await caller.send("trace", b"", metadata=metadata)).value == f"{number:032x}"
            kept.append(len(standin_of(far).refs._methods))  # noqa: SLF001
        assert kept[-1] == kept[0]  # codecs: one for each method, however many traces there are


async def test_stream_brings_its_items() -> None:
    async with shop() as (_, caller):
        items = await anyio.to_thread.run_sync(lambda: list(caller.items("count", upto=300)))
        assert [item.value for item in items] == list(range(300))


async def test_stream_that_fails_says_why() -> None:
    async with shop() as (_, caller):
        error = await refusal(lambda: anyio.to_thread.run_sync(lambda: list(caller.items("count", upto=2, fails=True))))
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "OutOfStock: no more")


async def test_cancelled_stream_ends_its_handler() -> None:
    async with shop() as (ref, caller):
        stream = caller.stream("count", upto=10**9)
        await anyio.to_thread.run_sync(lambda: list(islice(stream, 3)))
        stream.cancel()
        assert await ref.has_happened("count ended")


async def test_cancelled_call_cancels_its_handler() -> None:
    async with shop() as (ref, caller):
        call = caller.channel.unary_unary(caller.path("wait")).future(b"")
        assert await ref.has_happened("waits")
        call.cancel()
        assert await ref.has_happened("waits no more")


async def test_deadline_cancels_the_handler() -> None:
    async with shop() as (ref, caller):
        error = await refusal(partial(caller.send, "wait", b"", timeout=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await ref.has_happened("waits no more")


async def test_error_has_its_name_and_no_traceback() -> None:
    async with shop() as (_, caller):
        error = await refusal(lambda: caller.call("sell"))
        assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "OutOfStock: the shelf is empty")
        assert reason_of(error) == "OutOfStock"
        assert ".py" not in str(error.trailing_metadata())


async def test_sys_exit_of_a_handler_is_an_error_of_its_call_only() -> None:
    async with shop() as (_, caller):
        error = await refusal(lambda: caller.call("leave"))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.INTERNAL, "ExecutionError")
        assert "sys.exit('closing time') was called" in str(error.details())
        assert (await caller.call("double")).value == 42


@pytest.mark.parametrize("text", ["a", "ä", "🐟", "\n"])
async def test_long_text_of_an_error_is_cut(text: str) -> None:
    async with shop() as (_, caller):
        error = await refusal(lambda: caller.call("complain", text=text, times=1_000_000))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.INTERNAL, "OutOfStock")
        assert str(error.details()).startswith(f"OutOfStock: {text * 100}")


async def test_many_bad_fields_are_told_of_as_far_as_there_is_room() -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        await la.serve(await la.spawn(MemoryStore))
        caller = Caller(system.addresses[0], file_of(la.Store))
        bad = "ß" * 10_000
        error = await refusal(
            lambda: caller.call("query_rollouts", filter_logic=bad, sort_order=bad, status_in={"values": [bad]})
        )
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        told = violations_of(error)
        assert {*told} < {"filter_logic", "sort_order", "status_in.values[0]"}
        assert told["status_in.values[0]"].startswith("'ßßß")


async def test_reply_that_is_not_what_was_promised_is_an_error_of_ours() -> None:
    async with shop() as (_, caller):
        error = await refusal(lambda: caller.call("lie"))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "the reply of Shop.lie()" in str(error.details())


async def test_reply_that_is_too_large_is_refused_here() -> None:
    async with shop() as (_, caller):
        assert len((await caller.call("much", size=4_000_000)).value) == 4_000_000
        error = await refusal(lambda: caller.call("much", size=5_000_000))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the reply of Shop.much() has 5,000,005 bytes" in str(error.details())


async def test_request_that_is_too_large_is_refused() -> None:
    async with shop() as (_, caller):
        error = await refusal(lambda: caller.send("double", bytes(5_000_000)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_bytes_that_are_no_request_are_the_caller_s_fault() -> None:
    async with shop() as (_, caller):
        for name in ("double", "sell"):
            error = await refusal(lambda name=name: caller.send(name, b"\xff\xff"))  # type: ignore[misc]
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert reason_of(error) == "WrongCall"
        stream = caller.channel.unary_stream(caller.path("count"))
        error = await refusal(lambda: anyio.to_thread.run_sync(lambda: list(stream(b"\xff"))))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_unknown_method_is_unimplemented() -> None:
    async with shop() as (_, caller):
        for path in (
            "/shop.v1.Shop/Steal",
            "/shop.v1.Shop",
            "nothing",
            "/",
            "//",
            "/a/b/c/d",
            "/no.such.Service/Double",
        ):
            call = caller.channel.unary_unary(path)
            error = await refusal(lambda call=call: anyio.to_thread.run_sync(call, b""))  # type: ignore[misc]
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert (await caller.call("double")).value == 42


async def test_actor_that_has_ended_is_unavailable() -> None:
    async with shop() as (ref, caller):
        await la.stop(ref)
        error = await refusal(lambda: caller.call("double"))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "ActorNotRunning")


async def test_role_decides_who_may_call() -> None:
    tokens = la.Tokens.new()
    async with shop(tokens=tokens) as (_, caller):
        for role in ROLES:
            metadata = [("authorization", f"Bearer {tokens.of(role)}")]
            call = partial(caller.send, "order", b"", metadata=metadata)
            if role in ("algorithm", "admin"):
                assert (await call()).value == 1
            else:
                error = await refusal(call)
                assert (error.code(), reason_of(error)) == (grpc.StatusCode.PERMISSION_DENIED, "AccessDenied")
        error = await refusal(lambda: caller.call("double"))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_trace_of_the_caller_is_the_handler_s() -> None:
    async with shop() as (_, caller):
        number = "0af7651916cd43dd8448eb211c80319c"
        metadata = [("traceparent", f"00-{number}-b7ad6b7169203331-01")]
        assert (await caller.send("trace", b"", metadata=metadata)).value == number


# Health and reflection


async def health_of(caller: Caller, service: str) -> str:
    stub = health_pb2_grpc.HealthStub(caller.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    answer = await anyio.to_thread.run_sync(stub.Check, request)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_health_follows_the_actor() -> None:
    async with shop() as (ref, caller):
        assert [await health_of(caller, name) for name in ("", "shop.v1.Shop")] == ["SERVING"] * 2
        await la.stop(ref)
        with anyio.fail_after(5):
            while await health_of(caller, "shop.v1.Shop") == "SERVING":  # noqa: ASYNC110 (it is another program's view)
                await anyio.sleep(0.01)
        assert await health_of(caller, "") == "SERVING"


async def test_reflection_knows_every_service_at_any_time() -> None:
    async with shop() as (_, caller):

        def look() -> list[str]:
            return list(ProtoReflectionDescriptorDatabase(caller.channel).get_services())

        before = await anyio.to_thread.run_sync(look)
        assert {"shop.v1.Shop", "grpc.health.v1.Health", "lightactors.v1.Link"} <= {*before}
        await la.serve(await la.spawn(MemoryStore))
        assert {*await anyio.to_thread.run_sync(look)} == {*before, "lightactors.v1.Store"}

        def describe() -> list[str]:
            pool = DescriptorPool(ProtoReflectionDescriptorDatabase(caller.channel))
            found = []
            for name in look():
                found += [method.full_name for method in pool.FindServiceByName(name).methods]
            return found

        methods = await anyio.to_thread.run_sync(describe)
        assert {"shop.v1.Shop.Count", "lightactors.v1.Store.AddSpan", "lightactors.v1.Link.Open"} <= {*methods}


async def test_served_again_it_takes_the_place_of_the_one_before() -> None:
    async with shop() as (ref, caller):
        other = await la.spawn(Shop)
        await la.serve(other, service="shop.v1.Shop")
        await la.stop(ref)
        assert (await caller.call("double")).value == 42
        assert await health_of(caller, "shop.v1.Shop") == "SERVING"


# What can't be served


async def test_system_that_does_not_listen_serves_nobody() -> None:
    async with la.open_system():
        with pytest.raises(ConfigurationError, match="listens nowhere"):
            await la.serve(await la.spawn(Shop))


@la.actor
async def behaviour(mailbox: la.Mailbox[int]) -> None:
    async for _ in mailbox:
        pass


async def test_behaviour_is_not_served() -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0"):
        with pytest.raises(ContractError, match="is a behaviour"):
            await la.serve(await la.spawn(behaviour))


@pytest.mark.parametrize("service", ["1shop", "my shop.Shop", "shop.", "a-b.Shop"])
async def test_bad_name_of_a_service_is_refused(service: str) -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0"):
        with pytest.raises(ContractError):
            await la.serve(await la.spawn(Shop), service=service)


async def test_name_of_a_service_that_is_always_there_is_refused() -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0"):
        with pytest.raises(ConfigurationError, match=r"serves grpc\.health\.v1\.Health itself"):
            await la.serve(await la.spawn(Shop), service="grpc.health.v1.Health")


# Hostile


async def test_mutated_requests_are_answered_or_refused_and_health_goes_on() -> None:
    chance = random.Random(4)
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        await la.serve(await la.spawn(MemoryStore))
        caller = Caller(system.addresses[0], file_of(la.Store))
        good = caller.request("enqueue_rollout", mode="train", rollout_id="mine", resources_id="rs-1")
        codes = set()

        def bombard() -> None:
            for _ in range(500):
                body = bytearray(good)
                for _ in range(chance.randint(1, 4)):
                    body[chance.randrange(len(body))] = chance.randrange(256)
                try:
                    caller.channel.unary_unary(caller.path("enqueue_rollout"))(bytes(body))
                except grpc.RpcError as error:
                    codes.add(error.code())

        await anyio.to_thread.run_sync(bombard)
        assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
        assert await health_of(caller, "lightactors.v1.Store") == "SERVING"


async def test_bad_fields_are_listed() -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        await la.serve(await la.spawn(MemoryStore))
        caller = Caller(system.addresses[0], file_of(la.Store))
        error = await refusal(lambda: caller.call("enqueue_rollout", mode="banana"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violations_of(error) == {
            "input": "it is required, and not there",
            "mode": "'banana' is unknown; choose from 'train', 'val', 'test'",
        }


async def test_long_poll_waits_for_work() -> None:
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        store = await la.spawn(MemoryStore)
        await la.serve(store)
        caller = Caller(system.addresses[0], file_of(la.Store))
        claimed: list[Any] = []

        async def claim() -> None:
            claimed.append(await caller.call("dequeue_rollout", worker_id="w", timeout=20))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(claim)
            while not (await store.statistics()).waiters:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await store.enqueue_rollout({"q": 1})
        assert claimed[0].value.input.struct_value.fields["q"].number_value == 1
