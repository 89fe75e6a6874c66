"""The store keeps its rules over a link too: its checks and its model's machine, from another node."""

from __future__ import annotations

import pytest
from anyio.from_thread import start_blocking_portal

from lightactors.testing.store import CHECKS, Check, check_rule
from lightactors.training.stores.memory import MemoryStore
from tests.real_time.doors import served
from tests.training.stores.test_store_model import Door, MailboxDoor, MailboxMachine, on, run


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_store_keeps_the_rule_over_a_link(check: Check) -> None:
    await check_rule(check, lambda: served(MemoryStore))


class LinkedMachine(MailboxMachine):
    """The calls of the model's machine, made over a link."""

    def open(self) -> Door:
        portal = self.stack.enter_context(start_blocking_portal(self.backend))
        return MailboxDoor(portal, self.stack.enter_context(portal.wrap_async_context_manager(served(MemoryStore))))


def test_store_does_what_the_model_does_over_a_link(anyio_backend_name: str) -> None:
    run(on(LinkedMachine, anyio_backend_name), examples=4, steps=20)


@pytest.mark.stress
@pytest.mark.timeout(1_800)
def test_store_does_what_the_model_does_over_a_link_for_long(anyio_backend_name: str) -> None:
    run(on(LinkedMachine, anyio_backend_name), examples=60, steps=50)
