"""Errors as `google.rpc.Status`: a code, a text, an ErrorInfo whose reason is the class, and which fields were bad."""

from __future__ import annotations

from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lightactors import errors
from lightactors.errors import text_of
from lightactors.services.calls import BadReply, BadRequest

DOMAIN = "lightactors"

_TEXT = 800
"""Bytes of a text that travel: all of a status has to fit, twice, into the headers that clients take, 8 KiB."""

_ALL = 3000
"""Bytes that a status may have."""

CODES: dict[type[BaseException], int] = {
    BadRequest: code_pb2.INVALID_ARGUMENT,
    errors.WrongCall: code_pb2.INVALID_ARGUMENT,
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.Conflict: code_pb2.ALREADY_EXISTS,
    errors.StoreError: code_pb2.FAILED_PRECONDITION,
    errors.AskCycle: code_pb2.FAILED_PRECONDITION,
    errors.AccessDenied: code_pb2.PERMISSION_DENIED,
    errors.MailboxFull: code_pb2.RESOURCE_EXHAUSTED,
    errors.ActorNotRunning: code_pb2.UNAVAILABLE,
    errors.ActorStopped: code_pb2.UNAVAILABLE,
    errors.LinkLost: code_pb2.UNAVAILABLE,
    errors.ProcessDied: code_pb2.UNAVAILABLE,
    TimeoutError: code_pb2.DEADLINE_EXCEEDED,
    NotImplementedError: code_pb2.UNIMPLEMENTED,
}
"""The code of each error; of any other it is INTERNAL."""


_OURS: dict[type[BaseException], type[BaseException]] = {
    BadRequest: errors.WrongCall,
    BadReply: errors.CannotTravel,
}


class TooLarge(Exception):
    """A request or a reply above the limit."""


CODES[TooLarge] = code_pb2.RESOURCE_EXHAUSTED


def status_of(error: BaseException, method: str) -> status_pb2.Status:
    """Return an error as other languages get it: without its traceback."""
    status = status_pb2.Status(code=_code(error), message=_message(error))
    info = error_details_pb2.ErrorInfo(reason=_reason(error), domain=DOMAIN, metadata={"method": method})
    status.details.append(_packed(info))
    if isinstance(error, BadRequest) and error.misfits:
        status.details.append(_packed(_violations(error, _ALL - status.ByteSize())))
    return status


def _violations(error: BadRequest, room: int) -> error_details_pb2.BadRequest:
    """Return what was wrong with which field, as much of it as there is room for."""
    bad = error_details_pb2.BadRequest()
    for misfit in error.misfits:
        bad.field_violations.add(field=_cut(misfit.field), description=_cut(misfit.text))
        if bad.ByteSize() > room:
            del bad.field_violations[-1]
            break
    return bad


def _code(error: BaseException) -> int:
    return next((CODES[cls] for cls in type(error).__mro__ if cls in CODES), code_pb2.INTERNAL)


def _message(error: BaseException) -> str:
    text = text_of(error)
    known = _code(error) != code_pb2.INTERNAL or isinstance(error, errors.LightActorsError | BadReply)
    return _cut(text if known else f"{type(error).__name__}: {text}")


def _cut(text: str) -> str:
    """Return a text that may travel: Unicode, and not too much of it."""
    encoded = text.encode(errors="replace")
    return encoded.decode() if len(encoded) <= _TEXT else f"{encoded[:_TEXT].decode(errors='ignore')}…"


def _reason(error: BaseException) -> str:
    if isinstance(error, errors.ActorFailed):
        return error.kind.rpartition(".")[2]
    return _OURS.get(type(error), type(error)).__name__


def _packed(detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
