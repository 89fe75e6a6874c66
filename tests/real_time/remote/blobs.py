"""Bytes that are no calls: what strangers, scanners, broken clients and enemies send to a port."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

SETTINGS, HEADERS, DATA, RST, PING, GOAWAY, WINDOW, CONTINUATION = 4, 1, 0, 3, 6, 7, 8, 9

Blob = Callable[[random.Random], bytes]


def frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0, size: int | None = None) -> bytes:
    """Return an HTTP/2 frame, which may lie about its size."""
    length = len(payload) if size is None else size
    return length.to_bytes(3) + bytes([kind, flags]) + struct.pack(">I", stream & 0xFFFFFFFF) + payload


def _random(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 9, 100, 10_000]))


def _http1(rng: random.Random) -> bytes:
    method = rng.choice(["GET", "POST", "OPTIONS", "CONNECT", "X" * 5000])
    path = rng.choice(["/", "/lightactors.v1.Link/Open", "*", "/" + "a" * 9000])
    headers = "".join(f"x-{n}: {'y' * rng.randrange(100)}\r\n" for n in range(rng.randrange(100)))
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + rng.randbytes(rng.randrange(100))


def _tls(rng: random.Random) -> bytes:
    return b"\x16\x03\x01" + rng.randbytes(2) + b"\x01" + rng.randbytes(rng.randrange(500))


def _cut_preface(rng: random.Random) -> bytes:
    return PREFACE[: rng.randrange(len(PREFACE))]


def _broken_preface(rng: random.Random) -> bytes:
    return _flipped(rng, PREFACE + frame(SETTINGS, b""))


def _giant_frame(rng: random.Random) -> bytes:
    head = PREFACE + frame(SETTINGS, b"")
    return head + frame(rng.randrange(12), rng.randbytes(100), stream=rng.choice([0, 1]), size=2**24 - 1)


def _random_frames(rng: random.Random) -> bytes:
    frames = (
        frame(
            rng.randrange(16),
            rng.randbytes(rng.choice([0, 1, 4, 8, 100])),
            flags=rng.randrange(256),
            stream=rng.choice([0, 1, 2, 3, 2**31 - 1, 2**32 - 1]),
        )
        for _ in range(rng.randrange(1, 20))
    )
    return PREFACE + frame(SETTINGS, b"") + b"".join(frames)


def _settings(rng: random.Random) -> bytes:
    entries = b"".join(struct.pack(">HI", rng.randrange(10), rng.getrandbits(32)) for _ in range(rng.randrange(20)))
    return PREFACE + frame(SETTINGS, entries) * rng.randrange(1, 10)


def _pings(rng: random.Random) -> bytes:
    return PREFACE + frame(SETTINGS, b"") + frame(PING, bytes(8)) * 200


def _resets(rng: random.Random) -> bytes:
    """Bring calls that are begun and reset at once; each costs a server of grpc.aio a hundred bytes for good."""
    calls = (call(stream) + frame(RST, bytes(4), stream=stream) for stream in range(1, 21, 2))
    return PREFACE + frame(SETTINGS, b"") + b"".join(calls)


def _endless_headers(rng: random.Random) -> bytes:
    head = frame(HEADERS, b"\x00\x01a\x01b" * 100, stream=1)
    return PREFACE + frame(SETTINGS, b"") + head + frame(CONTINUATION, b"\x00\x01a\x01b" * 1000, stream=1) * 20


def _large_headers(rng: random.Random) -> bytes:
    field = b"\x00" + _literal(b"x-large") + _literal(b"y" * 100)
    return PREFACE + frame(SETTINGS, b"") + frame(HEADERS, field * 140, flags=4, stream=1)


def broken_call(rng: random.Random) -> bytes:
    """Return a call with an error somewhere."""
    body = rng.randbytes(rng.randrange(200))
    prefix = bytes([rng.choice([0, 1, 255])]) + rng.choice([len(body), 2**32 - 1, 0, 5]).to_bytes(4)
    data = frame(DATA, prefix + body, flags=rng.randrange(2), stream=1)
    return PREFACE + frame(SETTINGS, b"") + _flipped(rng, call(1) + data)


def call(stream: int, path: bytes = b"/lightactors.v1.Link/Open") -> bytes:
    """Return the headers of a call that anybody might make."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"x",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    block = b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in fields.items())
    return frame(HEADERS, block, flags=4, stream=stream)


def _literal(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _flipped(rng: random.Random, data: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


KINDS: list[Blob] = [
    _random, _http1, _tls, _cut_preface, _broken_preface, _giant_frame, _random_frames, _settings, _pings, _resets,
    _endless_headers, _large_headers, broken_call,
]  # fmt: skip


def blobs(kinds: Sequence[Blob], seed: int, count: int) -> Iterator[bytes]:
    """Bring blobs of these kinds in turn; the same ones for the same seed."""
    rng = random.Random(seed)
    for number in range(count):
        yield kinds[number % len(kinds)](rng)


def send(port: int, blob: bytes, *, politely: bool) -> None:
    """Send a blob over a connection of its own, and end that with a goodbye or a reset."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        with suppress(OSError):  # it may well have closed the door
            connection.sendall(blob)
            connection.shutdown(socket.SHUT_WR)
        if not politely:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few of them changed, cut out, doubled or put in."""
    for _ in range(rng.randrange(1, 5)):
        at, size = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 4, 16])
        middle = data[at : at + size]
        change: bytes = rng.choice(
            [rng.randbytes(len(middle)), b"", middle * 2, middle + rng.randbytes(size), b"\xff" * len(middle)]
        )
        data = data[:at] + change + data[at + size :]
    return data
