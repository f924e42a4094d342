"""A gateway to be run as a child process: ``python -m tests.support.servegateway LANE '<settings as JSON>'``.

LANE ``direct`` is the server as it is delivered (`gateway.server.serve`). ``plain`` is the same app under uvicorn's own
protocol classes, as any other ASGI server would run it: it offers no transport, so responses take sse-starlette's loop.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import uvicorn

from gateway.app import create_app
from gateway.server import serve, supervise
from gateway.settings import Settings
from gateway.telemetry import configure_logging

READY = "ready at "


def say(url: str) -> None:
    """Tell the parent where."""
    sys.stdout.write(f"{READY}{url}\n")
    sys.stdout.flush()


def serve_plain(settings: Settings) -> int:
    """Run the app under an unchanged uvicorn."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((settings.host, settings.port))
    config = uvicorn.Config(
        create_app(settings), ws="none", lifespan="on", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            say(f"http://{settings.host}:{sock.getsockname()[1]}")

    Server(config).run(sockets=[sock])
    return 0


def main(lane: str, options: dict[str, Any]) -> int:
    """Serve until a signal."""
    settings = Settings(**options)
    configure_logging(settings.log_level, settings.log_json)
    if lane == "plain":
        return serve_plain(settings)
    return (supervise if settings.workers > 1 else serve)(settings, on_started=say)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
