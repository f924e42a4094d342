"""How the client commands reach a gateway: one session, and what its errors mean to people."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import aiohttp

from gateway import __version__
from gateway.cli.console import fail
from gateway.events.jsontext import NotJSON, loads
from gateway.settings import ClientSettings

T = TypeVar("T")

UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
"""What a request may raise while the gateway, or the way to it, is away."""


class Refused(Exception):
    """The gateway answered with an error. `detail` is its sentence for people."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, str]], retry_after: float | None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after

    @property
    def is_final(self) -> bool:
        """Whether the same request would be refused again."""
        return self.status < 500 and self.status not in (408, 425, 429)

    @classmethod
    def read(cls, status: int, retry_after: str, body: bytes) -> Refused:
        """From a response: problem details (RFC 9457), or whatever a proxy on the way has sent."""
        detail, errors = "", []
        try:
            problem = loads(body)
        except NotJSON:
            problem = None
        if isinstance(problem, dict):
            detail = str(problem.get("detail") or problem.get("title") or "")
            found = problem.get("errors")
            errors = [error for error in found if isinstance(error, dict)] if isinstance(found, list) else []
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
        return cls(status, detail or "no reason given", errors, seconds)


def session(settings: ClientSettings, timeout: aiohttp.ClientTimeout | None = None) -> aiohttp.ClientSession:
    """A session that carries the token. Compression is not asked for: it holds back what should come at once."""
    headers = {"User-Agent": f"gateway-cli/{__version__}", "Accept-Encoding": "identity"}
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
    return aiohttp.ClientSession(headers=headers, timeout=timeout or aiohttp.ClientTimeout(total=30, sock_connect=10))


async def refused(response: aiohttp.ClientResponse) -> Refused:
    """The error in `response`."""
    return Refused.read(response.status, response.headers.get("Retry-After", ""), await response.content.read(65_536))


def reason(error: BaseException) -> str:
    """Why a gateway could not be reached, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorError):
        # Not its own text: after several addresses that is "Connect call failed", with a list.
        return os.strerror(error.os_error.errno).lower() if error.os_error.errno else "cannot connect"
    return str(error) or type(error).__name__


def run(settings: ClientSettings, work: Coroutine[Any, Any, T]) -> T | None:
    """Run `work` to its end; None after Ctrl-C. Errors of the gateway become one line and exit code 1."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        return None
    except Refused as error:
        fail(f"{settings.url} answered {error}{_hint(error.status)}")
    except UNREACHABLE as error:
        fail(f"cannot reach {settings.url}: {reason(error)}")


def _hint(status: int) -> str:
    return " (set GATEWAY_TOKEN or --token)" if status == 401 else ""
