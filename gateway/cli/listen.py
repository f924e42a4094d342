"""``gateway listen``: a receiver for trying webhooks. Verifies, prints, answers."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from aiohttp import web

from gateway.bridge.dialects import DIALECTS, Dialect
from gateway.bridge.signature import SignatureError, check_key, verify
from gateway.cli import console

app = typer.Typer()
_MAX_BODY = 4 << 20


def check(dialect: Dialect, secret: str | None, headers: dict[str, str], body: bytes, now: float) -> str | None:
    """What is wrong with a request, or None. Without a secret nothing is verified."""
    if dialect.scheme is None or secret is None:
        return None
    try:
        verify(dialect.scheme, secret, headers, body, now)
    except SignatureError as error:
        return f"{error}{_hint(dialect, headers)}"
    return None


def _hint(dialect: Dialect, headers: dict[str, str]) -> str:
    """Which dialect the request looks like, when it is not the expected one."""
    for other in DIALECTS.values():
        scheme = other.scheme
        if scheme is not None and scheme != dialect.scheme and scheme.signature_header.lower() in headers:
            return f" (this looks like the dialect {other.name})"
    return ""


def _application(dialect: Dialect, secret: str | None, status: int, as_json: bool) -> web.Application:
    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        wrong = check(dialect, secret, headers, body, time.time())
        unverified = dialect.scheme is None or secret is None
        if as_json:
            console.write_json(
                {
                    "path": request.path,
                    "verified": None if unverified else wrong is None,
                    "error": wrong,
                    "headers": headers,
                    "body": body.decode("utf-8", "replace"),
                }
            )
        else:
            mark = "not verified" if unverified else "verified" if wrong is None else f"REFUSED: {wrong}"
            name = headers.get("webhook-id", "")
            console.write_lines([f"{request.method} {request.path} {name} {mark}", body.decode("utf-8", "replace")])
        if wrong is not None:
            return web.Response(status=401, text=wrong)
        return web.Response(status=status)

    application = web.Application(client_max_size=_MAX_BODY)
    application.router.add_route("*", "/{path:.*}", receive)
    return application


async def _serve(application: web.Application, host: str, port: int) -> None:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        url = f"http://{host}:{runner.addresses[0][1]}"
        console.note(f"listening on {url}; Ctrl-C ends it")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


@app.command()
def listen(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 9000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    dialect: Annotated[str, typer.Option(help=f"One of {', '.join(DIALECTS)}.")] = "standard",
    secret: Annotated[
        str | None, typer.Option(envvar="GATEWAY_LISTEN_SECRET", help="Secret, or public key; without it unverified.")
    ] = None,
    status: Annotated[int, typer.Option(min=200, max=599, help="What to answer when the signature is right.")] = 204,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a request.")] = False,
) -> None:
    """Receive webhooks: verify the signature, print, answer. A bad signature is answered with 401."""
    if dialect not in DIALECTS:
        console.wrong_usage(f"--dialect: must be one of {', '.join(DIALECTS)}, not {dialect!r}")
    chosen = DIALECTS[dialect]
    if secret is not None and chosen.scheme is not None:
        try:
            check_key(chosen.scheme, secret)
        except ValueError as error:
            console.wrong_usage(f"--secret: {error}")
    try:
        asyncio.run(_serve(_application(chosen, secret, status, as_json), host, port))
    except KeyboardInterrupt:
        return
    except OSError as error:
        console.fail(f"cannot listen on {host} port {port}: {error.strerror or error}")
