"""Request bodies: read within bounds, parsed strictly, checked field by field, refused in words.

A refusal never repeats a text: it names the field, the rule, and the value only where it is a number.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from llorch.errors import FieldError, RequestError
from llorch.fields.field import Field
from llorch.fields.table import suggest
from llorch.server.errors import HTTPRefusalError

MAX_UNKNOWN_FIELDS = 20
"""Unknown fields named one by one in an answer; the rest is counted."""

MAX_EXACT_FLOAT = 2**53
"""Up to here a float64 holds every integer."""

BODY_DEADLINE_S = 30.0
"""A body must arrive within this time, or a client that trickles bytes would hold its connection for ever."""


def _refuse(status: int, constraint: str, message: str) -> NoReturn:
    raise HTTPRefusalError(status, FieldError("body", constraint, message))


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _number(text: str) -> float:
    """JSON has one kind of numbers: 16.0 is the integer 16."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT_FLOAT else value


async def _read(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            _refuse(413, f"at most {max_bytes} bytes", f"the body is larger than {max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(body: bytes) -> Any:
    """The JSON value of `body`.

    Raises:
        HTTPRefusalError: it is none. Positions are told, content is not.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_reject_constant, parse_float=_number)
    except UnicodeDecodeError as error:
        _refuse(400, "UTF-8", f"the body is not UTF-8 (byte {error.start})")
    except json.JSONDecodeError as error:
        _refuse(400, "JSON", f"the body is not JSON: {error.msg} (character {error.pos})")
    except RecursionError:
        _refuse(400, "JSON", "the body is nested too deeply")
    except ValueError as error:  # NaN and Infinity; numbers of thousands of digits
        message = str(error) if "JSON number" in str(error) else "a number has too many digits"
        _refuse(400, "JSON", f"the body is not JSON: {message}")


async def read_json_object(request: Request, max_bytes: int, *, is_typed: bool = True) -> dict[str, Any]:
    """The JSON object a request carries; one that `is_typed` must say that it is JSON.

    Raises:
        HTTPRefusalError: 415 for another content type (a web page can send those without asking), 413 for a
            body over `max_bytes`, 408 for one that does not arrive, 400 for anything but a JSON object.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_typed and content_type != "application/json" and not content_type.endswith("+json"):
        wanted = "Content-Type: application/json"
        _refuse(415, wanted, f"send the body as JSON, with the header {wanted}")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        _refuse(413, f"at most {max_bytes} bytes", f"the body is larger than {max_bytes} bytes")
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            body = await _read(request, max_bytes)
    except TimeoutError:
        _refuse(408, f"within {BODY_DEADLINE_S:g} s", f"the body did not arrive within {BODY_DEADLINE_S:g} s")
    except ClientDisconnect:
        _refuse(400, "a whole body", "the connection ended in the middle of the body")
    value = _parse(body)
    if not isinstance(value, dict):
        _refuse(400, "a JSON object", f"the body must be a JSON object, not {_json_type(value)}")
    return value


def _json_type(value: object) -> str:
    """What JSON calls `value`."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def check_fields(
    body: Mapping[str, Any],
    known: Mapping[str, Field],
    *,
    required: Collection[str] = (),
    hints: Mapping[str, str] = MappingProxyType({}),
    more_faults: Iterable[FieldError] = (),
    ignores_unknown: bool = False,
) -> dict[str, Any]:
    """The fields that a body gives; null means that it does not.

    Args:
        body: a JSON object.
        known: the fields it may have.
        required: those it must have.
        hints: what to add to the refusal of an unknown field, by its name.
        more_faults: what is wrong with several fields together.
        ignores_unknown: whether fields that are not `known` are no fault.

    Raises:
        RequestError: with every fault: unknown fields, then those of the known ones in their order, then `more_faults`.
    """
    unknown = [] if ignores_unknown else [name for name in body if name not in known]
    faults = _unknown_faults(unknown, known, hints)
    given = {name: body[name] for name in known if body.get(name) is not None}
    for name, field in known.items():
        if name in given:
            faults += field.faults(given[name])
        elif name in required:
            faults.append(FieldError(name, field.rule, f"{name} is required"))
    faults += more_faults
    if faults:
        raise RequestError(faults)
    return given


def object_schema(known: Mapping[str, Field], required: Collection[str] = ()) -> dict[str, Any]:
    """JSON schema of a body with the fields `known`, for OpenAPI."""
    properties = {}
    for name, field in known.items():
        schema = field.kind.adapter.json_schema()
        if name not in required:
            schema = {"anyOf": [schema, {"type": "null"}], "default": None}
        properties[name] = {**schema, "description": field.words}
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _unknown_faults(
    names: list[str], known: Mapping[str, Field], hints: Mapping[str, str]
) -> list[FieldError]:
    faults = [_unknown_fault(name, known, hints.get(name, "")) for name in names[:MAX_UNKNOWN_FIELDS]]
    if len(names) > MAX_UNKNOWN_FIELDS:
        message = f"{len(names) - MAX_UNKNOWN_FIELDS} more fields are unknown"
        faults.append(FieldError("body", "a known field", message))
    return faults


def _unknown_fault(name: str, known: Mapping[str, Field], hint: str) -> FieldError:
    name = name.encode("utf-8", "backslashreplace").decode()  # JSON can spell lone surrogates
    meant = next((field.name for field in known.values() if name in field.others_say), None)
    if meant is None and not hint:
        meant = suggest(name, known)
    shown = name[:64]
    clauses = [f"{shown} is not a field of this request"]
    if meant is not None:
        clauses.append(f"did you mean {meant}?" + (f" {hint}" if hint else ""))
    elif hint:
        clauses.append(hint)
    return FieldError(shown, "a known field", "; ".join(clauses))
