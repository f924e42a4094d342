"""Keys close every gateway on their Redis: tests of access have servers of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redisserver import RedisServer


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[RedisServer]:
    """A Valkey for one test."""
    server = RedisServer("valkey", tmp_path / "vault").start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Valkey for the tests of one file."""
    server = RedisServer("valkey", tmp_path_factory.mktemp("vault")).start()
    yield server
    server.stop()
