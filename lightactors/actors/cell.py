"""The cell: the life of one actor. It starts, takes its turns one message at a time, and leaves.

An actor that needs none has no task: plain handlers of an idle actor run in their callers (`ref`), and
the first message that has to be queued starts one.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

import anyio

from lightactors.actors import cycles
from lightactors.actors import owner as owners
from lightactors.actors.asides import Asides
from lightactors.actors.loops import FAIR_SHARE
from lightactors.actors.mailbox import Ask, Failure, Mailbox, sent
from lightactors.actors.mortal import Mortal
from lightactors.actors.owner import Owner, State
from lightactors.actors.ref import bind
from lightactors.actors.stopping import stack_of
from lightactors.actors.terminated import Reason, Terminated
from lightactors.actors.tree import ProcessFigures, Statistics, Tree
from lightactors.actors.why import Death, death_of
from lightactors.contract import Contract, Kind, Method, is_awaited
from lightactors.errors import ActorNotRunning, ActorStopped, LightActorsError, RestartsExhausted, SpawnError, shown
from lightactors.supervision.ladder import Ladder, Rung

if TYPE_CHECKING:
    from lightactors.actors.keeper import Keeper
    from lightactors.actors.loops import Loop
    from lightactors.actors.ref import AnyRef
    from lightactors.actors.streams import Production
    from lightactors.actors.survey import Words
    from lightactors.actors.threads import LoopThread
    from lightactors.supervision.spec import ChildOptions

logger = logging.getLogger("lightactors")


class Cell(Mortal):
    """Private: users hold a ref. Everything here runs on the cell's own loop unless it says otherwise."""

    __slots__ = (
        "__weakref__",
        "_asides",
        "_asked",
        "_interrupted",
        "_on_drain",
        "_on_start",
        "_on_stop",
        "_opened",
        "_productions",
        "_scope",
        "_suspended",
        "_task",
        "_turn",
        "actor",
        "children",
        "contract",
        "death",
        "error",
        "failed",
        "handled",
        "hears_failure",
        "incarnation",
        "keeper",
        "kept_by",
        "last_error",
        "loop",
        "mailbox",
        "name",
        "options",
        "owner",
        "ref",
        "remake",
        "rung",
        "state",
        "system",
        "thread",
        "waits_for",
        "watched",
    )

    def __init__(self, name: str, owner: Owner, loop: Loop, options: ChildOptions) -> None:
        super().__init__()
        self.name = name
        self.owner = owner
        self.system = owner.system
        self.loop = loop
        self.options = options
        self.mailbox = Mailbox(name, loop, options.mailbox, self._start_task)
        self.children = {}
        self.kept_by: Keeper | None = None  # who starts this actor again
        self.remake: Callable[[], None] | None = None  # how another incarnation gets its actor
        self.hears_failure: Callable[[Cell, BaseException], object] | None = None  # None: its owner does
        self.incarnation = 1
        self.handled = 0
        self.failed = 0
        self.death: Death | None = None  # how the last incarnation that died has died
        self.last_error: BaseException | None = None  # what a handler raised last, here or at its asker
        self.waits_for: list[tuple[Cell, Ask | Production]] = []  # whom the turn under way has asked
        self.thread: LoopThread | None = None
        self.rung: Rung | None = None  # what it took to end it, if somebody else did
        self._asked = False  # somebody else wants it to end
        self._be_new()

    def _be_new(self) -> None:
        """Be as an incarnation begins."""
        self.state = State.STARTING
        self.keeper: Keeper | None = None  # who starts this actor's children again
        self.error: BaseException | None = None  # what this incarnation died of
        self.watched: dict[Cell, Callable[[Terminated], object]] | None = None  # whose end comes as a signal, and how
        self._turn: Ask | Production | None = None  # whose ask the turn under way serves
        self._asides: Asides | None = None  # what is interleaved; made for the first one
        self._productions: set[Production] | None = None
        self._scope: anyio.CancelScope | None = None
        self._task: object = None
        self._interrupted = False
        self._suspended = False  # this incarnation is to end, and the queue to stay
        self._opened = False  # was it ever ready? If not, its failure is the spawner's and not the owner's

    # Identity

    contract: Contract
    actor: Any
    ref: AnyRef

    @property
    def kind(self) -> str:
        return self.contract.name

    def origin(self) -> Any:
        """Return the class or function that the user wrote."""
        return self.contract.actor

    @property
    def path(self) -> str:
        return f"{self.owner.path}/{self.name}"

    @property
    def place(self) -> str:
        return self.options.place if isinstance(self.options.place, str) else "elsewhere"

    @property
    def address(self) -> str:
        return f"{self.path}#{self.incarnation}"

    def bind(self, method: Method) -> Any:
        """Return a handler as this actor's ref shows it."""
        return bind(self, method)

    def __repr__(self) -> str:
        return f"<cell {self.path} {self.state.name.lower()}>"

    # Starting

    def embody(self, contract: Contract, actor: Any) -> None:
        """Give the cell its actor."""
        self.contract = contract
        self.actor = actor
        self._on_start: Callable[[], object] | None = getattr(actor, "on_start", None)
        self._on_drain: Callable[[], object] | None = getattr(actor, "on_drain", None)
        self._on_stop: Callable[[], object] | None = getattr(actor, "on_stop", None)

    def lives_in(self, thread: LoopThread) -> None:
        """Be the actor that a thread is for: it ends with the actor, and tells of the end when it has ended."""
        self.thread = thread
        thread.at_end = self.announce

    def begin(self, started: Ask) -> None:
        """Become ready for messages; answer `started` then, or with the failure of `on_start`."""
        if self._on_start is None:
            self._ready(started)
        else:
            self._turn = started
            self._start_task()

    def _ready(self, started: Ask | Production) -> None:
        self.state = State.RUNNING
        self._opened = True
        started.answer(None)
        if self._task is None:
            if self.mailbox.queue:  # what was sent while there was no incarnation
                self._start_task()
            else:
                self.mailbox.idle = True

    def failed_to_start(self, error: Exception) -> LightActorsError:
        """Return the spawner's error for what came out of the start."""
        if isinstance(error, SpawnError):
            return error
        return SpawnError(f"{self.kind} {self.path} failed in on_start: {shown(error)}")

    def _start_task(self) -> None:
        context = self.system.context.copy()
        context.run(owners.current.set, self)
        context.run(cycles.holder.set, self)
        self._task = self.loop.start(self._live, f"actor {self.path}", context)

    async def _live(self) -> None:
        try:
            if self.state is State.STARTING:
                await self._open()
            elif not self._opened:
                self._on_stop = None  # stopped before `on_start` began: there is nothing to clean up
            while not self._must_leave():
                # One scope for many turns: it is opened anew only after it was used to cancel one.
                with anyio.CancelScope() as self._scope:
                    await self._work()
                self._scope = None
        except BaseException as error:
            self._interrupted = self._interrupted or not isinstance(error, Exception)  # its task itself was cancelled
            self.fail(self.loop.failure(error))
        finally:
            await self._leave()

    async def _open(self) -> None:
        started = self._turn
        assert started is not None
        assert self._on_start is not None
        with anyio.CancelScope() as self._scope:
            try:
                await _maybe_wait(self._on_start())
            except Exception as error:
                self.fail(error)
        self._turn = None
        if self._must_leave():
            stopped = ActorStopped(f"actor {self.path} was stopped while it started")
            started.answer(Failure(self.error or stopped))
        else:
            self._ready(started)

    # Turns

    def _must_leave(self) -> bool:
        return self._interrupted or self._suspended or self.error is not None or self._is_drained()

    def _is_drained(self) -> bool:
        return self.mailbox.closed and not self.mailbox.queue and not self._asides

    async def _work(self) -> None:
        """Take turns until everything is done or this scope was used up to cancel one."""
        mailbox = self.mailbox
        queue = mailbox.open_queue()
        while self.error is None and not self._suspended:
            if mailbox.signals:
                await self._take_signal()
            elif queue:
                if not await self._take_turns(mailbox, queue):
                    return
            elif mailbox.closed:
                await self._finish_asides()
                return
            else:
                await mailbox.wait()

    async def _take_turns(self, mailbox: Mailbox, queue: Any) -> bool:
        """Handle what is queued, a fair share at most; False: the scope was used up.

        The one loop that every queued message goes through: its steps are written out, not called.
        """
        actor = self.actor
        share = FAIR_SHARE
        while queue and share and not mailbox.signals:
            share -= 1
            method, args, kwargs, ask = queue.popleft()
            if mailbox.senders_waiting:
                mailbox.make_room()
            if ask is not None and ask.abandoned:
                continue
            self.handled += 1
            self._turn = ask
            try:
                value = method.function(actor, *args, **kwargs)
                if method.waits:
                    if method.interleaved:
                        if self._goes_aside(method, value, ask):
                            continue
                    else:
                        value = await value
                        self._turn = None
            except BaseException as error:
                if not self._reply_failure(self.loop.failure(error), method, args, kwargs, ask):
                    return False
            else:
                if ask is not None:
                    self._turn = None  # first: whoever has the reply may look at once how busy the actor is
                    ask.answer(value)
            if method.waits and self._scope is not None and self._scope.cancel_called:
                return False
        if queue:
            await self.loop.pause()
        return True

    def note_failure(self, error: Exception) -> None:
        """Count what a handler raised, here or in its caller."""
        self.failed += 1
        self.last_error = error

    def _reply_failure(
        self, error: Exception, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any], ask: Ask | None
    ) -> bool:
        """Give the error to the asker; nobody asked: it is the actor's own failure, and False."""
        self._turn = None
        self.note_failure(error)
        if ask is None:
            error.add_note(f"raised by actor {self.path} while it handled {method}, which it was told")
            self.fail(error, method.call(args, kwargs))
            return False
        ask.answer(Failure(error))
        return True

    async def _take_signal(self) -> None:
        terminated: Terminated | None = self.mailbox.signals.popleft()
        self._turn = None
        if terminated is not None:  # None only has the actor look up: it was suspended
            await _maybe_wait(self.actor.on_terminated(terminated))

    # What is interleaved

    def _goes_aside(self, method: Method, value: Any, ask: Ask | None) -> bool:
        """Let an awaitable go on outside the mailbox; False for a plain value."""
        if not is_awaited(value):
            return False
        self._turn = None
        self.aside(value, ask, str(method), only_waits=method.kind is Kind.PLAIN)
        return True

    def aside(self, awaitable: Awaitable[Any], ask: Ask | Production | None, name: str, *, only_waits: bool) -> None:
        """Await something in a task of its own and reply with its outcome.

        What `only_waits` is given up as soon as the actor is to stop; the rest has the drain's grace.
        """
        if self._asides is None:
            self._asides = Asides(self)
        self._asides.start(awaitable, ask, name, only_waits=only_waits)

    def is_on_its_way_out(self) -> bool:
        return self.mailbox.closed or self.state >= State.DRAINING

    async def _finish_asides(self) -> None:
        if self._asides is not None:
            self._asides.cancel_waits()
        while self._asides:
            await self.mailbox.wait_for_nudge()

    def produces(self, production: Production) -> None:
        """Keep a stream under way, so that it is closed when the actor leaves."""
        if self._productions is None:
            self._productions = set()
        self._productions.add(production)

    def produced(self, production: Production) -> None:
        if self._productions is not None:
            self._productions.discard(production)

    # Watching

    def hears_signals(self) -> bool:
        return hasattr(self.actor, "on_terminated")

    def watches(self, cell: Cell) -> None:
        """Have the end of `cell` sent to this actor as a signal."""
        watched = self.watched = {} if self.watched is None else self.watched
        if cell in watched:
            return

        def tell(terminated: Terminated) -> None:
            watched.pop(cell, None)
            self.mailbox.signal(terminated)

        watched[cell] = tell
        cell.when_ended(tell)

    def _watch_no_more(self) -> None:
        for cell, tell in list((self.watched or {}).items()):
            cell.forget(tell)

    # Cancelling

    def abandon(self, ask: Ask) -> None:
        """The asker gave up: cancel his handler, or forget his message if it is still queued."""
        ask.abandoned = True
        if not self.cancels_turn_of(ask) and ask.give_up is not None:
            ask.give_up()

    def cancels_turn_of(self, ask: Ask | Production) -> bool:
        """Cancel the turn under way, if it is that one."""
        if ask is not self._turn:
            return False
        self.cancel_turn()
        return True

    def cancel_turn(self) -> None:
        self._turn = None
        if self._scope is not None:
            self._scope.cancel()

    # Failing

    def fail(self, error: BaseException, message: str | None = None) -> None:
        """Die of `error`, raised by `message`; who keeps the actor deals with it, or else its owner is told."""
        if self.error is not None or self.state is State.STOPPED:
            return
        self.error = error
        self.death = death_of(self, error, message)
        if not self._is_kept():
            if self._opened:
                self.owner.order(self._who_hears_of_failure(), self, error)
            if self.state < State.LEAVING:
                self.mailbox.close()
        if self.state < State.LEAVING:
            self._cut()

    def _who_hears_of_failure(self) -> Callable[[Cell, BaseException], object]:
        if self.hears_failure is not None:
            return self.hears_failure
        # A supervised actor that fails while it is being stopped is no reason for its supervisor to fail.
        return self.owner.child_failed if self.kept_by is None else self.kept_by.failed_at_its_end

    def _is_kept(self) -> bool:
        """Tell whether another incarnation may follow. One that was never ready is its spawner's to deal with."""
        was_ready = self._opened or self.incarnation > 1
        is_left = self._asked or self.state is State.STOPPED  # stopped: it was abandoned
        return self.kept_by is not None and was_ready and not is_left and self.kept_by.is_at_work()

    def keep_children(self, keeper: Keeper) -> None:
        self.keeper = keeper

    def child_failed(self, child: Cell, error: BaseException) -> None:
        if self.watched is None or child not in self.watched:
            if not isinstance(error, RestartsExhausted):
                error.add_note(f"{child.path} failed, and with it its owner {self.path}; watch it to go on without it")
            self.last_error = error
            self.fail(error)

    # Stopping

    RUNGS: ClassVar = {Rung.INTERRUPT: "interrupt"}
    """What pushes the actor after it had its time to drain."""

    def pushes(self) -> list[tuple[Rung, Callable[[], object]]]:
        return [(rung, getattr(self, name)) for rung, name in self.RUNGS.items()]

    def takes(self, rung: Rung) -> bool:
        """Tell whether a rung still means anything: what leaves already can't be cancelled."""
        return self.state < State.LEAVING

    def leaves(self) -> bool:
        """Tell whether the actor, in this process, stops its children or runs `on_stop`."""
        return self.state == State.LEAVING

    def why_it_stays(self) -> str:
        return f"does not react to being cancelled and is left behind; its {self.place} is at:\n{stack_of(self)}"

    def see_it_may_be_stopped(self) -> None:
        """Raise `AccessDenied` where it may not be stopped from here."""

    def was_stopped(self) -> bool:
        """Tell whether somebody else wanted the actor to end."""
        return self._asked

    def close(self) -> None:
        """Drain: take no more messages, finish the queue, then leave for good."""
        self._asked = True
        if self.state is State.RESTARTING:
            self.end_for_good()
        else:
            self.shut_down()

    def shut_down(self) -> None:
        """Drain by the actor's own wish; who keeps it may start it again."""
        if self.state < State.DRAINING:
            if self.state is State.STARTING:
                self.interrupt()
            self.state = State.DRAINING
            # Locked before it is looked at: a message from another thread may be queued, its wake-up still on the way.
            self.mailbox.lock_up()
            self.tell_that_it_drains()
            self._end_here_if_there_is_nothing_to_do()
            self.mailbox.nudge()

    def tell_that_it_drains(self) -> None:
        """Call `on_drain`, once: as soon as it is known that the actor is to stop."""
        on_drain, self._on_drain = self._on_drain, None
        if on_drain is not None:
            try:
                on_drain()
            except BaseException as raised:
                error = self.loop.failure(raised)
                error.add_note(f"raised by on_drain of actor {self.path}")
                self.fail(error)

    def interrupt(self) -> None:
        """Cancel what is under way, then leave."""
        if self.state < State.LEAVING:
            self._interrupted = True
            if not (self._suspended or self._is_kept()):
                self.mailbox.close()
            self._cut()

    def suspend(self) -> None:
        """End this incarnation after the turn under way; what is queued stays for the next one."""
        if self.state < State.DRAINING:
            self._suspended = True
            if self.state is State.STARTING:
                self._cut()
            elif self._task is not None:
                self.mailbox.signal(None)
            elif self._has_nothing_to_do():
                self.mailbox.idle = False
                self._end()
            else:
                self.mailbox.idle = False
                self._start_task()

    def _cut(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        if self._asides is not None:
            self._asides.cancel()
        self.mailbox.nudge()

    def _has_nothing_to_do(self) -> bool:
        return self._on_stop is None and not (self.children or self._asides or self._productions)

    def _end_here_if_there_is_nothing_to_do(self) -> None:
        if self._has_nothing_to_do() and self._task is None and self.mailbox.idle and not self.mailbox.queue:
            self.mailbox.idle = False
            self._end()

    def refusal(self) -> str | None:
        return f"its owner {self.path} is stopping" if self.state >= State.LEAVING else None

    async def _leave(self) -> None:
        if not self._is_kept():
            self.mailbox.close()
            self._refuse_what_is_queued()
        self.state = max(self.state, State.DRAINING)
        self._fail_what_is_under_way()
        with anyio.CancelScope(shield=True):
            self._cut()
            await self._finish_asides()
            self.state = max(self.state, State.LEAVING)
            await self._close_productions()
            await self.stop_children()
            await self._run_on_stop()
        self._end()

    def _fail_what_is_under_way(self) -> None:
        unfinished, self._turn = self._turn, None
        if unfinished is not None:
            unfinished.answer(Failure(self.stopped("stopped before it replied")))

    def stopped(self, how: str) -> ActorStopped:
        """Return the error for whoever waits for a reply that will not come."""
        error = ActorStopped(f"{self.kind} {self.path} {how}")
        error.__cause__ = self.error
        return error

    def _refuse_what_is_queued(self) -> None:
        queue = self.mailbox.queue
        while queue:
            envelope = queue.popleft()
            ask = envelope[-1]
            if ask is None:
                self.system.order(self.system.dead_letter, self.path, sent(envelope))
            elif ask not in (self._productions or ()):  # a stream under way is ended by `_close_productions`
                error = ActorNotRunning(f"actor {self.path} stopped before it handled this", sent(envelope))
                error.__cause__ = self.error
                ask.answer_from_afar(Failure(error), self.loop)

    async def _close_productions(self) -> None:
        for production in list(self._productions or ()):
            grace = self.ladder.drain
            with anyio.move_on_after(grace) as scope:
                await production.close()
            if scope.cancelled_caught:
                logger.warning("%s was cancelled in its clean-up after a grace of %s s", production, grace)

    @property
    def ladder(self) -> Ladder:
        return self.options.grace or self.system.ladder

    async def _run_on_stop(self) -> None:
        if self._on_stop is None or self.state is State.STOPPED:
            return
        grace = self.ladder.drain
        with anyio.move_on_after(grace) as scope:
            try:
                await _maybe_wait(self._on_stop())
            except BaseException as raised:
                error = self.loop.failure(raised)
                error.add_note(f"raised by on_stop of actor {self.path}")
                self.last_error = error
                self.fail(error)
        if scope.cancelled_caught:
            logger.warning("on_stop of actor %s was cancelled after its grace of %s s", self.path, grace)

    def _end(self) -> None:
        """This incarnation is over."""
        self._watch_no_more()
        if self._is_kept():
            assert self.kept_by is not None
            self.state = State.RESTARTING
            if self.kept_by.starts_again(self):
                self.mailbox.unlock()  # it may have been drained: what is sent from now on waits
            if not self._suspended:
                self.owner.order(self.kept_by.ended, self)
            self._tell_who_waits_for_rest()
        else:
            self.end_for_good()

    def end_for_good(self) -> None:
        """No incarnation will follow: refuse what is queued and tell the watchers."""
        if self.state is not State.STOPPED:  # it was not abandoned before
            self.state = State.STOPPED
            self.mailbox.lock_up()
            self._refuse_what_is_queued()
        if self.thread is None:
            self.announce()
        else:
            self.thread.release()

    def abandoned(self) -> None:
        """Give the actor up: it reacts to nothing. From any thread."""
        self.state = State.STOPPED
        self.mailbox.lock_up()
        self._refuse_what_is_queued()
        failure = Failure(ActorStopped(f"actor {self.path} was abandoned: it did not react to being cancelled"))
        asides = self._asides.asks() if self._asides is not None else ()
        for ask in {self._turn, *asides, *(self._productions or ())}:
            if ask is not None:
                ask.answer_from_afar(failure, self.loop)
        self.announce(Reason.ABANDONED)

    # Restarting

    def restart(self, started: Ask) -> None:
        """Begin another incarnation, with a new actor; what is queued is its to handle."""
        if self.state is not State.RESTARTING:
            started.answer(None)  # somebody else has stopped it meanwhile, or started it again
            return
        self.incarnation += 1
        self._be_new()
        self.mailbox.reopen()
        try:
            if self.remake is not None:
                self.remake()
        except BaseException as raised:
            error = self.loop.failure(raised)
            self.fail(error)
            started.fail(error)
            self._end()
        else:
            self.begin(started)

    def has_failed(self) -> bool:
        """Tell how this incarnation ended: because of an error, or cancelled by nobody's order; or by its own wish."""
        return self.error is not None or self._interrupted

    def leave_the_tree(self) -> None:
        """Be no child any more; on the owner's loop."""
        if self.thread is not None:
            self.thread.join()  # it has just said its last word
        self.owner.child_ended(self)

    def _reason(self) -> Reason:
        if self.error is not None:
            return Reason.FAILED
        return Reason.INTERRUPTED if self._interrupted else Reason.STOPPED

    # Looking

    def coroutine(self) -> Any:
        """Return what the cell's task runs, for its stack; None when it has no task."""
        return getattr(self._task, "coro", None) or getattr(self._task, "get_coro", lambda: None)()

    def load(self) -> int:
        """Return how much it has to do: two for each message before it or under way. A glance, from any thread."""
        messages = len(self.mailbox.queue) + len(self._asides or ()) + (self._turn is not None)
        # Only awake, it handles what it was told, is about to take what is queued, or winds up a turn.
        return 2 * messages + (not self.mailbox.idle)

    def statistics(self) -> Statistics:
        return Statistics(
            name=self.name,
            state=self.state.name.lower(),
            place=self.place,
            mailbox=len(self.mailbox.queue),
            capacity=self.mailbox.capacity,
            senders_waiting=self.mailbox.senders_waiting,
            interleaved=len(self._asides or ()),
            handled=self.handled,
            failed=self.failed,
            restarts=self.incarnation - 1,
            children=len(self.children),
            process=self.process_figures(),
        )

    def process_figures(self) -> ProcessFigures | None:
        """Return the figures of the actor's own process, if it has one."""
        return None

    def snapshot(self, words: Words) -> Tree:
        return Tree(self.name, self.kind, self.statistics(), self.last_error, self.branches(words))

    def can_look(self) -> bool:
        """Tell whether the actor lives elsewhere, where more is known of it, and can be asked; from any thread."""
        return False

    def look(self, asked: Ask, within: float) -> None:
        """Answer `asked` with the tree that is seen where the actor lives, who has so many seconds to ask around."""
        raise AssertionError(f"{self!r} lives here")


async def _maybe_wait(value: Any) -> None:
    if inspect.isawaitable(value):
        await value
