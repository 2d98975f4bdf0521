"""Records to JSON and back, by their type hints; one place that knows format versions."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from melt.errors import StoreError
from melt.records import FORMAT_VERSION

T = TypeVar("T")


_PLAIN = frozenset({str, int, float, bool, type(None)})
"""What most of a record is made of: asked first, because the other questions take longer."""


def to_dict(record: Any) -> Any:
    """Turn a record, or anything inside one, into plain JSON types."""
    kind = type(record)
    if kind in _PLAIN:
        return record
    if names := _field_names(typing.cast(Hashable, kind)):
        return {name: to_dict(getattr(record, name)) for name in names}
    if isinstance(record, Enum):
        return record.value
    if isinstance(record, Mapping):
        return {str(k): to_dict(v) for k, v in record.items()}
    if isinstance(record, (tuple, list)):
        return [to_dict(v) for v in record]
    return record


@cache
def _field_names(kind: Hashable) -> tuple[str, ...]:
    """Return the fields of a record's type; none of another type."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def dumps(record: Any) -> str:
    """Write a record as one line of JSON with sorted keys. Raises ValueError on NaN: not measured is null."""
    return json.dumps(to_dict(record), sort_keys=True, allow_nan=False, ensure_ascii=False)


def from_dict(kind: type[T], data: Any) -> T:
    """Rebuild a record. Unknown keys are passed over; a newer format is refused; a wrong type raises StoreError."""
    if isinstance(data, Mapping) and isinstance(data.get("version"), int) and data["version"] > FORMAT_VERSION:
        raise StoreError(
            f"this {kind.__name__} was written in format {data['version']}, "
            f"this melt reads up to {FORMAT_VERSION}: update melt"
        )
    try:
        return typing.cast(T, _builder(typing.cast(Hashable, kind))(data))
    except (TypeError, ValueError, KeyError) as error:
        raise StoreError(f"not a valid {kind.__name__}: {error}") from error


def loads(kind: type[T], text: str | bytes) -> T:
    """Read one record from JSON text. Raises StoreError."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise StoreError(f"not a valid {kind.__name__}: {error}") from error
    return from_dict(kind, data)


_Builder = Callable[[Any], Any]


@cache
def _builder(kind: Any) -> _Builder:
    """Return what rebuilds a value of a type hint: worked out once per hint, because a store reads many documents."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _either(tuple(a for a in typing.get_args(kind) if a is not type(None)))
        return inner if type(None) not in typing.get_args(kind) else lambda data: None if data is None else inner(data)
    if origin is tuple:
        item = _builder(typing.get_args(kind)[0])
        return lambda data: tuple([item(v) for v in _expect(list, data)])
    if origin is dict:
        value = _builder(typing.get_args(kind)[1])
        return lambda data: {k: value(v) for k, v in _expect(dict, data).items()}
    if kind in (object, Any):
        return lambda data: data
    if dataclasses.is_dataclass(kind):
        return _record_builder(typing.cast(type, kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return functools.partial(_plain, kind)


def _either(kinds: tuple[Any, ...]) -> _Builder:
    """Return what rebuilds a value of one kind, or leaves one of several plain ones as it is."""
    if len(kinds) == 1:
        return _builder(kinds[0])

    def build(data: Any) -> Any:
        if type(data) not in kinds:
            raise TypeError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, found {data!r}")
        return data

    return build


def _record_builder(kind: type) -> _Builder:
    fields = {name: _builder(hint) for name, hint in typing.get_type_hints(kind).items()}

    def build(data: Any) -> Any:
        return kind(**{k: fields[k](v) for k, v in _expect(dict, data).items() if k in fields})

    return build


def _plain(kind: type, data: Any) -> Any:
    if type(data) is kind:
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if kind is int and isinstance(data, bool):
        raise TypeError(f"expected int, found {data!r}")
    return _expect(kind, data)


def _expect(kind: Any, data: Any) -> Any:
    if not isinstance(data, kind):
        raise TypeError(f"expected {kind.__name__}, found {data!r}")
    return data
