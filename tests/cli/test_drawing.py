"""What `status` draws of a node."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

import lightactors as la
from lightactors.actors.tree import size
from lightactors.cli.drawing import Status, duration
from lightactors.training.records import StoreStatistics

ACTOR = la.Statistics(
    name="store",
    state="running",
    place="task",
    mailbox=2,
    capacity=math.inf,
    senders_waiting=0,
    interleaved=1,
    handled=1204,
    failed=0,
    restarts=0,
    children=0,
)
TREE = la.Tree("store", "system", None, None, [la.Tree("store", "MemoryStore", ACTOR, ValueError("odd"), [])])
STORE = StoreStatistics(
    name="MemoryStore",
    total_rollouts=1200,
    total_attempts=1,
    total_spans=3,
    total_resources=2,
    total_workers=2,
    uptime=200,
    total_span_bytes=3 * 2**19,
    eviction_threshold_bytes=0,
    safe_threshold_bytes=0,
    memory_capacity_bytes=0,
    queue_length=7,
    waiters=2,
    fenced=1,
    evicted=0,
)
BUSY = la.Worker(
    worker_id="host-1-0",
    status="busy",
    last_heartbeat_time=999.0,
    last_dequeue_time=999.5,
    current_rollout_id="ro-1",
    heartbeat_stats={"succeeded": 12, "failed": 1, "host": "box"},
)
NEW = la.Worker(worker_id="w")
STATUS = Status("grpc://127.0.0.1:4747", TREE, STORE, [BUSY, NEW], now=1000.0)


def test_status_is_drawn() -> None:
    assert STATUS.lines() == [
        "grpc://127.0.0.1:4747",
        "",
        "store (system)",
        "└── store (MemoryStore)  running, 2 queued, 1 interleaved, 1,204 handled, last error ValueError: odd",
        "",
        "MemoryStore: 1,200 rollouts (7 queued), 1 attempt, 3 spans (1.5 MiB), 2 resources",
        "             up 3 min 20 s, 2 claims waiting, 1 late report refused, 0 spans evicted",
        "",
        "worker    status   last heard  host  done  failed  at work on",
        "host-1-0  busy     0.5 s ago   box   12    1       ro-1",
        "w         unknown  never",
    ]


def test_node_without_a_store_is_its_tree() -> None:
    assert replace(STATUS, store=None, workers=[]).lines() == STATUS.lines()[:4]


def test_store_without_runners_says_so() -> None:
    assert replace(STATUS, workers=[]).lines()[-1] == "no runner has joined yet"


def test_clock_of_the_store_may_be_ahead() -> None:
    assert "0.0 s ago" in replace(STATUS, now=900.0).lines()[-2]


def test_worker_can_not_move_the_cursor() -> None:
    assert "\x1b" not in "\n".join(replace(STATUS, workers=[la.Worker(worker_id="a\x1b[2J\nb")]).lines())


def test_json_has_every_figure() -> None:
    facts = json.loads(STATUS.json())
    assert facts["address"] == "grpc://127.0.0.1:4747"
    assert (
        facts["tree"]["children"][0]["statistics"] | {"handled": 1204, "capacity": None}
        == (facts["tree"]["children"][0]["statistics"])
    )
    assert facts["tree"]["children"][0]["last_error"] == "ValueError: odd"
    assert facts["store"]["queue_length"] == 7
    assert facts["workers"][0]["heartbeat_stats"] == {"succeeded": 12, "failed": 1, "host": "box"}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90000, "1 d 1 h")],
)
def test_durations_are_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 bytes"), (1536, "1.5 KiB"), (2**40, "1.0 TiB")])
def test_sizes_are_words(count: int, words: str) -> None:
    assert size(count) == words
