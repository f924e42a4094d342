"""``POST /api/tickets``: a one-use credential for a client that can send no header (CONTRACT section 6)."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.access.gate import Gate


def ticket_routes(gate: Gate) -> list[Route]:
    """The route."""

    async def post_tickets(request: Request) -> Response:
        caller = await gate.require(request, "subscribe")
        answer = orjson.dumps(await gate.issue_ticket(caller))
        return Response(answer, 201, media_type="application/json", headers={"Cache-Control": "no-store"})

    return [Route("/api/tickets", post_tickets, methods=["POST"], name="ticket")]
