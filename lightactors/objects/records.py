"""What a client and the owner of the store say to each other: packets of records, 40 bytes each.

A client speaks first, with a greeting (JSON); the owner answers with its own and the arena's descriptor. After that all
is records: `operation, serial, a, b, c, d`. Those with a serial are answered by one record of the same operation and
serial; the others say what has happened and nobody answers.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TypeAlias

RECORD = struct.Struct("<II4Q")

PACKET = 64 * 1024
"""Bytes that a packet may have: less than what a socket takes at once."""

PROTOCOL = 1
"""Changes with the records: a client and an owner of different ones don't get along."""

Id: TypeAlias = tuple[int, int]
"""Of an object: the client that made it, a random number, and its number with that client. Of an inbox: as well."""

Record: TypeAlias = tuple[int, int, int, int, int, int]

SOME = (1 << 63) - 1
"""The largest number of a client."""


class Op(IntEnum):
    """What a record says. In brackets: what its numbers mean, and those of the answer."""

    # Said by a client
    SEAL = 1  # this object is complete (id, offset, size)
    SEAL_CACHED = 2  # as well, and it may stay when nobody holds it, until space is needed
    UNLEASE = 3  # this space is given back (offset)
    ADOPT = 4  # a lease of that client is mine now (client, offset); answered
    HOLD = 5  # I hold it (id); answered if asked
    DROP = 6  # I hold it so many times less (id, times)
    UNPIN = 7  # I have a view less of it (id)
    OPEN = 8  # an inbox, for somebody who is yet to come (inbox, two numbers that only he is to hear)
    JOIN = 9  # it is mine (inbox); if asked, [the two numbers]
    ABANDON = 10  # nothing more will come to it (inbox)
    CLOSE = 11  # it (inbox)
    DEPOSIT = 12  # it is on its way to that inbox (id, inbox)
    TAKE = 13  # it has come: the hold is mine now, and not the inbox's (id, inbox); if asked, only if it has, [DONE]
    FORK = 14  # a copy of me has all that I hold and view at this moment (its number, which it greets with)
    AM = 15  # this process (its id; a fork has greeted before it was one)
    # Asked by a client
    # space [most, least, whether to wait for it, for which client; offset, size, trims; FULL: what will soon be free]
    LEASE = 20
    PIN = 21  # I will have a view of it [id; offset, size, 1 if it was spilled: the file's descriptor comes along]
    CONTAINS = 22  # is it here? [id]
    DELETE = 23  # drop it, whoever holds it; views stay [id]
    FETCH = 24  # who brings it here? [id; DONE it is here, GO do it, WAIT]
    GIVE_UP = 25  # I don't after all [id]
    STATISTICS = 26  # [; a descriptor of a file with JSON in it comes along]


class Status(IntEnum):
    """How the owner answers: the first number of its answer."""

    DONE = 0
    LOST = 1  # there is no such object (any more)
    FULL = 2  # no space now
    TOO_LARGE = 3  # there never will be so much
    QUOTA = 4  # this client has its share already
    GO = 5
    NOT_SO = 6  # the client may not do that


def pack(op: Op, a: int = 0, b: int = 0, c: int = 0, d: int = 0, *, serial: int = 0) -> bytes:
    """Return a record as bytes."""
    return RECORD.pack(op, serial, a, b, c, d)


def text_of(id: Id) -> str:
    """Return an object's id as text."""
    return f"{id[0]:x}-{id[1]:x}"
