"""The page of a gateway that asks for a key."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.conftest import Start
from tests.dashboard.conftest import OpenView
from tests.dashboard.view import DESKTOP, View
from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[RedisServer]:
    """A Valkey of the test's own: its keys close every gateway on it."""
    server = RedisServer("valkey", tmp_path / "vault").start()
    yield server
    server.stop()


@pytest.fixture
def own(vault: RedisServer, start_gateway: Start) -> GatewayProcess:
    return start_gateway(vault.url, retry=0.2, drain_seconds=0.1)


def keys(vault: RedisServer, *words: str) -> Any:
    command = [sys.executable, "-m", "gateway", "keys", *words, "--redis-url", vault.url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(answer) if "--json" in words else None


@pytest.fixture
def key(vault: RedisServer) -> dict[str, str]:
    made: dict[str, str] = keys(
        vault, "create", "--name", "page", "--scopes", "subscribe,publish", "--tenant", "cust_1", "--json"
    )
    return made


@pytest.fixture
def view(key: dict[str, str], own: GatewayProcess, new_view: OpenView, stream: str) -> View:
    """The page, as somebody without a key finds it."""
    found = new_view(own.url, viewport=DESKTOP)
    found.goto(f"/#/events?stream={stream}&last=100")
    found.wait_state("closed")
    return found


def enter(view: View, key: str) -> None:
    view.page.fill("#access-token", key)
    view.page.keyboard.press("Enter")


def add(vault: RedisServer, stream: str, data: int, tenant: str = "cust_1") -> None:
    with vault.client() as client:
        client.xadd(stream, {"type": "a.b", "data": str(data), "tenant": tenant})


def test_it_asks_for_a_key_and_works_with_one(view: View, vault: RedisServer, key: dict[str, str], stream: str) -> None:
    page = view.page
    expect(page.get_by_role("heading", name="Access")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("Not connected")
    for wrong, complaint in [("two words", "no blanks"), ("gwk_wrong", "not")]:
        enter(view, wrong)
        expect(page.locator("#access-token-error")).to_contain_text(complaint)
    view.wait_state("closed")
    enter(view, key["key"])
    view.wait_state("open")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("#panel")).to_be_hidden()
    add(vault, stream, 1, "cust_2")
    add(vault, stream, 2)
    view.wait_rows(1)
    assert view.data() == ["2"], "this tenant's events only"
    page.click("#publish-open")
    page.fill("#publish-data", "3")
    page.click("#publish-send")
    view.wait_rows(2)
    page.reload()
    view.wait_rows(2)
    page.click("#access-open")
    page.click("#access-forget")
    view.wait_state("closed")
    page.reload()
    view.wait_state("closed")


def test_the_key_is_in_no_address_and_in_no_other_tab(
    view: View, own: GatewayProcess, key: dict[str, str], new_view: OpenView
) -> None:
    enter(view, key["key"])
    view.wait_state("open")
    assert not [url for url in view.requests if key["key"] in url]
    assert "ticket=gwt_" in view.streams[-1]
    assert key["key"] not in view.page.content()
    other = view.context.new_page()
    other.goto(own.url)
    other.wait_for_selector('#connection[data-state="closed"]')


def test_a_restart_is_outlived_with_a_new_ticket(
    view: View, vault: RedisServer, own: GatewayProcess, key: dict[str, str], stream: str
) -> None:
    enter(view, key["key"])
    view.wait_state("open")
    for n in range(1, 4):
        add(vault, stream, n)
    view.wait_rows(3)
    own.kill()
    view.wait_state("reconnecting")
    for n in range(4, 7):
        add(vault, stream, n)
    own.start()
    view.wait_rows(6)
    assert view.data() == [str(n) for n in range(1, 7)]


def test_a_revoked_key_ends_it(view: View, vault: RedisServer, key: dict[str, str]) -> None:
    enter(view, key["key"])
    view.wait_state("open")
    keys(vault, "revoke", key["id"])
    view.wait_state("closed")
    expect(view.page.get_by_role("alert")).to_contain_text("Your access was revoked.")
    view.page.get_by_role("button", name="Enter a key").click()
    expect(view.page.locator("#access-token")).to_be_visible()


def test_the_copied_curl_line_takes_the_key_from_the_environment(
    view: View, vault: RedisServer, key: dict[str, str], stream: str
) -> None:
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    enter(view, key["key"])
    view.wait_state("open")
    add(vault, stream, 7)
    view.wait_rows(1)
    view.page.click("#copy-curl")
    expect(view.page.locator("#copy-curl")).to_have_text("Copied")
    line = view.page.evaluate("navigator.clipboard.readText()")
    assert key["key"] not in line
    shell = subprocess.run(
        ["sh", "-c", f"{line} -m 3"], env={"GATEWAY_TOKEN": key["key"], "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert b'"data":7}' in shell.stdout
