"""The queue itself: an actor that hands ready tasks to the workers that wait longest."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lightactors.actors import loops
from lightactors.actors.flag import Flag
from lightactors.actors.public import watch
from lightactors.actors.ref import cell_of
from lightactors.actors.terminated import Reason, Terminated
from lightactors.contract import Eventually, actor, handler
from lightactors.errors import NameTaken, check_whole
from lightactors.scheduling.ledger import Ledger
from lightactors.scheduling.records import Claim, QueueStatistics, WorkerState

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell

    Anybody = object
else:

    @actor
    class Anybody:
        """An actor of whatever class, where an annotation has to name one: it is watched, and asked nothing."""


T = TypeVar("T")

_reads = handler(idempotent=True, roles=("runner", "algorithm", "viewer"))


def _now() -> float:
    # Not anyio's: a handler that a link calls runs in no task, and there that fails.
    return loops.current().time()


class _Place(Generic[T]):
    """Somebody's place in the line of claims."""

    __slots__ = ("claims", "count", "served", "worker")

    def __init__(self, worker: str, count: int) -> None:
        self.worker = worker
        self.count = count
        self.claims: list[Claim[T]] = []
        self.served = Flag()

    def serve(self, claims: list[Claim[T]]) -> None:
        self.claims = claims
        self.served.set()


@actor
class TaskQueue(Generic[T]):
    """Ready tasks, first come, first served, and the workers that claim them, from whatever process.

    A task is any value that travels: plain data arrives as such, an `ObjectRef` as one, so that what is large stays
    where it is. It is somebody's at any time: ready, or held by one worker until that finishes it, gives it back, or
    ends. It is done at least once, then: what a lost worker had done already is done again. How often a task may
    fail is not the queue's business, but its user's.

    Workers go by `tasks_of`, which joins, claims, finishes and leaves for them; the handlers are for those who can't.
    """

    if not TYPE_CHECKING:

        def __class_getitem__(cls, task: Any) -> type[TaskQueue[Any]]:
            # Whose tasks it holds is for type checkers. As a class of its own it could neither be spawned nor annotate
            # a handler's parameter, and there it is wanted most.
            return cls

    def __init__(self) -> None:
        self._ledger = Ledger[T]()
        self._line: deque[_Place[T]] = deque()  # empty while anything is ready
        self._ref_by_worker: dict[str, object] = {}
        self._heard: set[object] = set()  # the refs whose end will be told
        self._is_closed = False
        self._done = Flag()
        self._done.set()

    # Tasks in

    @handler
    def add(self, *tasks: T) -> None:
        """Put tasks behind all others."""
        self._add(tasks)

    @handler
    def add_many(self, tasks: list[T]) -> None:
        """Put a list of tasks behind all others."""
        self._add(tasks)

    def _add(self, tasks: Sequence[T]) -> None:
        self._ledger.add(tasks)
        if tasks and self._done.is_set():
            self._done = Flag()
        self._serve()

    @handler
    def close(self) -> None:
        """Say that nobody will add any more: when all tasks are finished, claims bring none."""
        self._is_closed = True
        self._settle()

    @handler(idempotent=True, interleaved=True)
    def done(self) -> Eventually[None]:
        """Wait until every task is finished."""
        return None if self._done.is_set() else self._done.wait()

    # Workers

    @handler
    def join(self, worker: str, ref: Anybody | None = None) -> None:
        """Let a worker claim. When the actor behind `ref` ends, or is started again, or its link is lost, it is gone.

        Raises `NameTaken` while another worker of that name is there.
        """
        if self._ledger.is_here(worker):
            raise NameTaken(f"worker {worker!r} is at work on this queue already; choose another name")
        self._ledger.join(worker, _now())
        if ref is not None:
            self._ref_by_worker[worker] = self._hear_of(cell_of(ref, "join()"))

    def _hear_of(self, cell: Cell) -> object:
        if cell.ref not in self._heard:
            self._heard.add(cell.ref)
            # A watch hears of ends for good, and of lost links; the other one of an incarnation's end.
            watch(cell.ref)
            mailbox = cell_of(self, "join()").mailbox
            cell.when_at_rest(partial(mailbox.signal, Terminated(cell.ref, Reason.FAILED)))
        return cell.ref

    def on_terminated(self, terminated: Terminated) -> None:
        """Let the workers go that lived by this actor."""
        self._heard.discard(terminated.ref)
        for worker in [worker for worker, ref in self._ref_by_worker.items() if ref == terminated.ref]:
            self._leave(worker)

    @handler(idempotent=True)
    def leave(self, worker: str, finished: Sequence[int] = ()) -> None:
        """Finish these claims, give back what else the worker holds, lost answers included, and let it go."""
        self._ledger.finish(worker, finished, _now())
        self._leave(worker)

    def _leave(self, worker: str) -> None:
        for place in [place for place in self._line if place.worker == worker]:
            self._line.remove(place)
            place.serve([])
        self._ref_by_worker.pop(worker, None)
        self._ledger.leave(worker, _now())
        self._serve()
        self._settle()

    @_reads
    def states(self) -> dict[str, WorkerState[T]]:
        """Tell what each worker is at; of those that are gone, the last thousand."""
        return self._ledger.states(_now())

    @_reads
    def statistics(self) -> QueueStatistics:
        """Return the queue's figures."""
        ledger, workers = self._ledger, self._ledger.count_workers()
        return QueueStatistics(
            ready=ledger.ready,
            held=ledger.held,
            claims_waiting=len(self._line),
            idle=workers["idle"],
            busy=workers["busy"],
            gone=workers["gone"],
            added=ledger.added,
            finished=ledger.finished,
            given_back=ledger.given_back,
        )

    # Claims

    # Asked again after a lost link it does no harm: with the link the worker was gone, and all that it held is ready.
    @handler(idempotent=True, interleaved=True)
    def claim(self, worker: str, count: int = 1, finished: Sequence[int] = ()) -> Eventually[list[Claim[T]]]:
        """Wait for ready tasks and claim those there are, `count` at most; first have done with what is finished.

        None come when the queue is closed and all is finished, or when the worker leaves meanwhile. A claim that is
        cancelled gives back what it has taken; one whose answer was under way already is given back when the worker
        leaves. Raises `NotJoined`.
        """
        check_whole("count", count)
        now = _now()
        if finished:
            self._ledger.finish(worker, finished, now)
            self._settle()
        claims = self._ledger.take(worker, count, now)
        if claims or self._is_over():
            return claims
        place: _Place[T] = _Place(worker, count)
        self._line.append(place)
        return self._wait(place)

    async def _wait(self, place: _Place[T]) -> list[Claim[T]]:
        try:
            await place.served.wait()
        except BaseException:
            if not place.served.is_set():
                self._line.remove(place)
            self._give_back(place.worker, [claim.number for claim in place.claims])
            raise
        return place.claims

    @handler(idempotent=True)
    def finish(self, worker: str, numbers: Sequence[int]) -> int:
        """Have done with claims; return how many were the worker's still. What it had lost is, or was, another's."""
        finished = self._ledger.finish(worker, numbers, _now())
        self._settle()
        return finished

    @handler(idempotent=True)
    def give_back(self, worker: str, numbers: Sequence[int]) -> int:
        """Put claimed tasks where they were, before those that came later; return how many were the worker's still."""
        return self._give_back(worker, numbers)

    def _give_back(self, worker: str, numbers: Sequence[int]) -> int:
        given_back = self._ledger.give_back(worker, numbers, _now())
        self._serve()
        return given_back

    def _serve(self) -> None:
        """Hand what is ready to those who wait, in their order."""
        while self._line and self._ledger.ready:
            place = self._line.popleft()
            place.serve(self._ledger.take(place.worker, place.count, _now()))

    def _settle(self) -> None:
        """Tell those who wait for the end, if it has come."""
        if not (self._ledger.ready or self._ledger.held):
            self._done.set()
        if self._is_over():
            while self._line:
                self._line.popleft().serve([])

    def _is_over(self) -> bool:
        return self._is_closed and not (self._ledger.ready or self._ledger.held)
