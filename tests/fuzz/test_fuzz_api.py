"""schemathesis against a running gateway: what its own OpenAPI document allows is accepted, the rest is refused, and
nothing ends in a 500, a hang or an answer that the document does not know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support.redisserver import RedisServer

EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "5")
HOOKS = Path(__file__).with_name("hooks.py")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_schemathesis_finds_nothing(start_gateway: Start, tmp_path: Path) -> None:
    # Random stream keys are used up: a server of its own, and all keys served.
    redis = RedisServer("valkey", tmp_path / "valkey").start()
    try:
        gateway = start_gateway(redis.url, streams=["events", "*"], webhook_allow_http=True, max_endpoints_per_tenant=0)
        # Streams do not end; asked for JSON, the same route answers a page.
        options = ["-H", "Accept: application/json", "--request-timeout", "10", "--max-examples", EXAMPLES]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json", *options],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        redis.stop()
