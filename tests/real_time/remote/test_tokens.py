"""At a real port: who may not call is refused before a byte of what they say is read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lightactors.address import Address
from lightactors.remote.grpc.credentials import (
    Metadata,
    TokenInterceptor,
    channel_credentials,
    metadata_of,
    role_of,
    server_credentials,
)
from lightactors.security import Tls, Tokens
from tests.remote.certificates import Authority

# After ours: its room sets what grpc reads from the environment when it is first imported.
import grpc  # isort: skip
import grpc.aio  # isort: skip

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
OPEN = (("door", "open"),)
TOKENS = Tokens.new()
RUNNER = TOKENS.of("runner")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # grpc.aio's own


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class Door(grpc.GenericRpcHandler):
    """Has a method of every kind, and notes what it reads and which of them ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.read: list[bytes] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        kind = handler_call_details.method.rpartition("/")[2]
        if kind not in KINDS:
            return None
        from_stream, _, to_stream = kind.partition("_")
        handler = self._stream if to_stream == "stream" else self._unary
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        made: grpc.RpcMethodHandler[Any, Any] = make(
            handler(kind, from_stream == "stream"), request_deserializer=self._note
        )
        return made

    def _note(self, body: bytes) -> bytes:
        self.read.append(body)
        return body

    def _unary(self, kind: str, takes_stream: bool) -> Callable[..., Any]:
        async def run(request: Any, context: Any) -> bytes:
            self.ran.append(kind)
            await context.send_initial_metadata(OPEN)
            return b"".join([each async for each in request]) if takes_stream else request

        return run

    def _stream(self, kind: str, takes_stream: bool) -> Callable[..., Any]:
        async def run(request: Any, context: Any) -> AsyncIterator[bytes]:
            self.ran.append(kind)
            await context.send_initial_metadata(OPEN)
            if takes_stream:
                async for each in request:
                    yield each
            else:
                yield request

        return run


@asynccontextmanager
async def serving(
    tokens: Tokens | None, tls: Tls | None = None, place: str = "127.0.0.1:0"
) -> AsyncGenerator[tuple[Door, str]]:
    door = Door()
    interceptors = [] if tokens is None else [TokenInterceptor(tokens)]
    server = grpc.aio.server(interceptors=interceptors, handlers=[door])
    port = server.add_insecure_port(place) if tls is None else server.add_secure_port(place, server_credentials(tls))
    await server.start()
    try:
        yield door, place if place.startswith("unix:") else f"localhost:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def channel_to(target: str, credentials: grpc.ChannelCredentials | None = None) -> AsyncGenerator[Any]:
    opened = grpc.aio.insecure_channel(target) if credentials is None else grpc.aio.secure_channel(target, credentials)
    async with opened as channel:
        yield channel


async def call(channel: Any, kind: str, metadata: Any = (), method: str | None = None) -> bytes:
    """Make a call of a kind and return all that came back."""
    from_stream, _, to_stream = kind.partition("_")
    made = getattr(channel, kind)(f"/door/{method or kind}")
    if from_stream == "unary":
        answer = made(b"body", metadata=metadata, timeout=5)
    else:
        answer = made(metadata=metadata, timeout=5)
        if await answer.initial_metadata():
            for part in (b"bo", b"dy"):
                await answer.write(part)
            await answer.done_writing()
        else:
            # Refused. To write now could fail first, and grpc.aio would tell of that and not of the refusal.
            await answer.code()
    return b"".join([each async for each in answer]) if to_stream == "stream" else await answer


async def status_of(*args: Any, **kwargs: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(*args, **kwargs)
    return raised.value.code()


def bearer(value: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", value),)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix"])
async def test_with_a_token_every_kind_of_call_is_served(kind: str, place: str, tmp_path: Path) -> None:
    place = Address("unix", socket=str(tmp_path / "a #b")).grpc_target() if place == "unix" else place
    async with serving(TOKENS, place=place) as (door, target), channel_to(target) as channel:
        assert await call(channel, kind, metadata_of(RUNNER)) == b"body"
        assert await call(channel, kind, bearer(f"bearer {RUNNER}")) == b"body"
        assert door.ran == [kind, kind]


WRONG: dict[str, Metadata] = {
    "no token": (),
    "a wrong one": metadata_of("runner." + "x" * 43),
    "another server's": metadata_of(Tokens.new().of("runner")),
    "another role's name": metadata_of("admin" + RUNNER[6:]),
    "half of it": metadata_of(RUNNER[:-1]),
    "more than it": metadata_of(RUNNER + "x"),
    "nothing": bearer("Bearer "),
    "not a bearer's": bearer(f"Basic {RUNNER}"),
    "bare": bearer(RUNNER),
    "two": (*metadata_of(RUNNER), *metadata_of(RUNNER)),
    "elsewhere": (("x-token", f"Bearer {RUNNER}"),),
    "binary": (("authorization-bin", f"Bearer {RUNNER}".encode()),),
    "every role's at once": metadata_of(" ".join(map(TOKENS.of, TOKENS.roles))),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_right_token_nothing_is_read_and_nothing_runs(kind: str) -> None:
    async with serving(TOKENS) as (door, target), channel_to(target) as channel:
        for metadata in WRONG.values():
            assert await status_of(channel, kind, metadata) is grpc.StatusCode.UNAUTHENTICATED
        assert (door.ran, door.read) == ([], [])
        assert await call(channel, kind, metadata_of(RUNNER)) == b"body"  # the server has not suffered


@pytest.mark.parametrize("kind", KINDS)
async def test_who_has_no_token_learns_not_even_which_methods_there_are(kind: str) -> None:
    async with serving(TOKENS) as (_, target), channel_to(target) as channel:
        refusals: set[tuple[grpc.StatusCode, str | None]] = set()
        for metadata in WRONG.values():
            for method in (kind, "unknown"):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await call(channel, kind, metadata, method)
                refusals.add((raised.value.code(), raised.value.details()))
        assert len(refusals) == 1
        assert await status_of(channel, kind, metadata_of(RUNNER), "unknown") is grpc.StatusCode.UNIMPLEMENTED


async def test_large_body_of_a_stranger_is_not_taken_in() -> None:
    sent = 0

    async def bodies() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 1
            yield bytes(1 << 20)

    async with serving(TOKENS) as (door, target), channel_to(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.stream_unary("/door/stream_unary")(bodies(), timeout=5)
        assert door.read == []
        assert sent < 20


async def test_a_refusal_is_logged_without_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lightactors")
    async with serving(TOKENS) as (_, target), channel_to(target) as channel:
        await status_of(channel, "unary_unary", metadata_of(RUNNER[:-1]))
    assert "refused a call from ipv4:127.0.0.1" in caplog.text or "refused a call from ipv6" in caplog.text
    assert RUNNER[:-1] not in caplog.text


async def test_strangers_who_call_all_at_once_keep_nobody_out() -> None:
    async with serving(TOKENS) as (door, target), channel_to(target) as channel:
        strangers = [asyncio.create_task(status_of(channel, KINDS[n % 4])) for n in range(400)]
        assert await call(channel, "unary_unary", metadata_of(RUNNER)) == b"body"
        assert set(await asyncio.gather(*strangers)) == {grpc.StatusCode.UNAUTHENTICATED}
        assert door.ran == ["unary_unary"]


def test_role_in_metadata() -> None:
    assert role_of(None, None) == role_of(None, ()) == "admin"
    for role in TOKENS.roles:
        assert role_of(TOKENS, metadata_of(TOKENS.of(role))) == role
    for metadata in WRONG.values():
        assert role_of(TOKENS, metadata) is None
    assert role_of(TOKENS, None) is None
    assert metadata_of(None) == ()


async def test_over_tls_who_trusts_the_authority_is_served(authority: Authority) -> None:
    server = authority.sign("server")
    credentials = channel_credentials(Tls(ca=authority.ca))
    async with serving(TOKENS, server) as (_, target), channel_to(target, credentials) as channel:
        assert await call(channel, "unary_unary", metadata_of(RUNNER)) == b"body"
        assert await status_of(channel, "unary_unary") is grpc.StatusCode.UNAUTHENTICATED


async def test_without_tls_or_the_right_authority_no_call_arrives(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    wrong = {
        "plain": None,
        "another authority": channel_credentials(Tls(ca=other.ca)),
        "the system's": channel_credentials(None),
    }
    async with serving(TOKENS, authority.sign("server")) as (door, target):
        for credentials in wrong.values():
            async with channel_to(target, credentials) as channel:
                for kind in KINDS:
                    assert await status_of(channel, kind, metadata_of(RUNNER)) is grpc.StatusCode.UNAVAILABLE
        assert (door.ran, door.read) == ([], [])


async def test_certificate_of_another_host_is_not_believed(authority: Authority) -> None:
    credentials = channel_credentials(Tls(ca=authority.ca))
    async with serving(TOKENS, authority.sign("server")) as (door, target):
        elsewhere = target.replace("localhost", "127.0.0.2")
        async with channel_to(elsewhere, credentials) as channel:
            assert await status_of(channel, "unary_unary", metadata_of(RUNNER)) is grpc.StatusCode.UNAVAILABLE
        assert door.ran == []


async def test_mutual_tls_demands_the_clients_certificate(authority: Authority, tmp_path: Path) -> None:
    server, client = authority.sign("server"), authority.sign("client")
    stranger = Authority(tmp_path, "other").sign("stranger")
    mutual = Tls(ca=authority.ca, cert=server.cert, key=server.key)
    async with serving(TOKENS, mutual) as (door, target):
        for tls in (Tls(ca=authority.ca), Tls(authority.ca, stranger.cert, stranger.key)):
            async with channel_to(target, channel_credentials(tls)) as channel:
                for kind in KINDS:
                    assert await status_of(channel, kind, metadata_of(RUNNER)) is grpc.StatusCode.UNAVAILABLE
        assert (door.ran, door.read) == ([], [])
        known = channel_credentials(Tls(authority.ca, client.cert, client.key))
        async with channel_to(target, known) as channel:
            assert await call(channel, "unary_unary", metadata_of(RUNNER)) == b"body"
            assert await status_of(channel, "unary_unary") is grpc.StatusCode.UNAUTHENTICATED


async def test_plain_server_is_not_taken_for_a_tls_one(authority: Authority) -> None:
    credentials = channel_credentials(Tls(ca=authority.ca))
    async with serving(TOKENS) as (door, target), channel_to(target, credentials) as channel:
        assert await status_of(channel, "unary_unary", metadata_of(RUNNER)) is grpc.StatusCode.UNAVAILABLE
        assert door.ran == []
