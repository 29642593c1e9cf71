"""The type of a task's payload, from the annotation of its function.

msgspec decodes and checks in one pass, by a decoder that is compiled once for each task. An
annotation with a model, a field or a type of pydantic is left to pydantic. An annotation that only
asks for an object or an array, as ``dict`` does, costs a look at the first byte, at any length.

A POST checks the payload, so nothing is queued that does not fit. An attempt decodes it: a job may
have waited for a task that has changed since.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn, get_args, get_type_hints

import msgspec
from headway.core.body import Body
from headway.core.errors import InvalidPayloadError
from headway.core.faults import few, is_short
from headway.core.misfits import is_typed_dict, line, misfit_of, misfits
from msgspec import inspect

# The member of a submission that faults begin with.
PLACE = "payload"
# Misfits of pydantic above which they are only counted: each is an object.
LISTED_MOST = 1000
PYDANTIC = frozenset({"pydantic", "pydantic_core", "annotated_types"})
# By the first byte of a JSON value, as msgspec names its type.
NAMES = {b"{": "object", b"[": "array", b'"': "str", b"n": "null", b"t": "bool", b"f": "bool"}

Misfits = list[tuple[str, str]]

_decode_any = msgspec.json.Decoder().decode
_space = re.compile(rb"[ \t\r\n]*+").match


class PayloadType:
    """The type of a task's payload.

    ``schema`` is its JSON Schema, draft 2020-12. ``decode`` raises if a payload does not fit, and
    ``faults_of`` finds the places. If ``firsts`` is not empty, a payload fits that begins with one
    of these bytes.
    """

    __slots__ = ("_decode", "_faults_of", "firsts", "schema")

    def __init__(
        self,
        schema: dict[str, Any],
        decode: Callable[[bytes], object],
        faults_of: Callable[[bytes, BaseException], Misfits],
        firsts: bytes = b"",
    ) -> None:
        self.schema = schema
        self.firsts = firsts
        self._decode = decode
        self._faults_of = faults_of

    def check(self, payload: bytes | msgspec.Raw) -> None:
        """Raise InvalidPayloadError, with the place of each fault, if a payload of JSON does not fit."""
        if not self.firsts:
            self.decode(payload)
        elif memoryview(payload)[0] not in self.firsts and (begin := _begin(payload)) not in self.firsts:
            allowed = " | ".join(NAMES[b"%c" % first] for first in self.firsts)
            fault = f"Expected `{allowed}`, got `{NAMES.get(begin, 'number')}`"
            raise InvalidPayloadError([(PLACE, fault)])

    def decode(self, payload: bytes | msgspec.Raw) -> object:
        """Return ``payload`` as the annotated type. Raises as ``check`` does."""
        try:
            return self._decode(payload)
        except BaseException as error:  # noqa: BLE001 — a validator of the user's may raise anything
            raise InvalidPayloadError(self._faults_of(bytes(payload), error)) from None


def _no_json(_: bytes | msgspec.Raw) -> NoReturn:
    raise ValueError


# The type of a task that takes content as it is, and no JSON.
BODY = PayloadType(
    {"$comment": "content of any media type: POST /tasks/{name}/jobs"},
    _no_json,
    lambda *_: [(PLACE, "this task takes content as it is: POST it to /tasks/{name}/jobs")],
)


def payload_type(annotation: Any) -> PayloadType | None:
    """Return the type that ``annotation`` means, None if it allows anything.

    Raises TypeError, with one line, if JSON cannot be checked against it.
    """
    if annotation is Body:
        return BODY
    try:
        if _is_pydantic(annotation):
            return _of_pydantic(annotation)
        firsts = _firsts(inspect.type_info(annotation))
        if firsts is None:
            return None
        schema = _plain(msgspec.json.schema(annotation, schema_hook=_schema_of))
        decoder = msgspec.json.Decoder(annotation)
    except Exception as error:
        raise TypeError(line((str(error) or type(error).__name__).splitlines()[0])) from error

    def faults_of(payload: bytes, error: BaseException) -> Misfits:
        found: Misfits = []
        if isinstance(error, msgspec.ValidationError) and is_short(payload):
            found = _all_faults(payload, annotation)
        return found or [misfit_of(error, PLACE)]

    return PayloadType(schema, decoder.decode, faults_of, firsts)


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema as JSON has it: a default may be of any type."""
    plain: dict[str, Any] = _decode_any(msgspec.json.encode(schema))
    return plain


def _begin(payload: bytes | msgspec.Raw) -> bytes:
    """Return the first byte of a JSON value."""
    view = memoryview(payload)
    space = _space(view)
    at = space.end() if space else 0
    return bytes(view[at : at + 1])


def _firsts(info: inspect.Type) -> bytes | None:
    """Return the first bytes of all values of a type that says no more than these do.

    Empty for a type that says more, None for one that allows anything.
    """
    if isinstance(info, inspect.Metadata):
        return _firsts(info.type)
    if isinstance(info, inspect.UnionType):
        options = [_firsts(option) for option in info.types]
        known = [option for option in options if option is not None]
        return None if len(known) < len(options) else b"".join(known) if all(known) else b""
    if isinstance(info, inspect.NoneType):
        return b"n"
    if isinstance(info, inspect.ListType):
        return b"[" if _firsts(info.item_type) is None and info == inspect.ListType(info.item_type) else b""
    if isinstance(info, inspect.DictType):
        named = info.key_type in (inspect.AnyType(), inspect.StrType())
        every = _firsts(info.value_type) is None and info == inspect.DictType(info.key_type, info.value_type)
        return b"{" if named and every else b""
    is_any = isinstance(info, inspect.AnyType) or (isinstance(info, inspect.CustomType) and info.cls is object)
    return None if is_any else b""


def _schema_of(kind: type) -> dict[str, Any]:
    """Return the schema of a type that msgspec does not know."""
    if kind is object:
        # Not empty, which would stand for no schema.
        return {"$comment": "any value"}
    if _is_pydantic(kind):
        raise TypeError(f"{kind.__qualname__} of pydantic is in a type of msgspec: use one of the two for both")
    raise TypeError(f"JSON cannot be decoded as {kind.__module__}.{kind.__qualname__}")


def _all_faults(payload: bytes, annotation: Any) -> Misfits:
    try:
        return few(misfits(_decode_any(payload), annotation, PLACE))
    except BaseException:  # noqa: BLE001 — too deep, or an annotation that cannot be followed: the first fault is enough
        return []


# pydantic. It is imported only where a task module has imported it.


def _is_pydantic(kind: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether pydantic has to check ``kind``: it is, or is made of, anything of pydantic."""
    if "pydantic" not in sys.modules:
        return False
    if not isinstance(kind, type):
        if type(kind).__module__.partition(".")[0] in PYDANTIC:
            # The metadata of an Annotated.
            return True
        named = getattr(kind, "__supertype__", None) or getattr(kind, "__value__", None)
        return any(_is_pydantic(part, seen) for part in (named, *get_args(kind)) if part is not None)
    if kind.__module__.partition(".")[0] in PYDANTIC or hasattr(kind, "__pydantic_validator__"):
        return True
    if kind in seen or not (dataclasses.is_dataclass(kind) or is_typed_dict(kind)):
        return any(_is_pydantic(part, seen) for part in get_args(kind))
    return any(_is_pydantic(part, seen | {kind}) for part in get_type_hints(kind, include_extras=True).values())


def _of_pydantic(annotation: Any) -> PayloadType:
    from pydantic import TypeAdapter, ValidationError

    adapter: Any = TypeAdapter(annotation)

    def decode(payload: bytes | msgspec.Raw) -> object:
        return adapter.validate_json(bytes(payload))

    def faults_of(_: bytes, error: BaseException) -> Misfits:
        if not isinstance(error, ValidationError):
            return [misfit_of(error, PLACE)]
        if error.error_count() > LISTED_MOST:
            return [(PLACE, f"{error.error_count()} faults")]
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return few((PLACE + "".join(map(_step, fault["loc"])), line(fault["msg"])) for fault in found)

    return PayloadType(_plain(adapter.json_schema()), decode, faults_of)


def _step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{line(step)}"
