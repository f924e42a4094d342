"""schemathesis against a running gateway: what its own OpenAPI document allows is accepted, the rest is refused, and
nothing ends in a 500, a hang or an answer that the document does not know. Open, and closed, for a key that may do
everything and for one that may do next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.redisserver import RedisServer
from tests.support.tokens import make_key

EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "5")
HOOKS = Path(__file__).with_name("hooks.py")
# Random stream keys are used up: a server of its own, and all keys served.
SETTINGS: dict[str, Any] = {"streams": ["events", "*"], "webhook_allow_http": True, "max_endpoints_per_tenant": 0}
CALLERS: dict[str, tuple[str, dict[str, Any]] | None] = {
    "open": None,
    "all scopes": ("subscribe publish webhooks admin", {}),
    "next to none": ("subscribe", {"tenant": "t1", "channels": ["a"], "types": ["a.*"], "streams": ["events"]}),
}


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    redis = RedisServer("valkey", tmp_path / "valkey").start()
    yield redis
    redis.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("caller", CALLERS)
async def test_schemathesis_finds_nothing(
    start_gateway: Start, own_redis: RedisServer, tmp_path: Path, caller: str
) -> None:
    # It tries other credentials too, many a second, and heads of any length.
    gateway = start_gateway(own_redis.url, **SETTINGS, max_attempts_per_ip=0, max_header_bytes=1 << 20)
    # Streams do not end; asked for JSON, the same route answers a page.
    options = ["-H", "Accept: application/json", "--request-timeout", "10", "--max-examples", EXAMPLES]
    rights = CALLERS[caller]
    if rights is not None:
        _, key = await make_key(own_redis.url, rights[0], **rights[1])
        options += ["-H", f"Authorization: Bearer {key}"]
    done = subprocess.run(  # noqa: ASYNC221 - the gateway is another process
        [sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json", *options],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
