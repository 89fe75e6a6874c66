"""What `objects` draws of an object store."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from lightactors.cli.objects import Shelves
from lightactors.objects.figures import Counters, Figures, ObjectFigures, ProcessFigures

NOW = 1000.0
MIB = 2**20
COUNTERS = Counters(
    puts=34,
    put_bytes=118 * MIB,
    gets=6,
    lost=1,
    spilled=3,
    spilled_bytes=24 * MIB,
    restored=2,
    evicted=0,
    reclaimed_bytes=4 * MIB,
    refused=5,
)


def process(number: int, label: str, used: int = 0, **counts: int) -> ProcessFigures:
    plain = ProcessFigures(number, label, 4000 + number, NOW - 90, used, held=0, viewed=0)
    return msgspec.structs.replace(plain, **counts)


def of(number: int, size: int, **others: object) -> ObjectFigures:
    plain = ObjectFigures(f"5bfb5f6d0c75860c-{number}", size, NOW - number, 1, [1], [], 0, False, False)
    return msgspec.structs.replace(plain, **others)


FIGURES = Figures(
    capacity=1024 * MIB,
    used=124 * MIB,
    leased=4 * MIB,
    largest_free=450 * MIB,
    fragmentation=0.5,
    spilled_bytes=24 * MIB,
    spill="/tmp",
    disk_error="",
    waiting=1,
    total_objects=3,
    counters=COUNTERS,
    processes=[process(2, "shop/k0", 20 * MIB, viewed=1), process(1, "shop", 104 * MIB, held=2)],
    objects=[
        of(1, 100 * MIB, viewers=[2]),
        of(20, 20 * MIB, maker=None, is_spilled=True),
        of(3, 17, maker=2, holders=[], in_flight=2),
    ],
)
SHELVES = Shelves("unix:/run/shop.sock", FIGURES, NOW)


def test_store_is_drawn() -> None:
    assert SHELVES.lines() == [
        "unix:/run/shop.sock",
        "",
        "object store: 3 objects, 124.0 MiB of 1.0 GiB used, 4.0 MiB of it for new objects",
        "              900.0 MiB free, 450.0 MiB in one piece (fragmentation 50%)",
        "              24.0 MiB on disk, spilling to /tmp",
        "              34 puts (118.0 MiB), 6 gets, 2 of them from disk, 1 lost",
        "              3 spilled (24.0 MiB), 0 evicted, 4.0 MiB reclaimed from the dead",
        "              1 put waiting for memory, 5 requests refused",
        "",
        "process  pid   in memory  holds          views          since",
        "shop     4001  104.0 MiB  2 (120.0 MiB)                 1 min ago",
        "shop/k0  4002  20.0 MiB                  1 (100.0 MiB)  1 min ago",
        "",
        "object               size       age   put by  held by  viewed by",
        "5bfb5f6d0c75860c-1   100.0 MiB  1 s   4001    4001     4002",
        "5bfb5f6d0c75860c-20  20.0 MiB   20 s  gone    4001                on disk",
        "5bfb5f6d0c75860c-3   17 bytes   3 s   4002                        2 in flight",
    ]


def test_program_without_a_store_says_so() -> None:
    shelves = replace(SHELVES, figures=None)
    assert "no object store" in shelves.lines()[-1]
    assert json.loads(shelves.json())["object_store"] is None


def test_oldest_come_first_if_wanted_and_what_is_left_out_is_counted() -> None:
    *_, heading, first, more = replace(SHELVES, order="age", limit=1).lines()
    assert heading.startswith("object")
    assert first.startswith("5bfb5f6d0c75860c-20")
    assert more == "and 2 more; --limit shows them, --json all"


def test_disk_that_takes_nothing_is_told_of() -> None:
    full = msgspec.structs.replace(FIGURES, disk_error="No space left on device")
    assert any("nothing goes to /tmp: No space left" in line for line in replace(SHELVES, figures=full).lines())
    none = msgspec.structs.replace(FIGURES, spill=None)
    assert any("nothing is spilled (spill=None)" in line for line in replace(SHELVES, figures=none).lines())


@pytest.mark.parametrize("width", [80, 120])
def test_crowd_fits_into_a_line(width: int) -> None:
    crowd = [process(number, f"local/a-rather-long-name-for-an-actor/{number}" * 3) for number in range(1, 30)]
    everybody = [one.number for one in crowd]
    figures = msgspec.structs.replace(
        FIGURES, processes=crowd, objects=[of(1, 1023 * MIB, holders=everybody, viewers=everybody)]
    )
    lines = replace(SHELVES, figures=figures, width=width).lines()
    assert max(map(len, lines[9:])) <= width
    assert {80: "4001 +28", 120: "4001 4002 4003 +26"}[width] in lines[-2]


def test_process_can_not_move_the_cursor() -> None:
    hostile = msgspec.structs.replace(
        FIGURES, processes=[process(1, "a\x1b[2J\nb\u202e")], spill="/tmp/\x1b[2J", disk_error="\x1b]0;"
    )
    assert all(line.isprintable() for line in replace(SHELVES, figures=hostile).lines())


def test_json_has_every_figure() -> None:
    facts = json.loads(SHELVES.json())
    assert (facts["address"], facts["time"]) == ("unix:/run/shop.sock", NOW)
    assert facts["object_store"] == json.loads(FIGURES.json())
    assert Figures.read(FIGURES.json()) == FIGURES
