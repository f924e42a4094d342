"""``/api/webhooks`` (CONTRACT section 5) over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.access.gate import Gate
from gateway.access.principal import Principal
from gateway.backend.connection import UNAVAILABLE
from gateway.bridge.api import Api
from gateway.bridge.delivery import STATUSES
from gateway.bridge.endpoint import Endpoint
from gateway.errors import Problem, bad_request, unavailable

_MAX_BODY: Final = 64 << 10
_MAX_LOGS: Final = 1000
Answer = tuple[int, Any]
Handler = Callable[[Api, Principal, Request], Awaitable[Answer]]


def webhook_routes(api: Callable[[], Api], gate: Gate) -> list[Route]:
    """The routes; `api` is asked at each request, because it is made when the process starts to run."""

    def route(path: str, method: str, name: str, handle: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            caller = await gate.require(request, "webhooks")
            try:
                status, content = await handle(api(), caller, request)
            except UNAVAILABLE:
                raise unavailable("Redis cannot be reached") from None
            body = b"" if content is None else orjson.dumps(content)
            return Response(body, status, headers={"Cache-Control": "no-store"}, media_type="application/json")

        return Route(f"/api/webhooks{path}", endpoint, methods=[method], name=name)

    return [
        route("", "POST", "create_webhook", _create),
        route("", "GET", "list_webhooks", _list),
        route("/{id}", "GET", "get_webhook", _get),
        route("/{id}", "PATCH", "change_webhook", _change),
        route("/{id}", "DELETE", "delete_webhook", _delete),
        route("/{id}/logs", "GET", "webhook_logs", _logs),
        route("/{id}/logs/{log_id}", "GET", "webhook_log", _log),
        route("/{id}/logs/{log_id}/resend", "POST", "resend_webhook", _resend),
        route("/{id}/rotate-secret", "POST", "rotate_webhook_secret", _rotate),
        route("/{id}/test", "POST", "test_webhook", _test),
        route("/{id}/replay", "POST", "replay_webhook", _replay),
        route("/{id}/replay", "GET", "webhook_replays", _replays),
        route("/{id}/replay/{job_id}", "DELETE", "cancel_webhook_replay", _cancel),
        route("/{id}/enable", "POST", "enable_webhook", _enable),
        route("/{id}/disable", "POST", "disable_webhook", _disable),
    ]


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object in the body; nothing counts as an empty one."""
    raw = b""
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > _MAX_BODY:
                raise Problem(413, f"the body is larger than {_MAX_BODY} bytes", headers={"Connection": "close"})
    except ClientDisconnect:
        raise Problem(400, "the body ended before its announced length") from None
    if not raw.strip():
        return {}
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Problem(422, "the body must be a JSON object")
    return content


async def _endpoint(api: Api, caller: Principal, request: Request) -> Endpoint:
    return await api.get(caller, request.path_params["id"])


async def _create(api: Api, caller: Principal, request: Request) -> Answer:
    return 201, await api.create(caller, await _body(request))


async def _list(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, {"webhooks": [endpoint.view() for endpoint in await api.every(caller)]}


async def _get(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, await api.describe(await _endpoint(api, caller, request))


async def _change(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, await api.change(caller, request.path_params["id"], await _body(request))


async def _delete(api: Api, caller: Principal, request: Request) -> Answer:
    await api.delete(caller, request.path_params["id"])
    return 204, None


async def _logs(api: Api, caller: Principal, request: Request) -> Answer:
    query = request.query_params
    for name in query:
        if name not in ("limit", "status", "before"):
            raise bad_request(name[:64], "is not known; limit, status and before are")
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MAX_LOGS):
        raise bad_request("limit", f"must be a number from 1 to {_MAX_LOGS}")
    status = query.get("status") or None
    if status is not None and status not in STATUSES:
        raise bad_request("status", f"must be one of {', '.join(STATUSES)}")
    endpoint = await _endpoint(api, caller, request)
    found, following = await api.deliveries.logs(caller, endpoint, int(limit), query.get("before") or None, status)
    return 200, {"logs": found, "next": following}


async def _log(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, await api.deliveries.log(caller, await _endpoint(api, caller, request), request.path_params["log_id"])


async def _resend(api: Api, caller: Principal, request: Request) -> Answer:
    return 202, await api.deliveries.resend(
        caller, await _endpoint(api, caller, request), request.path_params["log_id"]
    )


async def _rotate(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, await api.rotate(caller, request.path_params["id"], await _body(request))


async def _test(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, await api.deliveries.test(await _endpoint(api, caller, request))


async def _replay(api: Api, caller: Principal, request: Request) -> Answer:
    return 202, await api.replays.begin(await _endpoint(api, caller, request), await _body(request))


async def _replays(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, {"replays": await api.replays.every(await _endpoint(api, caller, request))}


async def _cancel(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, await api.replays.cancel(await _endpoint(api, caller, request), request.path_params["job_id"])


async def _enable(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, await api.switch(caller, request.path_params["id"], active=True)


async def _disable(api: Api, caller: Principal, request: Request) -> Answer:
    return 200, await api.switch(caller, request.path_params["id"], active=False)
