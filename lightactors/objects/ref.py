"""The ref of an object: what `put` gives and `get` takes, and what travels in messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from lightactors.actors.tree import size as in_words
from lightactors.buffers import OutOfReach
from lightactors.codec import AnyObjectRef
from lightactors.errors import ObjectReleased
from lightactors.objects.client import Held
from lightactors.objects.lent import Lent
from lightactors.objects.records import Id, text_of

T_co = TypeVar("T_co", covariant=True)


class ObjectRef(AnyObjectRef, Generic[T_co]):
    """A value in the object store, for as long as anybody holds a ref of it, here or in another process.

    `put` makes one; `get` returns the value. It travels in messages and in what an actor is spawned with.
    """

    __slots__ = ("_held", "id", "size")

    def __init__(self, held: Held | Lent, id: Id, size: int) -> None:
        self._held: Held | Lent | None = held
        self.id = id
        self.size = size
        """Bytes that the object takes."""

    @property
    def held(self) -> Held | Lent:
        """Return what holds the object here; raise `ObjectReleased`."""
        if self._held is None:
            raise ObjectReleased(f"{self!r} was released; put the value again, or release its ref later")
        return self._held

    def came_nearer(self, held: Held) -> None:
        """Hear that the object is on this host now."""
        if self._held is not None:
            self._held = held

    def let_go(self) -> None:
        """See `release`."""
        self._held = None

    @property
    def is_released(self) -> bool:
        return self._held is None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectRef) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __copy__(self) -> ObjectRef[T_co]:
        return self

    def __deepcopy__(self, memo: object) -> ObjectRef[T_co]:
        return self

    def __reduce__(self) -> NoReturn:
        raise OutOfReach(
            f"{self!r} can't be pickled, nor put into another object: nobody would know that it is held; send it in a "
            "message, or pass it to spawn()"
        )

    if not TYPE_CHECKING:  # which knows what there is, and tells it better

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"{self!r} has no {name!r}; it is a ref, and `await get(ref)` returns the value")

    def __repr__(self) -> str:
        state = (
            "released" if self._held is None else "elsewhere" if isinstance(self._held, Lent) else in_words(self.size)
        )
        return f"<object {text_of(self.id)} {state}>"
