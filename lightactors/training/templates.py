"""How a prompt template becomes text: one function for each engine."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from lightactors.errors import InvalidArgument


def render(engine: str, template: str, values: Mapping[str, Any]) -> str:
    """Fill the template in; raise `InvalidArgument` for an engine unknown or a value that is missing."""
    if engine not in ENGINES:
        raise InvalidArgument(f"engine is {engine!r}; use one of {', '.join(map(repr, ENGINES))}")
    return ENGINES[engine](template, values)


def _f_string(template: str, values: Mapping[str, Any]) -> str:
    try:
        return template.format_map(values)
    except KeyError as error:
        raise _missing(str(error), values) from None
    except (ValueError, IndexError, AttributeError) as error:
        raise InvalidArgument(
            f"the template {template!r} can't be filled: {error}; write {{{{ and }}}} for braces"
        ) from None


def _jinja(template: str, values: Mapping[str, Any]) -> str:
    jinja2 = _load("jinja2", "pip install 'lightactors[templates]'")
    sandbox = _load("jinja2.sandbox", "pip install 'lightactors[templates]'")
    # Templates are often written by a model that optimises them, so they run in the sandbox.
    environment = sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined)
    try:
        return str(environment.from_string(template).render(values))
    except jinja2.UndefinedError as error:
        raise _missing(str(error).removesuffix(" is undefined"), values) from None


def _poml(template: str, values: Mapping[str, Any]) -> str:
    poml = _load("poml", "pip install poml")
    return str(poml.poml(template, context=dict(values), chat=False, format="raw"))


ENGINES: Mapping[str, Callable[[str, Mapping[str, Any]], str]] = {"jinja": _jinja, "f-string": _f_string, "poml": _poml}


def _load(module: str, cure: str) -> Any:
    # Imported on first use: most programs never render this kind of template.
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"this template needs the package {module.partition('.')[0]}: {cure}") from error


def _missing(what: str, values: Mapping[str, Any]) -> InvalidArgument:
    return InvalidArgument(f"the template has no value for {what}; it was given {', '.join(values) or 'none'}")
