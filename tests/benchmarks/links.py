"""An actor of another node, in another process: how fast messages go over a link."""

from __future__ import annotations

import lightactors as la
from tests.benchmarks import floors
from tests.benchmarks.measure import Row, per_second
from tests.benchmarks.messages import MEGABYTE, Echo, asking_while_sending, from_tasks, rows_of
from tests.benchmarks.node import other_node


async def rows(backend: str) -> list[Row]:
    """Measure on the running loop; over a unix socket where nothing else is said."""
    async with other_node(backend) as addresses, la.open_system():
        far = await la.connect(Echo, addresses.actor("echo"))
        found = await rows_of(far, largest=MEGABYTE)
        other = await la.connect(Echo, addresses.actor("other_echo"))  # the order is kept only for one and the same
        meanwhile = await asking_while_sending(other.echo, far.size)
        found.append(Row(floors.MEANWHILE, "ms", meanwhile, more_is_better=False))
        over_tcp = await la.connect(Echo, addresses.actor_over_tcp("echo"))
        found.append(Row(TCP, "asks/s", await per_second(from_tasks(64, over_tcp.echo), 64_000)))
    if backend == "asyncio":
        by_what = {row.what: row for row in found}
        await floors.add_sockets(by_what)
        await floors.add_unary(by_what)
    return found


TCP = "ask, 64 callers, over TCP"
