"""However a process resists, it is gone within the sum of the rungs, with all that descends from it."""

from __future__ import annotations

import itertools
import signal
import time

import pytest

from tests.real_time.processes.zoo import Beast, Zoo

RUNG = 0.5  # seconds
RUNGS = ("interrupt", "terminate", "kill")

ENDS = {
    "plain": "interrupt",
    "ignores_interrupt": "terminate",
    "swallows_keyboard_interrupt": "terminate",
    "ignores_interrupt_and_terminate": "kill",
    "returns_from_terminate": "kill",
    "cleans_up_for_long": "kill",
    "stuck_in_c": "kill",
    "stopped": "terminate",
    "has_child_in_session": "interrupt",
    "flees_on_terminate": "terminate",
    "forks_on_and_on": "interrupt",
}


def climb(beasts: list[Beast]) -> dict[Beast, str]:
    """Climb the ladder for all at once; return the rung that ended each."""
    ended: dict[Beast, str] = {}
    for rung in RUNGS:
        left = [beast for beast in beasts if beast not in ended]
        for beast in left:
            step_on(rung, beast)
        deadline = time.monotonic() + (RUNG if rung != "kill" else 10)
        ended |= {beast: rung for beast in left if beast.is_gone(max(0.0, deadline - time.monotonic()))}
    return ended


def step_on(rung: str, beast: Beast) -> None:
    if rung == "kill":
        beast.process.kill()
    else:
        beast.process.signal({"interrupt": signal.SIGINT, "terminate": signal.SIGTERM}[rung])


@pytest.mark.parametrize("name", ENDS)
def test_process_ends_on_its_rung_and_nothing_of_it_is_left(zoo: Zoo, name: str) -> None:
    beast = zoo.let_in(name)
    start = time.monotonic()
    ended = climb([beast])
    took = time.monotonic() - start
    assert ended == {beast: ENDS[name]}
    assert took <= RUNGS.index(ENDS[name]) * RUNG + 1  # on a busy machine
    assert zoo.descendants() == []


def test_sixty_four_stubborn_processes_end_in_one_climb(zoo: Zoo) -> None:
    names = list(itertools.islice(itertools.cycle(ENDS), 64))
    beasts = [zoo.send_for(name) for name in names]
    for beast in beasts:
        assert beast.hear() == b"ready"
    start = time.monotonic()
    ended = climb(beasts)
    took = time.monotonic() - start
    assert len(ended) == 64
    assert took <= 2 * RUNG + 3
    assert zoo.descendants() == []
