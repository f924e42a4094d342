"""Cuts of every kind: nothing lost, nothing twice, and the user is told."""

from __future__ import annotations

import pytest
import redis
from playwright.sync_api import Route, expect

from tests.conftest import Start
from tests.dashboard.conftest import OpenView, Publish
from tests.dashboard.view import View
from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until_sync

SOON = {"retry": 0.2, "drain_seconds": 0.1}


def numbers(first: int, last: int) -> list[str]:
    return [str(n) for n in range(first, last + 1)]


@pytest.fixture
def own(start_gateway: Start, valkey: RedisServer) -> GatewayProcess:
    """A gateway that the test may stop."""
    return start_gateway(valkey.url, **SOON)


@pytest.mark.parametrize("politely", [True, False])
def test_a_restart_neither_loses_nor_repeats_an_event(
    own: GatewayProcess, new_view: OpenView, publish: Publish, stream: str, politely: bool
) -> None:
    view = new_view(own.url).open(stream, "since=latest")
    for n in range(1, 21):
        publish("a.b", str(n))
    view.wait_rows(20)
    if politely:
        own.stop()
    else:
        own.kill()
    view.wait_state("reconnecting")
    for n in range(21, 41):
        publish("a.b", str(n))
    own.start()
    view.wait_state("open")
    for n in range(41, 61):
        publish("a.b", str(n))
    view.wait_rows(60)
    assert view.data() == numbers(1, 60)
    view.wait_count("received", 60)
    view.wait_count("gaps", 0)
    marks = view.texts(".row-mark")
    assert marks[0].startswith("Connection back; ")
    assert marks[1:] == (["The gateway is being restarted. The connection ends here"] if politely else [])


def test_a_cut_before_the_first_event_loses_none(
    own: GatewayProcess, new_view: OpenView, publish: Publish, stream: str
) -> None:
    publish("a.b", "0")
    view = new_view(own.url).open(stream, "since=latest")
    expect(view.page.locator("#empty")).to_be_visible()
    own.kill()
    view.wait_state("reconnecting")
    publish("a.b", "1")
    own.start()
    view.wait_rows(1)
    assert view.data() == ["1"]


def test_a_proxy_that_answers_502_is_outlived(
    own: GatewayProcess, new_view: OpenView, publish: Publish, stream: str
) -> None:
    view = new_view(own.url).open(stream)
    publish("a.b", "1")
    view.wait_rows(1)
    view.page.route("**/api/events?*", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    own.kill()
    # EventSource gives up for good on a 502; the page counts down and opens a new one.
    expect(view.page.locator("#connection-text")).to_contain_text("Retry in")
    expect(view.page.locator(".notice-warning")).to_contain_text("502")
    publish("a.b", "2")
    own.start()
    view.page.unroute("**/api/events?*")
    view.wait_state("open")
    publish("a.b", "3")
    view.wait_rows(3)
    assert view.data() == numbers(1, 3)
    expect(view.page.locator(".notice")).to_have_count(0)
    assert "last_event_id=" in view.streams[-1]


def test_retry_after_is_obeyed(view: View, stream: str) -> None:
    def away(route: Route) -> None:
        problem = '{"detail":"Redis is away","status":503}'
        route.fulfill(
            status=503, headers={"Retry-After": "40", "Content-Type": "application/problem+json"}, body=problem
        )

    view.page.route("**/api/events?*", away)
    view.goto(f"/#/events?stream={stream}")
    expect(view.page.locator(".notice-warning")).to_contain_text("Redis is away")
    text = view.page.locator("#connection-text").inner_text()
    assert 30 < int(text.split()[2]) <= 42


@pytest.mark.parametrize(("status", "detail"), [(401, "send a token"), (403, "this key may not read channel billing")])
def test_a_refusal_ends_it_until_the_user_tries_again(view: View, stream: str, status: int, detail: str) -> None:
    refuse = f'{{"detail":"{detail}","status":{status}}}'
    view.page.route("**/api/events?*", lambda route: route.fulfill(status=status, body=refuse))
    view.goto(f"/#/events?stream={stream}")
    view.wait_state("closed")
    expect(view.page.get_by_role("alert")).to_contain_text(detail[1:])
    tried = len(view.streams)
    view.page.unroute("**/api/events?*")
    view.page.get_by_role("button", name="Connect again").click()
    view.wait_state("open")
    assert len(view.streams) == tried + 1
    expect(view.page.get_by_role("alert")).to_have_count(0)


def test_a_goodbye_that_says_stay_away_is_obeyed(view: View, stream: str) -> None:
    body = 'event: gateway.closing\ndata: {"reason":"revoked","reconnect":false}\nid: 1-0\n\n'
    view.page.route("**/api/events?*", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    view.goto(f"/#/events?stream={stream}")
    view.wait_state("closed")
    expect(view.page.get_by_role("alert")).to_contain_text("Your access was revoked.")
    assert len(view.streams) == 1


def test_a_gap_cannot_be_overlooked(
    own: GatewayProcess, new_view: OpenView, publish: Publish, db: redis.Redis, stream: str
) -> None:
    view = new_view(own.url).open(stream)
    first = publish("a.b", "1")
    view.wait_rows(1)
    own.kill()
    for n in range(2, 8):
        publish("a.b", str(n))
    db.xtrim(stream, maxlen=2, approximate=False)
    own.start()
    view.wait_rows(3)
    assert view.data() == ["1", "6", "7"]
    alert = view.page.get_by_role("alert")
    expect(alert).to_contain_text("Events are missing.")
    expect(alert).to_contain_text(f"“{stream}” no longer holds everything after {first}.")
    view.wait_count("gaps", 1)
    rows = view.texts(".row")
    assert [row.startswith("Gap: ") for row in rows if "Connection back" not in row] == [False, False, True, False]


def test_a_recreated_stream_is_told(
    own: GatewayProcess, new_view: OpenView, publish: Publish, db: redis.Redis, stream: str
) -> None:
    view = new_view(own.url).open(stream)
    publish("a.b", "1")
    view.wait_rows(1)
    own.kill()
    db.delete(stream)
    db.xadd(stream, {"type": "a.b", "data": "2"}, id="1-1")
    own.start()
    view.wait_rows(2)
    expect(view.page.get_by_role("alert")).to_contain_text("was deleted and began anew")


HIDE = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true });"
CHANGED = "document.dispatchEvent(new Event('visibilitychange'));"
LATER = "{ const now = Date.now; Date.now = () => now() + %d; }"
AWAY_AND_BACK = {
    # iOS and Safari cut the stream of a page in the background without an error.
    "background": HIDE % "true" + CHANGED + LATER % 30_000 + HIDE % "false" + CHANGED,
    "back-forward cache": "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));"
    "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));",
    "sleep": LATER % 60_000,
}


@pytest.mark.parametrize("how", AWAY_AND_BACK)
def test_coming_back_resumes_where_the_page_was(view: View, publish: Publish, stream: str, how: str) -> None:
    view.open(stream)
    for n in range(1, 6):
        publish("a.b", str(n))
    view.wait_rows(5)
    last = view.texts(".row-id")[0]
    assert len(view.streams) == 1
    view.page.evaluate(AWAY_AND_BACK[how])
    wait_until_sync(lambda: view.page.evaluate("1") and len(view.streams) == 2, "a second EventSource")
    assert f"last_event_id={last}" in view.streams[1]
    for n in range(6, 11):
        publish("a.b", str(n))
    view.wait_rows(10)
    assert view.data() == numbers(1, 10)


def test_a_page_that_is_put_aside_frees_its_connection(view: View, publish: Publish, stream: str) -> None:
    """One of the six that a browser has for a host."""
    view.open(stream)
    with view.page.expect_event("requestfailed", lambda request: request.resource_type == "eventsource"):
        view.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    publish("a.b", "1")
    assert len(view.streams) == 1
    view.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    view.wait_rows(1)


def test_a_short_look_elsewhere_changes_nothing(view: View, publish: Publish, stream: str) -> None:
    view.open(stream)
    view.page.evaluate(HIDE % "true" + CHANGED + HIDE % "false" + CHANGED)
    publish("a.b", "1")
    view.wait_rows(1)
    assert len(view.streams) == 1


def test_a_connection_that_does_not_come_gets_a_hint(view: View, stream: str) -> None:
    view.page.route("**/api/events?*", lambda route: None)
    view.goto(f"/#/events?stream={stream}")
    view.wait_state("connecting")
    view.page.evaluate(LATER % 10_000)
    expect(view.page.locator(".notice-info")).to_contain_text("six connections")
