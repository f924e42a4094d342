"""Flags made from the fields of the settings: one source for both.

A command asks for settings by annotating a parameter with their class, and gets one flag per field:

    @app.command()
    @with_settings
    def serve(settings: Settings) -> None: ...

    def doctor(settings: Annotated[Settings, Only("redis_url", "data_dir")], client: ClientSettings) -> None: ...

A flag that was given wins over the environment.  What is invalid ends the command with 2 and a line that names the
flag or the variable to blame.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from gateway.cli.console import wrong_usage


class Only:
    """The fields of which a command makes flags; the others still come from the environment."""

    def __init__(self, *fields: str) -> None:
        self.fields = fields


def flag_name(field: str) -> str:
    """``redis_url`` -> ``--redis-url``."""
    return "--" + field.replace("_", "-")


def variables(settings: type[BaseSettings], field: str) -> list[str]:
    """The environment variables of a field, the strongest first."""
    alias = settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [name for name in alias.choices if isinstance(name, str) and name.isupper()]
    return [f"{settings.model_config.get('env_prefix', '')}{field}".upper()]


def variable_in_force(settings: type[BaseSettings], field: str) -> str | None:
    """The variable that is set and gives the field its value, else None."""
    # Empty counts as unset (env_ignore_empty): compose files pass empty variables for what is not configured.
    return next((name for name in variables(settings, field) if os.environ.get(name)), None)


def unknown_variables(*kinds: type[BaseSettings]) -> list[str]:
    """``GATEWAY_*`` variables that are no field of `kinds`, as sentences, each with what may have been meant."""
    known = [name for kind in kinds for field in kind.model_fields for name in variables(kind, field)]
    found = []
    for name in sorted(os.environ):
        if name.startswith("GATEWAY_") and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            found.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return found


def default_text(info: FieldInfo) -> str:
    """The default as one would type it; ``""`` for none."""
    return value_text(info.get_default(call_default_factory=True))


def value_text(value: object) -> str:
    """A setting's value as one would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if value < 1e6 else f"{value:.0f}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def load(settings: type[BaseSettings], given: Mapping[str, Any]) -> BaseSettings:
    """The settings from `given` (flags), then the environment. Exits with 2 when they are invalid."""
    try:
        return settings(**given)
    except ValidationError as error:
        wrong_usage("; ".join(_explain(settings, given, part) for part in error.errors()))


def _explain(settings: type[BaseSettings], given: Mapping[str, Any], error: Any) -> str:
    where = str(error["loc"][0]) if error["loc"] else ""
    field = next((name for name in settings.model_fields if where in (name, *variables(settings, name))), where)
    blame = flag_name(field) if field in given else variable_in_force(settings, field) or field
    # "Input should be a valid integer, unable to parse string as an integer": the first half says it.
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be").partition(", unable")[0]
    value = error["input"]
    is_secret = SecretStr in (_annotations(settings.model_fields[field]) if field in settings.model_fields else ())
    return f"{blame}: {message}" + ("" if is_secret else f", not {str(value)!r}")


def _annotations(info: FieldInfo) -> tuple[Any, ...]:
    return (info.annotation, *get_args(info.annotation))


def _option(settings: type[BaseSettings], field: str, info: FieldInfo) -> inspect.Parameter:
    is_bool = info.annotation is bool
    flag = flag_name(field)
    default = default_text(info)
    notes = [variables(settings, field)[0]] + ([f"default {default}"] if default else [])
    option = typer.Option(
        None,
        f"{flag}/--no-{flag[2:]}" if is_bool else flag,
        help=f"{info.description} [{', '.join(notes)}]".replace("[", r"\["),
        show_default=False,
        metavar=None if is_bool else _metavar(info),
    )
    # Text, not the field's type: pydantic alone decides what is valid, whether it came from a flag or a variable.
    annotation = bool | None if is_bool else str | None
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def _metavar(info: FieldInfo) -> str:
    kinds = {int: "N", float: "N"}
    return next((kinds[kind] for kind in _annotations(info) if kind in kinds), "TEXT")


def _wanted(annotation: Any) -> tuple[type[BaseSettings], Iterable[str]] | None:
    only: Iterable[str] | None = None
    if get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        only = next((part.fields for part in extra if isinstance(part, Only)), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseSettings):
        return annotation, annotation.model_fields if only is None else only
    return None


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields")


def _members(group: type[Any]) -> list[inspect.Parameter]:
    """The options of a group, a `NamedTuple` whose fields are annotated as a command's parameters are."""
    hints, defaults = get_type_hints(group, include_extras=True), group._field_defaults
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hint)
        for name, hint in hints.items()
    ]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is annotated with a settings class by the flags of that class.

    One that is annotated with a `NamedTuple` stands for the options that are its fields.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}
    wanted = {name: found for name, hint in hints.items() if name != "return" and (found := _wanted(hint))}
    own: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            own += _members(groups[name])
        elif name not in wanted:
            own.append(parameter.replace(annotation=hints[name]))
    flags = [_option(kind, field, kind.model_fields[field]) for kind, fields in wanted.values() for field in fields]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        for name, (kind, fields) in wanted.items():
            taken = {field: arguments.pop(field) for field in fields}
            arguments[name] = load(kind, {field: value for field, value in taken.items() if value is not None})
        for name, group in groups.items():
            arguments[name] = group(**{field: arguments.pop(field) for field in group._fields})
        command(**arguments)

    parameters = [*own, *flags]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
