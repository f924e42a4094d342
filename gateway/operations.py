"""What operators and their machines ask: alive? ready? how much? which API?"""

from __future__ import annotations

import asyncio

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.access.gate import Gate
from gateway.apidoc import asyncapi, openapi
from gateway.backend.connection import UNAVAILABLE
from gateway.events.position import format_id
from gateway.sse.hub import Hub
from gateway.stream.log import Log
from gateway.telemetry import Telemetry


def operation_routes(
    log: Log, hub: Hub, telemetry: Telemetry, gate: Gate, *, public_metrics: bool = False
) -> list[Route]:
    """``/healthz``, ``/readyz``, ``/metrics``, ``/openapi.json``, ``/asyncapi.json``.

    Probes carry no credentials, so everybody gets the verdict of ``/readyz``; its details and ``/metrics`` count what
    all tenants do, and need the scope ``admin``.
    """

    async def healthz(request: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(request: Request) -> Response:
        redis = await _redis_answers(log)
        streams = {
            reader.stream: {"connected": reader.connected, "position": format_id(reader.window.tail)}
            for reader in log.readers
        }
        connected = all(reader.connected for reader in log.readers)
        status = "draining" if hub.draining else "ready" if redis and connected else "unavailable"
        body: dict[str, object] = {"status": status}
        if await gate.allows(request, "admin"):
            body |= {"redis": redis, "streams": streams, "connections": len(hub)}
        return _json(body, 200 if status == "ready" else 503)

    async def metrics(request: Request) -> Response:
        if not public_metrics:
            await gate.require(request, "admin")
        return Response(telemetry.render(), media_type=telemetry.content_type)

    async def openapi_json(request: Request) -> Response:
        return _json(openapi(request.app.routes))

    async def asyncapi_json(request: Request) -> Response:
        return _json(asyncapi())

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi_json),
        Route("/asyncapi.json", asyncapi_json),
    ]


async def _redis_answers(log: Log) -> bool:
    try:
        async with asyncio.timeout(2):
            await log.store.ping()
    except (TimeoutError, *UNAVAILABLE):
        return False
    return True


def _json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json", headers={"Cache-Control": "no-store"})
