"""A branch of the tree on its way: plain data, whatever the actors in it are."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.msgpack import Decoder, Encoder

from lightactors.actors.tree import Seen, Statistics, Tree
from lightactors.codec import MALFORMED
from lightactors.errors import CannotTravel
from lightactors.remote import failures
from lightactors.remote.failures import WireError

_DEPTH = 100
"""Generations that travel: what is further down is left out, and a branch that has more made no sense."""


class _Branch(msgspec.Struct, array_like=True):
    name: str
    kind: str
    statistics: Statistics | None
    last_error: WireError | None
    children: list[_Branch]
    seen: Seen


_encoder = Encoder()
_decoder = Decoder(_Branch)


def encode(tree: Tree) -> bytes:
    """Return an actor's branch as bytes; raise `CannotTravel`."""
    try:
        return _encoder.encode(_branch(tree, _DEPTH))
    except (ValueError, OverflowError) as error:  # names that are no Unicode, numbers without end
        raise CannotTravel(f"the survey of {tree.name!r} can't be told in bytes: {error}") from None


def _branch(tree: Tree, depth: int) -> _Branch:
    error = None if tree.last_error is None else failures.brief(tree.last_error)
    children = [_branch(child, depth - 1) for child in tree.children] if depth else []
    return _Branch(tree.name, tree.kind, tree.statistics, error, children, tree.seen)


def decode(body: Any, known: type[Any] | None) -> Tree:
    """Return the branch that came; raise `CannotTravel`."""
    try:
        return _tree(_decoder.decode(body), known, _DEPTH)
    except (*MALFORMED, ValueError) as error:
        raise CannotTravel(f"a survey came, but not in one piece: {error}") from None


def _tree(branch: _Branch, known: type[Any] | None, depth: int) -> Tree:
    if depth < 0:
        raise ValueError(f"it has more than {_DEPTH} generations")
    error = None if branch.last_error is None else failures.rebuilt(branch.last_error, known)
    children = [_tree(child, known, depth - 1) for child in branch.children]
    return Tree(branch.name, branch.kind, branch.statistics, error, children, branch.seen)
