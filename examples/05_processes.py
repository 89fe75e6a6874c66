"""Actors in processes of their own: started in milliseconds, watched, started again, and never left behind."""

import os
import signal

import anyio

import lightactors as la


@la.actor
class Worker:
    """Works on a core of its own."""

    @la.handler
    def pid(self) -> int:
        return os.getpid()

    @la.handler
    def work(self, number: int) -> int:
        return sum(n * n for n in range(number))


async def main() -> None:
    async with la.open_system() as system:
        pool = await system.options(name="workers", place="process").spawn_many(4, Worker)
        router = pool.router("least_loaded")  # looks like a Worker, and chooses one for each call

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(router.work, 300_000)

        worker = next(iter(pool))
        os.kill(await worker.pid(), signal.SIGKILL)
        await anyio.sleep(0.2)
        print("killed, and again there:", await worker.work(10))

        await pool.resize(2)
        print(await system.survey())  # the tree, each process asked for what is in it
        print(la.why(worker))


if __name__ == "__main__":  # needed: a new process imports this file to find Worker
    anyio.run(main)
