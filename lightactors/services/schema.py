"""A contract as a proto file: what other languages see of an actor, read off the annotations of its handlers.

What is absent takes Python's default; where None is another thing than absence, a second field `x_null` says it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, TypeVar

from lightactors.annotations import hints_of, reply_hint
from lightactors.contract import Behaviour, Contract, Kind, Method, contract_of, is_actor_class
from lightactors.errors import ContractError
from lightactors.services.fields import Fields
from lightactors.services.hints import REQUIRED, Part, doc_of, unwrap
from lightactors.services.model import Enumeration, File, Mapped, Message, Repeated, Rpc, Shape, Type, WellKnown
from lightactors.services.names import LINK_PROTO, OURS, camel, checked, package_of
from lightactors.services.numbers import Numbers, number

Named = TypeVar("Named", Message, Enumeration)

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def file_of(
    actor: Any, *, service: str | None = None, package: str | None = None, numbers: Numbers | None = None
) -> File:
    """Return an actor class as a proto file, numbered in the order of declaration, or as `numbers` has it.

    Raises `ContractError`, naming the method and the parameter, for what no other language could say.
    """
    if isinstance(actor, Behaviour):
        raise ContractError(f"{actor.name} is a behaviour; only an actor class can be served to other languages")
    contract = served_contract(contract_of(actor))
    file = _Reader(contract, service or contract.name, package or package_of(contract.actor)).file()
    number(file, numbers or Numbers())
    return file


def served_contract(contract: Contract) -> Contract:
    """Return the contract of the widest base that has the same handlers: that of `Store` for any engine of it."""
    bases = [contract_of(base) for base in reversed(contract.actor.__mro__) if is_actor_class(base)]
    return next(base for base in bases if _signatures(base) == _signatures(contract))


def _signatures(contract: Contract) -> dict[str, inspect.Signature]:
    return {name: method.signature for name, method in contract.methods.items()}


class _Reader:
    """Reads one contract."""

    def __init__(self, contract: Contract, service: str, package: str) -> None:
        self._contract = contract
        self._service = service
        self._package = package
        self._hints = {name: hints_of(method) for name, method in contract.methods.items()}
        self._methods = [method for method in _in_order(contract) if not self._is_python_only(method)]
        taken = {camel(method.name) + end for method in self._methods for end in ("Request", "Response")} | {service}
        self._fields = Fields(taken | LINK_PROTO if package == OURS else taken)

    def _is_python_only(self, method: Method) -> bool:
        """Tell whether a method needs an argument that is for Python only."""
        return any(part.default is REQUIRED and unwrap(part.hint).is_python_only for part in self._parts(method))

    def _parts(self, method: Method) -> list[Part]:
        parts = []
        for parameter in method.signature.parameters.values():
            hint = self._hints[method.name].get(parameter.name, Any)
            if parameter.kind in _VARIADIC and not unwrap(hint).is_python_only:
                raise ContractError(
                    f"{method} takes {parameter}, which a message has no field for; name the parameters, "
                    "or leave them to Python with PythonOnly[...]"
                )
            default = REQUIRED if parameter.default is parameter.empty else parameter.default
            if parameter.kind not in _VARIADIC:
                parts.append(Part(parameter.name, hint, default))
        return parts

    def file(self) -> File:
        rpcs = [self._rpc(method) for method in self._methods]
        if not rpcs:
            raise ContractError(f"{self._contract.name} has no handler that another language could call; add one")
        self._fields.add_variants()
        types = list(_types_of(rpcs))
        return File(
            package=self._package,
            service=checked(self._service, "service"),
            source=f"{self._contract.actor.__module__}.{self._contract.actor.__qualname__}",
            doc=doc_of(self._contract.actor),
            rpcs=rpcs,
            messages=_once(one for one in types if isinstance(one, Message)),
            enums=_once(one for one in types if isinstance(one, Enumeration)),
            imports=sorted({one.file for one in types if isinstance(one, WellKnown)}),
        )

    def _rpc(self, method: Method) -> Rpc:
        name = camel(checked(method.name, str(method)))
        module = method.function.__module__
        request = Message(f"{name}Request", "", Shape.REQUEST)
        response = Message(f"{name}Response", "", Shape.RESPONSE)
        for part in self._parts(method):
            if not unwrap(part.hint).is_python_only:
                request.fields.append(self._fields.field(part, f"parameter {part.name!r} of {method}", module))
        hint = reply_hint(self._hints[method.name].get("return", Any))
        if unwrap(hint).inner not in (None, type(None)):
            part = Part("value", hint, REQUIRED)
            response.fields.append(self._fields.field(part, f"the reply of {method}", module))
            response.fields[0].comment = ""
        return Rpc(name, method.function.__doc__ or "", method, request, response, method.kind is Kind.STREAM)


def _in_order(contract: Contract) -> list[Method]:
    """Return the methods in the order in which the classes declare them, the base's first."""
    declared = [name for cls in reversed(contract.actor.__mro__) for name in vars(cls)]
    return sorted(contract.methods.values(), key=lambda method: declared.index(method.name))


def _types_of(rpcs: list[Rpc]) -> Iterator[Type]:
    """Yield every type that the methods need, each once, in the order in which a reader meets them."""
    seen: set[int] = set()
    waiting: list[Type] = []
    for rpc in rpcs:
        waiting += [rpc.request, rpc.response]
    while waiting:
        kind = waiting.pop(0)
        if isinstance(kind, Repeated):
            waiting.append(kind.item)
        elif isinstance(kind, Mapped):
            waiting += [kind.key, kind.value]
        elif id(kind) not in seen:
            seen.add(id(kind))
            yield kind
            if isinstance(kind, Message):
                waiting += [field.type for field in kind.on_wire()]


def _once(named: Iterator[Named]) -> list[Named]:
    """Return them without those made up twice, which look the same to other languages."""
    return list({one.name: one for one in reversed(list(named))}.values())[::-1]
