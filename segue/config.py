"""The one configuration system: frozen dataclasses, to and from plain JSON values, with `a.b=c` overrides.

An unknown key, a missing key and a value of the wrong type all raise; nothing is guessed.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from segue.errors import SegueError

T = TypeVar("T")


def later(default: Any) -> Any:
    """A field that older files on disk lack; `default` must for ever mean what there was before it."""
    return dataclasses.field(default=default, metadata={"later": True})


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested dicts, lists and JSON scalars."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_disk(config: Any) -> dict[str, Any]:
    """As `to_dict`, less what came `later` and is at its default, so that fingerprints outlive new fields."""

    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if not dataclasses.is_dataclass(value):
            return value
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not field.metadata.get("later") or getattr(value, field.name) != field.default
        }

    return json.loads(json.dumps(plain(config)))


def from_dict(cls: type[T], values: dict[str, Any], where: str = "", complete: bool = False) -> T:
    """Build `cls` from nested plain values.

    Args:
        cls: a config dataclass.
        values: its fields.
        where: path of `values` in a larger config, for messages.
        complete: refuse to fill in defaults, as for what is on disk: a default may have changed since. Fields that
            came `later` keep theirs.

    Raises:
        SegueError: on an unknown or missing key, or a value that does not fit the field's type.
    """
    if not isinstance(values, dict):
        raise SegueError(f"config {where or cls.__name__}: expected a table of fields, got {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise SegueError(f"config {_join(where, key)}: no such key; known here: {', '.join(fields)}")
    built = {}
    for name, field in fields.items():
        if name in values:
            built[name] = _convert(hints[name], values[name], _join(where, name), complete)
        elif (complete and not field.metadata.get("later")) or (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ):
            raise SegueError(f"config {_join(where, name)}: missing")
    return cls(**built)


def override(config: T, assignments: Iterable[str]) -> T:
    """Apply `a.b=c` assignments to a frozen config and return the new one.

    Args:
        config: any config dataclass.
        assignments: strings such as `train.learning_rate=3e-4`; values are JSON, or plain words.

    Raises:
        SegueError: if an assignment has no `=`, names an unknown key or has a value of the wrong type.
    """
    values = to_dict(config)
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator:
            raise SegueError(f"--set {assignment}: write it as key=value")
        *parents, leaf = path.strip().split(".")
        table = values
        for parent in parents:
            if not isinstance(table, dict) or parent not in table:
                raise SegueError(f"--set {path}: no such key {parent!r}")
            table = table[parent]
        if not isinstance(table, dict) or leaf not in table:
            known = ", ".join(table) if isinstance(table, dict) else "none"
            raise SegueError(f"--set {path}: no such key {leaf!r}; known here: {known}")
        try:
            table[leaf] = json.loads(text)
        except json.JSONDecodeError:
            table[leaf] = text
    return from_dict(type(config), values)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(hint: Any, value: Any, where: str, complete: bool) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        return _convert(inner[0], value, where, complete)
    if origin is typing.Literal:
        if value not in arguments:
            raise SegueError(f"config {where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SegueError(f"config {where}: expected a list, got {value!r}")
        return tuple(_convert(arguments[0], item, where, complete) for item in value)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where, complete)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise SegueError(f"config {where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
