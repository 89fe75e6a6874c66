"""The numbers of fields: in the order of declaration at first, kept ever after.

A `.proto` that was written before is the record of them: what it has keeps its number, what is new gets the next
one, and what is gone leaves its number and its name reserved, so that no client of old is ever misread.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lightactors.errors import ContractError
from lightactors.services.model import Enumeration, Field, File, Message, Reserved, type_text


@dataclass
class Block:
    """What one message or enum of a proto file has: name → type and number."""

    fields: dict[str, tuple[str, int]] = field(default_factory=dict)
    reserved: Reserved = field(default_factory=Reserved)

    def next(self) -> int:
        taken = [number for _, number in self.fields.values()]
        return max([0, *taken, *self.reserved.numbers]) + 1


@dataclass
class Numbers:
    """The numbers that an earlier proto file gave."""

    blocks: dict[str, Block] = field(default_factory=dict)
    source: str = ""
    package: str | None = None
    service: str | None = None
    force: bool = False  # let a type change; the field then gets a new number


# Reading

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(r'"[^"]*"|[\w.]+|\S')


def numbers_in(text: str, source: str, *, force: bool = False) -> Numbers:
    """Read a proto file's numbers; raise `ContractError` for what is no file as protogen writes them."""
    numbers = Numbers(source=source, force=force)
    tokens = _Tokens(_TOKEN.findall(_COMMENT.sub(" ", text)), source)
    for kind in tokens:
        if kind in ("message", "enum"):
            name = tokens.take()
            tokens.expect("{")
            numbers.blocks[name] = _block(tokens)
        elif kind == "service":
            numbers.service = tokens.take()
            tokens.skip_block()
        elif kind == "package":
            numbers.package = tokens.take()
            tokens.expect(";")
        elif kind != ";":
            tokens.until(";")
    return numbers


class _Tokens:
    """The words of a proto file."""

    def __init__(self, words: list[str], source: str) -> None:
        self._words = iter(words)
        self._source = source

    def __iter__(self) -> Iterator[str]:
        return self._words

    def take(self) -> str:
        word = next(self._words, None)
        if word is None:
            raise ContractError(f"{self._source} ends in the middle; is it a proto file that protogen wrote?")
        return word

    def expect(self, word: str) -> None:
        if (found := self.take()) != word:
            raise ContractError(f"{self._source}: {found!r} where {word!r} should be; did protogen write it?")

    def until(self, end: str) -> list[str]:
        words = []
        while (word := self.take()) != end:
            words.append(word)
        return words

    def skip_block(self) -> None:
        self.until("{")
        depth = 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self.take(), 0)

    def number(self, word: str) -> int:
        if not word.isdigit():
            raise ContractError(f"{self._source}: {word!r} is no number of a field; did protogen write it?")
        return int(word)


def _block(tokens: _Tokens) -> Block:
    block = Block()
    inside_oneof = False
    while (word := tokens.take()) != "}" or inside_oneof:
        if word == "}":
            inside_oneof = False
        elif word == "oneof":
            tokens.until("{")
            inside_oneof = True
        elif word == "reserved":
            _note_reserved(block.reserved, tokens)
        elif word not in (";", "option"):
            _note_field(block, [word, *tokens.until(";")], tokens)
        elif word == "option":
            tokens.until(";")
    return block


def _note_reserved(reserved: Reserved, tokens: _Tokens) -> None:
    words = [word for word in tokens.until(";") if word != ","]
    for place, word in enumerate(words):
        if word.startswith('"'):
            reserved.names.add(word.strip('"'))
        elif word == "to":
            reserved.numbers.update(range(tokens.number(words[place - 1]), tokens.number(words[place + 1]) + 1))
        else:
            reserved.numbers.add(tokens.number(word))


def _note_field(block: Block, words: list[str], tokens: _Tokens) -> None:
    if "=" not in words or words.index("=") + 1 >= len(words):
        tokens.expect("= and a number")
    at = words.index("=")
    kind = " ".join(word for word in words[: at - 1] if word != "optional")
    kind = re.sub(r" ?([<>,]) ?", r"\1", kind).replace(",", ", ")
    block.fields[words[at - 1]] = kind, tokens.number(words[at + 1])


# Giving


def number(file: File, before: Numbers) -> None:
    """Give every field and every member of an enum its number; raise `ContractError` where a type has changed."""
    changed: list[str] = []
    for message in file.messages:
        block = before.blocks.get(message.name, Block())
        changed += _number_message(message, block, before.force)
    for enum in file.enums:
        _number_enum(enum, before.blocks.get(enum.name, Block()))
    if changed:
        raise ContractError(
            f"{before.source} and {file.source} differ in {'; '.join(changed)}: clients built before would misread "
            "it; give the new one another name, or pass force (--force) to give it another number"
        )


def _number_message(message: Message, block: Block, force: bool) -> list[str]:
    changed = []
    fields = list(message.on_wire())
    for one in fields:
        kind, found = block.fields.get(one.name, (type_text(one.type), one.number))
        is_pinned_elsewhere = one.number not in (0, found)
        if kind == type_text(one.type) and not is_pinned_elsewhere:
            one.number = found
        elif force:
            block.reserved.numbers.add(found)
        elif is_pinned_elsewhere:
            changed.append(f"{message.name}.{one.name}, whose number was {found} and is {one.number}")
        else:
            changed.append(f"{message.name}.{one.name}, which was {kind} and is {type_text(one.type)}")
    message.reserved = _left_behind(block, {one.name for one in fields})
    _number_the_new(fields, block)
    _refuse_twice(message)
    return changed


def _refuse_twice(message: Message) -> None:
    by_number: dict[int, str] = {}
    for one in message.on_wire():
        other = by_number.setdefault(one.number, one.name)
        if other != one.name or one.number in message.reserved.numbers:
            raise ContractError(
                f"{message.name}.{one.name} can't have the number {one.number}: it is taken; choose another FieldNumber"
            )


def _number_enum(enum: Enumeration, block: Block) -> None:
    for member in enum.members:
        member.number = block.fields.get(member.name, ("", 0))[1]
    enum.reserved = _left_behind(block, {member.name for member in enum.members})
    following = block.next()
    for member in enum.members[1:]:
        if not member.number:
            member.number, following = following, following + 1


def _left_behind(block: Block, names: set[str]) -> Reserved:
    gone = {name: number for name, (_, number) in block.fields.items() if name not in names}
    return Reserved(block.reserved.numbers | set(gone.values()), (block.reserved.names | set(gone)) - names)


def _number_the_new(fields: list[Field], block: Block) -> None:
    taken = {one.number for one in fields}
    following = (number for number in itertools.count(block.next()) if number not in taken)
    for one in fields:
        one.number = one.number or next(following)
