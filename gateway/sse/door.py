"""The way in at ``GET /api/events``: a caller and a wish become a subscriber, or the answer that says why not.

`Door.answer` may wait for Redis, or for whoever knows of a key.  `Door.at_once` serves what memory alone can answer.
Nothing on its way waits, so it needs no task and no framework, which is a third of the cost of a connect and counts
most in a storm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from gateway.access.carrier import in_query
from gateway.access.gate import Gate, Unauthenticated
from gateway.access.head import Head, head_of
from gateway.access.limits import OverLimit
from gateway.access.principal import Refused
from gateway.access.sessions import Reason, Session
from gateway.backend.connection import UNAVAILABLE
from gateway.errors import Problem, unavailable
from gateway.sse.connection import Connection
from gateway.sse.ending import EXPIRED, FAILED, NARROWED, REVOKED, Ending
from gateway.sse.hub import Hub, position_of
from gateway.sse.page import read_page
from gateway.sse.request import AtTime, EventsRequest, parse_request
from gateway.sse.response import StreamResponse, stream_headers
from gateway.sse.subscriber import Subscriber
from gateway.stream.cursor import Cursor
from gateway.stream.log import NotReady, NotServed

PATH = "/api/events"
_MAX_PARAMETERS = 1000
_ENDINGS: Mapping[Reason, Ending] = {"expired": EXPIRED, "revoked": REVOKED, "narrowed": NARROWED}


class Door:
    """Leads to `hub` whom `gate` lets in; `now` is Unix time in seconds."""

    def __init__(self, hub: Hub, gate: Gate, now: Callable[[], float] = time.time) -> None:
        self._hub = hub
        self._gate = gate
        self._parser = _Parser(hub.log.default_stream, now)

    async def answer(self, request: Request) -> Response:
        """A stream, or a page of history. Raises what the application has answers for."""
        hub, gate = self._hub, self._gate
        caller = await gate.require(request, "subscribe")
        head = head_of(request.scope)
        wanted = self._parser.parse(head)
        if hub.draining and wanted.accept != "json":
            raise unavailable("this process is shutting down", retry_after=3)
        session = gate.admit(caller, head, wanted.filter, wanted.streams)
        subscriber: Subscriber | None = None
        try:
            narrowed = _narrowed(wanted, session)
            if narrowed.accept == "json":
                return await _page(hub, narrowed, session, head=head.method == "HEAD")
            subscriber = await hub.open(narrowed)
            if not _in_memory(subscriber.cursors):
                session.replay(lambda: subscriber.caught_up)
            _bind(subscriber, session)
            return StreamResponse(subscriber, hub, hub.write_timeout)
        except NotServed as error:
            raise Problem(404, f"stream {error} is not served here") from None
        except NotReady as error:
            raise unavailable(str(error)) from None
        except UNAVAILABLE:
            raise unavailable("Redis cannot be reached") from None
        finally:
            if subscriber is None or head.method == "HEAD":
                session.close()

    def at_once(self, head: Head, connection: Connection) -> bool:
        """Serve the stream that `head` asks for over `connection`, if that can be done without waiting.

        False for all else (other paths, replays, errors): nothing was sent and no session is open; `answer` is for it.
        """
        hub, gate = self._hub, self._gate
        if head.path != PATH or head.method != "GET" or hub.draining:
            return False
        try:
            caller = gate.recall(head)
            if caller is None:
                return False
            caller.demand("subscribe")
            wanted = self._parser.parse(head)
            cursors = hub.at_tail(wanted)
            if cursors is None:
                return False
            session = gate.admit_known(caller, head, wanted.filter, wanted.streams)
        except (Problem, Refused, OverLimit, Unauthenticated):
            return False  # `answer` comes to the same, and says so
        try:
            subscriber = hub.subscriber(_narrowed(wanted, session), cursors)
            _bind(subscriber, session)
            self._serve(subscriber, head, connection)
        except Exception:
            session.close()
            raise
        return True

    def _serve(self, subscriber: Subscriber, head: Head, connection: Connection) -> None:
        connection.cork()
        try:
            marks = self._gate.policy.origins.marks(head.get(b"origin"))
            connection.respond([*stream_headers(subscriber), *marks])
            self._hub.adopt(subscriber, connection)
        except Exception:
            self._hub.leave(subscriber, FAILED)
            raise
        finally:
            connection.uncork()


class _Parser:
    """Parses requests, remembering those without a clock in them: clients that come back in a storm ask the same.

    A request with a credential in its URL is not remembered: it is the only one of its kind, and its text is secret.
    """

    _MOST = 1024
    _LONGEST = 1024
    """Bytes of query and headers."""

    def __init__(self, default_stream: str, now: Callable[[], float]) -> None:
        self._default_stream = default_stream
        self._now = now
        self._known: dict[tuple[bytes, str, str], EventsRequest] = {}

    def parse(self, head: Head) -> EventsRequest:
        """What is asked for. Raises `Problem`."""
        query = head.query
        key = (query, head.get(b"accept") or "", head.get(b"last-event-id") or "")
        wanted = self._known.get(key)
        if wanted is None:
            wanted = self._read(*key)
            if not (isinstance(wanted.start, AtTime) or sum(map(len, key)) >= self._LONGEST or in_query(query)):
                if len(self._known) >= self._MOST:
                    self._known.clear()
                self._known[key] = wanted
        return wanted

    def _read(self, query: bytes, accept: str, last_event_id: str) -> EventsRequest:
        try:
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            raise Problem(400, f"more than {_MAX_PARAMETERS} query parameters") from None
        return parse_request(
            pairs, accept=accept, last_event_id=last_event_id, default_stream=self._default_stream, now=self._now
        )


def _narrowed(wanted: EventsRequest, session: Session) -> EventsRequest:
    """What the caller may have of it."""
    return wanted if session.filter is wanted.filter else replace(wanted, filter=session.filter)


def _bind(subscriber: Subscriber, session: Session) -> None:
    """The subscriber ends with its session, and the session with it."""
    subscriber.on_close = session.close
    session.watch(lambda reason: subscriber.end(_ENDINGS[reason]))


def _in_memory(cursors: Sequence[Cursor]) -> bool:
    return all(cursor.at_tail or cursor.reader.window.covers(cursor.position) for cursor in cursors)


async def _page(hub: Hub, wanted: EventsRequest, session: Session, head: bool) -> Response:
    cursors, gaps = await hub.locate(wanted)
    if not _in_memory(cursors):
        session.replay(lambda: False)
    headers = {"Gateway-Position": position_of(cursors), "Cache-Control": "no-store"}
    content = b"" if head else await read_page(wanted, cursors, gaps)
    return Response(content, headers=headers, media_type="application/json")
