"""Options that several verbs share, as a dataclass: written once, and spelt out for typer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter
from typing import Any, get_type_hints


def spelt_out(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose parameters that are dataclasses are given field by field, as options of its own.

    Args:
        verb: annotated; the fields of its dataclasses are annotated as typer wants options to be, and no field has the
            name of another parameter.

    Returns:
        the verb as typer takes it.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    given: list[Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            given.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))
            continue
        kinds = get_type_hints(group, include_extras=True)
        for field in fields(group):
            default = Parameter.empty if field.default is MISSING else field.default
            given.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=kinds[field.name]))

    @functools.wraps(verb)
    def gathered(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        verb(**values)

    gathered.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]
    gathered.__annotations__ = {parameter.name: parameter.annotation for parameter in given}
    return gathered
