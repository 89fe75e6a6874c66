"""An object that another host has, and lends to this one over a link."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightactors.objects.records import Id
    from lightactors.remote.link import Link


ELSEWHERE = 1 << 63
"""In the first number of an object's id: it came from another host. No object that was put here has it."""


class Lent:
    """An object at the other end of a link, which keeps it for as long as somebody here has this.

    `id` is what it goes by here, and `lent_as` there.
    """

    __slots__ = ("__weakref__", "id", "lent_as", "link")

    def __init__(self, link: Link, id: Id, lent_as: Id, let_go: Callable[[Link, Id], object]) -> None:
        self.link = link
        self.id = id
        self.lent_as = lent_as
        # Without `atexit`: when the program ends, its links have.
        weakref.finalize(self, partial(let_go, link, lent_as)).atexit = False
