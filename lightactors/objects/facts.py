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
    listed = heapq.nlargest(_LISTED, objects, key=_size)
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
        "objects": _of_objects(listed, books),
    }


def _size(found: Object) -> int:
    return found.size


def _of_objects(listed: list[Object], books: Books) -> list[dict[str, Any]]:
    facts = {found.id: _of_object(found) for found in listed}
    # Each account once, and not for each object: there may be an inbox for each of ten thousand links.
    for client in books.clients.values():
        for id in client.counts.keys() & facts.keys():
            facts[id]["holders"].append(client.number)
        for id in client.pins.keys() & facts.keys():
            facts[id]["viewers"].append(client.number)
    for inbox in books.inboxes.values():
        for id in inbox.counts.keys() & facts.keys():
            facts[id]["in_flight"] += 1
    return list(facts.values())


def _of_object(found: Object) -> dict[str, Any]:
    return {
        "id": f"{found.id[0]:x}-{found.id[1]:x}",
        "size": found.size,
        "sealed": found.sealed,
        "maker": None if found.maker is None else found.maker.number,
        "holders": [],
        "viewers": [],
        "in_flight": 0,
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
