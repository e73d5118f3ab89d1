"""The values of `maao.types` as JSON and as SQLite columns, and back, without losing a bit.

JSON has no NaN and no infinities, SQLite turns a NaN into NULL, and neither takes text with lone surrogates (a reply cut inside an emoji).
The exact forms are decided here, and nowhere else. Types drive both ways: a value is written as its field is declared.
"""

from __future__ import annotations

import json
import math
import operator
import struct
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from maao.errors import StoreError
from maao.llm.secrets import without_keys
from maao.types import JSON

T = TypeVar("T")
Column = int | float | str | bytes | None
Unknowns = Mapping[str, Callable[[Any], object]]  # how to write a value whose type is a type variable, by its name

QUIET_NAN = struct.pack(">d", math.nan)


def to_json(value: object, kind: object) -> str:
    """Return a value declared as `kind` as JSON. Mappings keep their order.

    Example:
        >>> to_json(float("nan"), float)
        '"nan"'
    """
    return json.dumps(encode(value, kind), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_json(text: str, kind: type[T]) -> T:
    """Return the value that `to_json` wrote. Raises `ValueError` for text it cannot have written: `reading` names the file."""
    try:
        value: T = decode(json.loads(text), kind)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{text[:80]!r} is not a {kind.__name__}: {error}") from error
    return value


def canonical_json(value: object, kind: object, unknowns: Unknowns) -> str:
    """Return one JSON text for equal values: keys sorted, and without fields that take no part in equality (seconds)."""
    encoded = encode(value, kind, unknowns, compared_only=True)
    return json.dumps(encoded, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encode(value: Any, kind: object, unknowns: Unknowns = types.MappingProxyType({}), compared_only: bool = False) -> object:
    """Return a value declared as `kind` in the types that JSON knows."""
    origin = get_origin(kind) or kind
    if kind is JSON:
        return _encode_plain(value)
    if isinstance(kind, TypeVar):
        return unknowns[kind.__name__](value)
    if origin in (Union, types.UnionType):
        return None if value is None else encode(value, _not_none(kind), unknowns, compared_only)
    if is_dataclass(origin):
        declared = _fields(origin)  # type: ignore[arg-type]
        return {n: encode(getattr(value, n), k, unknowns, compared_only) for n, k, c in declared if c or not compared_only}
    if origin is Literal:
        return _one_of(kind, value)
    if origin is tuple:
        return [encode(v, get_args(kind)[0], unknowns, compared_only) for v in value]
    if origin is Mapping:
        return {k: encode(v, get_args(kind)[1], unknowns, compared_only) for k, v in value.items()}
    return _WRITERS[kind](value)


def decode(data: object, kind: object, unknowns: Unknowns = types.MappingProxyType({})) -> Any:
    """Return the value of which `encode` made `data`, `unknowns` included. A field that is not there takes its default."""
    origin = get_origin(kind) or kind
    if kind is JSON:
        return _decode_plain(data)
    if isinstance(kind, TypeVar):
        return unknowns[kind.__name__](data)
    if origin in (Union, types.UnionType):
        return None if data is None else decode(data, _not_none(kind), unknowns)
    if is_dataclass(origin) and isinstance(origin, type):
        kinds = {name: kind for name, kind, _ in _fields(origin)}
        return origin(**{name: decode(value, kinds[name], unknowns) for name, value in _of(dict, data).items()})
    if origin is Literal:
        return _one_of(kind, data)
    if origin is tuple:
        return tuple(decode(value, get_args(kind)[0], unknowns) for value in _of(list, data))
    if origin is Mapping:
        return {key: decode(value, get_args(kind)[1], unknowns) for key, value in _of(dict, data).items()}
    return _READERS[kind](data)


def _one_of(kind: object, value: object) -> object:
    if value not in get_args(kind):
        raise ValueError(f"{str(value)[:40]!r} is none of {', '.join(map(str, get_args(kind)))}")
    return value


def _of(kind: type[T], data: object) -> T:
    if not isinstance(data, kind):
        raise TypeError(f"{str(data)[:40]!r} stands where a {kind.__name__} is declared")
    return data


def text_column(text: str | None) -> str | bytes | None:
    """Return text as SQLite takes it, without any key of this process: text, or bytes where it holds lone surrogates."""
    if text is None:
        return None
    text = without_keys(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def column_text(column: object) -> str:
    return column.decode("utf-8", "surrogatepass") if isinstance(column, bytes) else str(column)


def optional_text(column: object) -> str | None:
    return None if column is None else column_text(column)


def number_column(number: float | None) -> float | str | None:
    """Return a float as SQLite keeps it: the float, or the text "nan", which sorts behind every number. The column must have no type."""
    if number is None:
        return None
    number = float(number)
    return _float_name(number) if math.isnan(number) else number


def column_number(column: object) -> float:
    return _float_from(column)


def column_int(column: object) -> int:
    return _of(int, column)


def json_column(value: object, kind: object) -> str | bytes | None:
    return text_column(to_json(value, kind))


def column_json(column: object, kind: type[T]) -> T:
    return from_json(column_text(column), kind)


@cache
def _fields(kind: Any) -> tuple[tuple[str, object, bool], ...]:
    hints = get_type_hints(kind)
    return tuple((f.name, hints[f.name], f.compare) for f in fields(kind))


def _not_none(kind: object) -> object:
    (only,) = (k for k in get_args(kind) if k is not type(None))
    return only


def _float_name(number: float) -> str:
    packed = struct.pack(">d", number)
    return f"nan:{packed.hex()}" if math.isnan(number) and packed != QUIET_NAN else str(float(number))


def _float_from(data: Any) -> float:
    if isinstance(data, str) and data.startswith("nan:"):
        number: float = struct.unpack(">d", bytes.fromhex(data[4:]))[0]
        return number
    return float(data)


def _encode_float(number: float) -> float | str:
    number = float(number)
    return number if math.isfinite(number) else _float_name(number)


def _encode_text(text: str) -> str:
    if not isinstance(text, str):
        raise StoreError(f"Cannot store {text!r} where text is declared.")
    return text


def _encode_plain(value: object) -> object:
    """Encode what no type declares (a state's meta). A key that begins with $ is ours: {"$float": "nan"}, {"$dict": {...}}."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": _float_name(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise StoreError(f"Cannot store {value!r} as JSON: every key must be text.")
        encoded = {key: _encode_plain(v) for key, v in value.items()}
        return {"$dict": encoded} if any(key.startswith("$") for key in encoded) else encoded
    if isinstance(value, list | tuple):
        return [_encode_plain(v) for v in value]
    raise StoreError(
        f"Cannot store {value!r} ({type(value).__name__}) as JSON. Plain JSON is None, bool, int, float, text, lists and mappings of "
        "these; arrays go with the arrays."
    )


def _decode_plain(data: object) -> object:
    if isinstance(data, list):
        return [_decode_plain(value) for value in data]
    if not isinstance(data, dict):
        return data
    if "$float" in data:
        return _float_from(data["$float"])
    return {key: _decode_plain(value) for key, value in data.get("$dict", data).items()}


_WRITERS: Mapping[object, Callable[[Any], object]] = {float: _encode_float, int: operator.index, bool: bool, str: _encode_text}
_READERS: Mapping[object, Callable[[Any], object]] = {
    float: _float_from,
    int: operator.index,
    bool: lambda data: _of(bool, data),
    str: lambda data: _of(str, data),
}
