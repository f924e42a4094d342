"""A browser for each module: Playwright's synchronous form must not be open while asyncio tests run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser, sync_playwright

from tests.dashboard.view import CHROMIUM, LAUNCH, View
from tests.support.gateway import GatewayProcess

OpenView = Callable[..., View]
Publish = Callable[..., str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; skips where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**LAUNCH)
        yield chromium
        chromium.close()


@pytest.fixture
def gateway(shared_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    """A gateway for tests that do not stop it."""
    return shared_gateway("direct")


@pytest.fixture
def new_view(browser: Browser) -> Iterator[OpenView]:
    """``new_view(origin, **context)`` -> a tab; after the test none of them may have seen an error."""
    views: list[View] = []

    def make(origin: str, **context: Any) -> View:
        views.append(View(browser, origin, **context))
        return views[-1]

    yield make
    complaints = [complaint for view in views for complaint in view.close()]
    assert complaints == []


@pytest.fixture
def view(new_view: OpenView, gateway: GatewayProcess) -> View:
    """A tab of `gateway`'s page, not opened yet."""
    return new_view(gateway.url)


@pytest.fixture
def publish(db: redis.Redis, stream: str) -> Publish:
    """``publish(type, data, **fields)``: XADD to `stream`; answers the id."""

    def add(type_: str, data: str = "{}", **fields: str) -> str:
        return str(db.xadd(stream, {"type": type_, "data": data, **fields}).decode())

    return add
