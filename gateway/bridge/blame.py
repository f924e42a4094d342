"""Bad input, said so that a program can find the field."""

from __future__ import annotations

from typing import Any

from gateway.errors import FieldError, Problem


def unprocessable(field: str, message: str) -> Problem:
    """422 for one field."""
    return Problem(422, f"{field}: {message}", errors=[FieldError(field, message)])


def only(body: dict[str, Any], *names: str) -> None:
    """422 for a field of `body` that is none of `names`."""
    for name in body:
        if name not in names:
            raise unprocessable(name[:64], f"is not known; {', '.join(names)} are")
