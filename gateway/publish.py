"""The way in over HTTP: ``POST /api/events`` -> XADD (CONTRACT section 4)."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.access.gate import Gate
from gateway.access.principal import Principal, Refused
from gateway.backend.connection import UNAVAILABLE, ResponseError
from gateway.errors import FieldError, Problem, bad_request, unavailable
from gateway.events.draft import Draft, InvalidDraft, parse_batch, parse_lines
from gateway.stream.log import Log

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?\Z")
_T = TypeVar("_T")
_REMEMBER = 86_400
_LARGE = 32 << 10
_HEARD_OUT = 8 << 20
"""Bytes of a body that are read although they are too many: closing on a client that still sends resets the
connection, and the client never sees why."""
_MOST_EVENTS = 10_000
"""In one request: all or nothing means one script, and Redis serves nobody else while it runs."""


@dataclass(frozen=True, slots=True)
class PublishLimits:
    """Bytes and seconds."""

    body: int = 1 << 20
    event: int = 256 << 10
    timeout: float = 5.0
    """How long Redis may take before the answer is 503."""
    request_timeout: float = 10.0
    """How long the client may take to send its body before the answer is 408."""


def publish_routes(
    log: Log,
    gate: Gate,
    limits: PublishLimits,
    published: Callable[[int], None],
    open_urls: Callable[[set[str]], Awaitable[object]],
) -> list[Route]:
    """The route; `published` is told how many events were added.

    `open_urls` is told, before that, of streams that get events with a URL of their own.
    """

    async def post_events(request: Request) -> Response:
        caller = await gate.require(request, "publish")
        body = await _body(request, limits)
        # A large body takes a second to read: in a thread, so that the streams go on.
        parsed = await asyncio.to_thread(_parse, request, body) if len(body) > _LARGE else _parse(request, body)
        drafts = _stamp(parsed, caller, log)
        _check(drafts, log, limits)
        gate.meter_publish(caller, len(drafts), len(body))
        key = _idempotency_key(request, caller)
        with_urls = {draft.stream or log.default_stream for draft in drafts if draft.webhook_url is not None}
        if with_urls:
            await _patiently(open_urls(with_urls), limits.timeout)
        entries = [(draft.stream or log.default_stream, draft.fields()) for draft in drafts]
        adding = log.store.append(entries, idempotency_key=key, remember=_REMEMBER)
        ids = await _patiently(adding, limits.timeout)
        published(len(ids))
        return Response(orjson.dumps({"ids": ids}), status_code=201, media_type="application/json")

    return [Route("/api/events", post_events, methods=["POST"], name="publish")]


async def _body(request: Request, limits: PublishLimits) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > (limits.body if "expect" in request.headers else _HEARD_OUT):
        raise _too_large(limits.body)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.request_timeout):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limits.body:
                    chunks.append(chunk)
                elif size > _HEARD_OUT:
                    break
    except TimeoutError:
        raise Problem(408, "the body did not arrive in time", headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise Problem(400, "the body ended before its announced length") from None
    if size > limits.body:
        raise _too_large(limits.body)
    return b"".join(chunks)


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit} bytes", headers={"Connection": "close"})


def _parse(request: Request, body: bytes) -> list[Draft]:
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Problem(422, f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        if media == "application/json":
            return parse_batch(text)
        if media in ("application/x-ndjson", "application/ndjson"):
            return parse_lines(text)
    except InvalidDraft as error:
        raise _unprocessable([FieldError(*pair) for pair in error.errors]) from None
    raise Problem(415, "send application/json or application/x-ndjson")


def _unprocessable(errors: Sequence[FieldError]) -> Problem:
    first = errors[0]
    return Problem(422, f"{first.field or 'body'}: {first.message}; nothing was stored", errors=errors)


def _check(drafts: list[Draft], log: Log, limits: PublishLimits) -> None:
    if len(drafts) > _MOST_EVENTS:
        raise Problem(413, f"more than {_MOST_EVENTS} events in one request; nothing was stored")
    single = len(drafts) == 1
    for index, draft in enumerate(drafts):
        path = "" if single else f"[{index}]"
        if draft.size > limits.event:
            raise Problem(
                413,
                f"{path or 'the event'} is larger than {limits.event} bytes; nothing was stored",
                errors=[FieldError(path, "too large")],
            )
        if draft.stream is not None and draft.stream not in log.served:
            field = f"{path}.stream" if path else "stream"
            raise _unprocessable([FieldError(field, f"stream {draft.stream} is not served here")])


def _stamp(drafts: list[Draft], caller: Principal, log: Log) -> list[Draft]:
    """The drafts with the caller's tenant. Raises `Refused`, naming the first that is not allowed."""
    stamped = []
    for index, draft in enumerate(drafts):
        try:
            caller.check_publish(
                draft.stream or log.default_stream, draft.channel or draft.type.partition(".")[0], draft.type
            )
            if draft.webhook_url is not None or draft.webhook_failover_url is not None:
                caller.demand("webhooks")
            tenant = caller.stamp(draft.tenant)
            stamped.append(draft if tenant == draft.tenant else replace(draft, tenant=tenant))
        except Refused as error:
            path = "" if len(drafts) == 1 else f"[{index}]: "
            raise Refused(f"{path}{error}; nothing was stored") from None
    return stamped


def _idempotency_key(request: Request, caller: Principal) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if IDEMPOTENCY_KEY.match(key) is None:
        raise bad_request("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
    # Each caller has keys of its own: another's would answer with ids of events that are not theirs.
    return "gateway:idempotency:" + hashlib.sha256(f"{caller.namespace}\n{key}".encode()).hexdigest()


async def _patiently(work: Awaitable[_T], timeout: float) -> _T:
    """What Redis answers, or the `Problem` that it has."""
    try:
        async with asyncio.timeout(timeout):
            return await work
    except TimeoutError:
        raise _away() from None
    except ResponseError as error:
        if "WRONGTYPE" in str(error):
            raise Problem(409, "a key of that name is not a stream; nothing was stored") from None
        raise _away() from None
    except UNAVAILABLE:
        raise _away() from None


def _away() -> Problem:
    return unavailable("Redis did not take the events; send them again with an Idempotency-Key to be safe")
