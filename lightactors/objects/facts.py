"""What the owner tells of its books; `figures` is what the others make of it."""

from __future__ import annotations

import heapq
from typing import Any

from lightactors.objects.books import Books, Client, Object

_LISTED = 1_000
"""Objects that are told of one by one, the largest."""


def facts_of(books: Books) -> dict[str, Any]:
    """Return what is in the books."""
    arena = books.arena
    objects = list(books.all_objects())
    return {
        "capacity": arena.capacity,
        "used": arena.used,
        "leased": sum(sum(client.leases.values()) for client in books.clients.values()),
        "largest_free": arena.largest,
        "fragmentation": arena.fragmentation,
        "spilled_bytes": books.spilled_bytes,
        "total_objects": len(objects),
        "counters": vars(books.tally),
        "processes": [_of_client(client) for client in books.clients.values()],
        "objects": [_of_object(found, books) for found in heapq.nlargest(_LISTED, objects, key=_size)],
    }


def _size(found: Object) -> int:
    return found.size


def _of_object(found: Object, books: Books) -> dict[str, Any]:
    clients = books.clients.values()
    return {
        "id": f"{found.id[0]:x}-{found.id[1]:x}",
        "size": found.size,
        "sealed": found.sealed,
        "maker": None if found.maker is None else found.maker.number,
        "holders": [client.number for client in clients if client.counts.get(found.id)],
        "viewers": [client.number for client in clients if client.pins.get(found.id)],
        "in_flight": sum(found.id in inbox.counts for inbox in books.inboxes.values()),
        "is_spilled": found.file is not None,
        "is_deleted": found.is_gone,
    }


def _of_client(client: Client) -> dict[str, Any]:
    return {
        "number": client.number,
        "joined": client.joined,
        "used": client.used,
        "viewed": len(client.pins),
        "held": len(client.counts),
        **client.facts,
    }
