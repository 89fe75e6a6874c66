"""Values in and out: the arguments and replies of handlers as msgpack, and back by their annotations.

The signature decides what arrives. A parameter or reply that is annotated arrives as that type: dataclasses,
`msgspec.Struct`s, enums, dates, sets, tuples and so on. One without an annotation, or annotated `Any` or
`object`, arrives as plain data: dicts, lists, strings, numbers, bytes. Only local annotations are looked at: no
name of a type is taken from the data, and nothing is imported or unpickled for it.

Refs: an annotation that is an actor class or a `Ref[M]` takes a ref.

Arrays, tensors and tables travel as their bytes, whatever the annotation; they arrive read-only, because they lie in
the bytes that came (a tensor in a copy of them, for torch knows nothing read-only). Where both ends share memory, what
is large goes through it: see `Objects`.
"""

from __future__ import annotations

import inspect
import itertools
import re
import reprlib
import sys
import typing
from functools import cached_property
from threading import get_ident
from typing import Any, Protocol

import msgspec
from msgspec import UNSET
from msgspec.msgpack import Decoder, Encoder, Ext

from lightactors.annotations import RefTo, choices_of, hints_of, name_of, reply_hint, reply_of_message, wire_hint
from lightactors.buffers import NEEDS_WRITABLE, Leaf, leaf_of, takes, value_of
from lightactors.contract import Method, is_actor_class
from lightactors.errors import CannotTravel, ContractError, LightActorsError, WrongCall, WrongMessage

MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding hostile or torn bytes raises."""

LARGE = 100 * 1024
"""Bytes from which a value goes through shared memory, where there is any: less is faster with the message."""

_REF = 1
"""The msgpack extension that stands for a ref."""

_LEAF = 2
"""That for an array, with its bytes; see `buffers`."""

_OBJECT_REF = 3
"""That for an `ObjectRef`."""

_PLACED = 4
"""That for an array whose bytes are in shared memory."""

_BODY = 5
"""That for the bytes of a whole message that are in shared memory."""

_PLAIN: tuple[Any, ...] = (str, int, float, bytes, dict, list, tuple, set)
"""What a subclass of is sent as that very type: `numpy.float64`, `str` with a mark, a `defaultdict`."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Refs(Protocol):
    """How refs leave and arrive; a link has one."""

    @property
    def objects(self) -> Objects:
        """How what is large does."""
        ...

    def leave(self, value: object) -> bytes | None:
        """Return what stands for a ref; None for a value that is no ref."""
        ...

    def arrive(self, wire: bytes) -> object:
        """Return what stands in for a ref until its annotation is known."""
        ...

    def adopt(self, arrived: object, hint: Any) -> object:
        """Return the ref, as its annotation calls for it; raise TypeError if that is no annotation of a ref."""
        ...


class Content(Protocol):
    """One object that goes with a message."""

    @property
    def id(self) -> Any: ...
    @property
    def is_heavy(self) -> bool: ...
    def settle(self) -> None: ...


class Parcel(bytes):
    """The bytes of a message that refers to objects: they are kept for as long as this is, and are to go with it."""

    contents: list[Content]
    needs_memory: bool  # the bytes of some are only in shared memory; else there are only refs of objects

    @property
    def is_heavy(self) -> bool:
        """Tell whether so much is still to be copied that the loop had better not wait for it."""
        return any(content.is_heavy for content in self.contents)

    def settle(self) -> None:
        """Copy what is still to be copied; from any thread."""
        for content in self.contents:
            content.settle()


class Packed(bytes):
    """The arguments of one call inside of another one, with what has come for them: they are decoded later."""

    contents: Any


class AnyObjectRef:
    """What `lightactors.ObjectRef` is to those below it."""

    __slots__ = ()


class Arrivals:
    """Whether the message that is being decoded came with objects: looked at for each, and so no more than a slot."""

    __slots__ = ("are_here",)

    def __init__(self) -> None:
        self.are_here = False


class Objects(Protocol):
    """The object store, as a link's values meet it."""

    def place(self, leaf: Leaf) -> tuple[Any, Any] | None:
        """Put bytes into shared memory; return what goes with the message, and what stands for them in it.

        None: there is no memory that the other end shares, or no room.
        """
        ...

    def refer(self, ref: AnyObjectRef) -> tuple[Any, Any]:
        """Return what goes with the message for an `ObjectRef`, and what stands for it; raise `ObjectError`."""
        ...

    @property
    def arrivals(self) -> Arrivals: ...

    def reopen(self, parcel: Parcel | Packed) -> None:
        """Have what goes with a message, or has come with it, at hand; until `close`."""
        ...

    def close(self) -> None: ...
    def kept(self) -> Any:
        """Return all that has come, for `reopen` later."""
        ...

    def view(self, wire: Any, *, is_writable: bool) -> memoryview:
        """Return the bytes that something stands for; raise ValueError if they did not come, and `ObjectError`."""
        ...

    def ref(self, wire: Any) -> object:
        """Return the `ObjectRef` that something stands for; raise ValueError if its object did not come."""
        ...


class Codec:
    """Bytes of any value, refs included."""

    def __init__(self, refs: Refs) -> None:
        self._refs = refs
        self.arrivals = refs.objects.arrivals
        self._encode = Encoder(enc_hook=self._stand_in).encode
        self._gathered: dict[int, list[tuple[Any, bool]]] = {}  # by thread: what goes with the value it encodes

    def encode(self, value: object) -> bytes:
        """Return a value as bytes, or a `Parcel`; raise TypeError or OverflowError for what can't travel."""
        try:
            body = self._encode(value)
            if len(body) >= LARGE:
                body = self._placed(body)
        except BaseException:
            self._gathered.pop(get_ident(), None)
            raise
        if self._gathered and (contents := self._gathered.pop(get_ident(), None)):
            body = Parcel(body)
            body.contents = [content for content, _ in contents]
            body.needs_memory = any(needs_memory for _, needs_memory in contents)
        return body

    def _placed(self, body: bytes) -> bytes:
        """Return what stands for a large message: what is in it besides arrays is read from shared memory too."""
        stands_for = self._place(Leaf("bytes", (), len(body), memoryview(body)))
        return body if stands_for is None else self._encode(Ext(_BODY, self._encode(stands_for)))

    def _place(self, leaf: Leaf) -> Any:
        placed = self._refs.objects.place(leaf)
        if placed is None:
            return None
        self._gather(placed[0], needs_memory=True)
        return placed[1]

    def _gather(self, content: Any, *, needs_memory: bool) -> None:
        self._gathered.setdefault(get_ident(), []).append((content, needs_memory))

    def anew(self, parcel: Parcel) -> bytes:
        """Return an encoded message as it is to be now: where its arrays lie, not everybody may read them any more.

        The values that it was made of may have been changed since. Raises `CannotTravel`, and `ObjectLost`.
        """
        contents = {content.id: content for content in parcel.contents}
        decode = Decoder(ext_hook=lambda code, data: self._bring_back(code, data, contents)).decode
        self._refs.objects.reopen(parcel)
        try:
            return self.encode(decode(self.opened(parcel)))
        except (*MALFORMED, ValueError, TypeError) as error:
            raise CannotTravel(f"a message can't travel over another link than it was sent over: {error}") from error
        finally:
            self._refs.objects.close()

    def _bring_back(self, code: int, data: memoryview, contents: dict[Any, Content]) -> Any:
        if code == _PLACED:
            kind, facts, stands_for = _plain.decode(data)
            view = self._refs.objects.view(stands_for, is_writable=False)
            return self._stand_in_for_leaf(Leaf(kind, facts, view.nbytes, view))
        if code == _OBJECT_REF:
            first, second, _ = _plain.decode(data)
            self._gather(contents[first, second], needs_memory=False)
        return Ext(code, bytes(data))

    def opened(self, body: Any) -> Any:
        """Return the bytes of a message that came with objects: they may be in shared memory themselves."""
        came = _plain.decode(body) if memoryview(body)[0] in _EXT_MARKS else None
        if not isinstance(came, Ext) or came.code != _BODY:
            return body
        try:
            return self._refs.objects.view(_plain.decode(came.data), is_writable=False)
        except ValueError as error:
            raise msgspec.ValidationError(str(error)) from error

    def decoder(self, hint: Any, where: str) -> Decoder[Any]:
        """Return a decoder of what `hint` annotates; raise `ContractError`, naming `where`, if nothing can."""
        try:
            return Decoder(wire_hint(hint), dec_hook=self._restore, ext_hook=self._arrive)
        except TypeError as error:
            raise ContractError(
                f"{where} is annotated {name_of(hint)}, which can't be told by its bytes: {error}"
            ) from None

    def _stand_in(self, value: Any) -> object:
        if type(value) is Parcel:
            for content in value.contents:
                self._gather(content, needs_memory=value.needs_memory)
            return bytes(value)
        wire = self._refs.leave(value)
        if wire is not None:
            return Ext(_REF, wire)
        for plain in _PLAIN:
            if isinstance(value, plain):
                return plain(value)
        leaf = leaf_of(value)
        if leaf is not None:
            return self._stand_in_for_leaf(leaf)
        if isinstance(value, AnyObjectRef):
            goes_along, stands_for = self._refs.objects.refer(value)
            self._gather(goes_along, needs_memory=False)
            return Ext(_OBJECT_REF, self._encode(stands_for))
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.generic):
            return value.item()
        raise TypeError(f"no bytes stand for type {type(value).__name__}")

    def _stand_in_for_leaf(self, leaf: Leaf) -> Ext:
        stands_for = self._place(leaf) if leaf.nbytes >= LARGE else None
        if stands_for is not None:
            return Ext(_PLACED, self._encode((leaf.kind, leaf.facts, stands_for)))
        return Ext(_LEAF, self._encode((leaf.kind, leaf.facts, _bytes_of(leaf))))

    def _arrive(self, code: int, data: memoryview) -> object:
        try:
            return self._arrived(code, data)
        except LightActorsError:
            raise
        except (ValueError, TypeError, ImportError, OSError) as error:
            # Said as the decoder says what is wrong, which passes on everything else that is raised here as it is.
            raise msgspec.ValidationError(str(error)) from error

    def _arrived(self, code: int, data: memoryview) -> object:
        if code == _REF:
            return self._refs.arrive(bytes(data))
        if code == _LEAF:
            kind, facts, view = _leaf.decode(data)
            return value_of(kind, facts, memoryview(bytearray(view)) if kind in NEEDS_WRITABLE else view)
        if code == _PLACED:
            kind, facts, stands_for = _plain.decode(data)
            view = self._refs.objects.view(stands_for, is_writable=kind in NEEDS_WRITABLE)
            return value_of(kind, facts, view)
        if code == _OBJECT_REF:
            return self._refs.objects.ref(_plain.decode(data))
        return Ext(code, bytes(data))

    def _restore(self, hint: Any, value: object) -> object:
        if hint is Packed:
            packed = Packed(value)  # type: ignore[call-overload]
            packed.contents = self._refs.objects.kept()
            return packed
        if isinstance(hint, RefTo):
            return self._refs.adopt(value, hint.actor)
        wanted = typing.get_origin(hint) or hint
        if isinstance(wanted, type):
            if isinstance(value, wanted):
                return value
            if takes(wanted) and isinstance(value, AnyObjectRef):
                raise ValueError(f"a ref of an object; send await get(ref), or annotate it as ObjectRef: {value!r}")
            if hasattr(wanted, "from_plain"):
                return wanted.from_plain(value)
            if takes(wanted):
                raise ValueError(f"no array, but a {type(value).__name__}")
            if issubclass(wanted, AnyObjectRef):
                raise ValueError(f"no ref of an object, but a {type(value).__name__}; the sender is to put() it first")
        return self._refs.adopt(value, hint)


class MethodCodec:
    """The calls of one handler and its replies, or items, as bytes."""

    def __init__(self, method: Method, codec: Codec) -> None:
        self.method = method
        self._codec = codec
        self._encode = codec.encode
        self._arrivals = codec.arrivals
        parameters = method.signature.parameters.values()
        self._positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._needed = sum(p.default is p.empty for p in parameters if p.name in self._positional)
        self._decoders_by_parameter: dict[str, Decoder[Any]] = {}
        self._usual = self._positional_decoder(len(self._positional))
        self._usual_mark = _mark_of_list(len(self._positional))
        self._decoders_by_count = {len(self._positional): self._usual}

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return a call as bytes. Raises `WrongCall`, and `CannotTravel` for a value that can't leave the process."""
        method = self.method
        if kwargs or not method.least <= len(args) <= len(self._positional):
            return self._encode_by_name(args, kwargs)
        try:
            return self._encode(args)
        except (TypeError, OverflowError, ValueError, RecursionError) as error:
            if any(value is UNSET for value in args):
                return self._encode_by_name(args, kwargs)
            raise self._explain(args, kwargs, error) from None

    def _encode_by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        arguments = self._named(args, kwargs)
        try:
            # UNSET says that an argument was not given, which is what its absence says.
            return self._encode({name: value for name, value in arguments.items() if value is not UNSET})
        except (TypeError, OverflowError, ValueError, RecursionError) as error:
            raise self._explain(args, kwargs, error) from None

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if self.method.fits_by_name(args, kwargs):
            return dict(zip(self._positional, args, strict=False)) | kwargs
        self.method.check(args, kwargs)
        return self.method.signature.bind(*args, **kwargs).arguments

    def _explain(self, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> CannotTravel:
        call = self.method.call(args, kwargs)
        for name, value in self.method.signature.bind(*args, **kwargs).arguments.items():
            if (reason := self._obstacle(value)) is not None:
                return CannotTravel(f"{self.method}: argument {name!r} can't travel: {reason}", call)
        return CannotTravel(f"{self.method} can't travel: {error}", call)

    def _obstacle(self, value: object) -> str | None:
        try:
            self._encode(value)
        except (TypeError, OverflowError, ValueError, RecursionError) as error:
            return obstacle(value, error)
        return None

    def decode_call(self, body: Any) -> Arguments:
        """Return the arguments; raise `WrongCall` where they don't fit the annotations."""
        if self._arrivals.are_here:
            body = self._opened(body)
        view = memoryview(body)
        if view and view[0] == self._usual_mark:  # looked at first: to try in vain would cost more than all the rest
            try:
                return self._usual.decode(body), _NO_KEYWORDS
            except MALFORMED:
                pass  # what is wrong is told by what follows
        return self._decode_otherwise(body)

    def _opened(self, body: Any) -> Any:
        try:
            return self._codec.opened(body)
        except MALFORMED as error:
            raise WrongCall(f"{self.method}: {error}") from None

    def _decode_otherwise(self, body: Any) -> Arguments:
        try:
            raw = self._raw_arguments.decode(body)
            if isinstance(raw, dict):
                return self._by_name(raw)
            if not self._needed <= len(raw) <= len(self._positional):
                raise WrongCall(
                    f"{self.method} came with {len(raw)} arguments; is the other end's class another version?"
                )
            return self._decode_counted(raw, body), _NO_KEYWORDS
        except MALFORMED as error:
            raise WrongCall(f"{self.method}: {error}") from None

    def _decode_counted(self, raw: list[msgspec.Raw], body: Any) -> tuple[Any, ...]:
        try:
            arguments: tuple[Any, ...] = self._decoder_of(len(raw)).decode(body)
        except MALFORMED:
            return tuple(map(self._decode_argument, self._positional, raw))  # one of them complains, by its name
        return arguments

    def _decode_argument(self, name: str, value: msgspec.Raw) -> Any:
        try:
            return self._decoder_of_parameter(name).decode(value)
        except MALFORMED as error:
            raise WrongCall(
                f"{self.method}: argument {name!r} is {_shown(value)}: {_readable(error)}{self._cure(name, error)}"
            ) from None

    def _cure(self, name: str, error: Exception) -> str:
        choices = choices_of(self._hints.get(name)) if "enum value" in str(error) else ()
        return f"; choose from {', '.join(map(repr, choices))}" if choices else ""

    def _by_name(self, raw: dict[str, msgspec.Raw]) -> Arguments:
        arguments = {name: self._decode_argument(name, value) for name, value in raw.items()}
        if self.method.fits_by_name((), arguments):
            return self._split(arguments)
        bound = inspect.BoundArguments(self.method.signature, arguments)
        args, kwargs = bound.args, bound.kwargs
        self.method.check(args, kwargs)
        return args, kwargs

    def _split(self, arguments: dict[str, Any]) -> Arguments:
        """Return what can be given by position so, and the rest by name."""
        given = list(itertools.takewhile(arguments.__contains__, self._positional))
        return tuple(map(arguments.pop, given)), arguments

    @cached_property
    def _raw_arguments(self) -> Decoder[dict[str, msgspec.Raw] | list[msgspec.Raw]]:
        return Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw])

    def _decoder_of(self, count: int) -> Decoder[Any]:
        if count not in self._decoders_by_count:
            self._decoders_by_count[count] = self._positional_decoder(count)
        return self._decoders_by_count[count]

    def _positional_decoder(self, count: int) -> Decoder[Any]:
        hints = tuple(wire_hint(self._hints.get(name, Any)) for name in self._positional[:count])
        for name in self._positional[:count]:
            self._decoder_of_parameter(name)  # complains with the parameter's name
        return self._codec.decoder(tuple[hints] if hints else tuple[()], str(self.method))  # type: ignore[valid-type]

    def _decoder_of_parameter(self, name: str) -> Decoder[Any]:
        decoder = self._decoders_by_parameter.get(name)
        if decoder is None:
            decoder = self._decoders_by_parameter[name] = self._new_decoder_of_parameter(name)
        return decoder

    def _new_decoder_of_parameter(self, name: str) -> Decoder[Any]:
        parameter = self.method.signature.parameters.get(name)
        if parameter is None:
            raise WrongCall(f"{self.method} has no parameter {name!r}; is the other end's class another version?")
        hint = self._hints.get(name, Any)
        if parameter.kind is parameter.VAR_POSITIONAL:
            hint = list[hint]  # type: ignore[valid-type]
        elif parameter.kind is parameter.VAR_KEYWORD:
            hint = dict[str, hint]  # type: ignore[valid-type]
        return self._codec.decoder(hint, f"parameter {name!r} of {self.method}")

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return hints_of(self.method)

    # Replies

    def encode_reply(self, value: object) -> bytes:
        """Return a reply, or an item of a stream, as bytes; raise `CannotTravel`."""
        try:
            return self._encode(value)
        except (TypeError, OverflowError, ValueError, RecursionError) as error:
            raise CannotTravel(f"the reply of {self.method} can't travel: {obstacle(value, error)}") from None

    def decode_reply(self, body: Any) -> Any:
        """Return the reply; raise `CannotTravel` where it is not what the handler's annotation says."""
        try:
            return self._reply.decode(self._codec.opened(body) if self._arrivals.are_here else body)
        except MALFORMED as error:
            raise CannotTravel(f"the reply of {self.method} is not what its annotation says: {error}") from None

    @cached_property
    def _reply(self) -> Decoder[Any]:
        return self._codec.decoder(reply_hint(self._hints.get("return", Any)), f"the reply of {self.method}")


class MessageCodec:
    """The messages of a behaviour and their replies as bytes.

    A message carries the name of its class, which is looked up among the classes that the receiver's own
    annotation lists. Where that lists none, plain data arrives.
    """

    def __init__(self, name: str, messages: tuple[type[Any], ...], codec: Codec) -> None:
        self.name = name
        self._codec = codec
        self._arrivals = codec.arrivals
        self._envelope = Decoder(tuple[str, msgspec.Raw])
        self._class_by_name = {cls.__qualname__: cls for cls in messages}
        if len(self._class_by_name) < len(messages):
            raise ContractError(f"two messages of {name} have the same name; rename one, so that bytes can tell them")
        self._decoders: dict[Any, Decoder[Any]] = {}

    def encode(self, message: object) -> bytes:
        """Return a message as bytes; raise `CannotTravel`."""
        tag = next((name for name, cls in self._class_by_name.items() if isinstance(message, cls)), "")
        try:
            return self._codec.encode((tag, message))
        except (TypeError, OverflowError, ValueError, RecursionError) as error:
            raise CannotTravel(f"{self.name}: a message can't travel: {obstacle(message, error)}", message) from None

    def decode(self, body: Any) -> Any:
        """Return the message; raise `WrongMessage` for one that the behaviour does not take."""
        try:
            tag, raw = self._envelope.decode(self._codec.opened(body) if self._arrivals.are_here else body)
            cls = self._class_by_name.get(tag)
            if cls is None and self._class_by_name:
                raise WrongMessage(
                    f"{self.name} takes {' | '.join(self._class_by_name)}, got a {tag or 'nameless one'}"
                )
            return self._decoder(Any if cls is None else cls).decode(raw)
        except MALFORMED as error:
            raise WrongMessage(f"{self.name}: {error}") from None

    def encode_reply(self, value: object) -> bytes:
        """Return a reply as bytes; raise `CannotTravel`."""
        try:
            return self._codec.encode(value)
        except (TypeError, OverflowError, ValueError, RecursionError) as error:
            raise CannotTravel(f"a reply of {self.name} can't travel: {obstacle(value, error)}") from None

    def decode_reply(self, message: type[Any], body: Any) -> Any:
        """Return the reply to a message of that class."""
        try:
            decode = self._decoder(reply_of_message(message)).decode
            return decode(self._codec.opened(body) if self._arrivals.are_here else body)
        except MALFORMED as error:
            raise CannotTravel(f"the reply of {self.name} to a {message.__name__} is no such thing: {error}") from None

    def _decoder(self, hint: Any) -> Decoder[Any]:
        if hint not in self._decoders:
            self._decoders[hint] = self._codec.decoder(hint, f"a message or reply of {self.name}")
        return self._decoders[hint]


def _mark_of_list(count: int) -> int:
    """Return the first byte of a msgpack list of so many."""
    return 0x90 | count if count < 16 else 0xDC


_NO_KEYWORDS: dict[str, Any] = {}
"""The keywords of a call that has none; nobody writes into it."""


def obstacle(value: object, error: Exception) -> str:
    """Say why a value can't travel, and what to do about it."""
    if isinstance(error, OverflowError):
        return f"{error}; send an int of more than 64 bits as a str"
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    if is_actor_class(type(value)):
        return f"{type(value).__name__} is an actor; send its ref, from spawn() or ref_of(self)"
    cure = "use a dataclass, a msgspec.Struct or plain data"
    return f"{error}; {cure}"


def _readable(error: Exception) -> str:
    """Return what a decoder complains of, without its own way to say where."""
    return re.sub(r" - at `\$`$", "", str(error))


def _shown(value: msgspec.Raw) -> str:
    try:
        return reprlib.repr(_plain.decode(value))
    except MALFORMED:
        return "no value"


_plain = Decoder()
_EXT_MARKS = frozenset((0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8))
"""The first bytes of msgpack's extensions."""

_leaf = Decoder(tuple[str, Any, memoryview])


def _bytes_of(leaf: Leaf) -> memoryview | bytearray:
    if leaf.write is None:
        assert leaf.buffer is not None
        return leaf.buffer
    data = bytearray(leaf.nbytes)
    leaf.write(memoryview(data))
    return data
