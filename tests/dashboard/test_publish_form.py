"""Publishing from the page."""

from __future__ import annotations

import pytest
import redis
from playwright.sync_api import Route, expect

from tests.dashboard.conftest import OpenView
from tests.dashboard.view import DESKTOP, View
from tests.support.gateway import GatewayProcess


@pytest.fixture
def form(new_view: OpenView, gateway: GatewayProcess, stream: str) -> View:
    view = new_view(gateway.url, viewport=DESKTOP).open(stream)
    view.page.click("#publish-open")
    return view


def fill(view: View, type_: str, data: str, channel: str = "") -> None:
    view.page.fill("#publish-type", type_)
    view.page.fill("#publish-channel", channel)
    view.page.fill("#publish-data", data)
    view.page.click("#publish-send")


@pytest.mark.usefixtures("db")
def test_an_event_goes_out_as_it_was_typed_and_comes_back_as_a_row(form: View, db: redis.Redis, stream: str) -> None:
    fill(form, "order.created", '{\n "big": 9007199254740993, "one": 1.0\n}', channel="eu/west")
    expect(form.page.locator("#publish-result")).to_contain_text("Published ")
    form.wait_rows(1)
    [(event_id, fields)] = db.xrange(stream)
    assert form.page.locator("#publish-result").inner_text() == f"Published {event_id.decode()}"
    assert fields[b"channel"] == b"eu/west"
    assert "".join(fields[b"data"].decode().split()) == '{"big":9007199254740993,"one":1.0}'
    form.page.click("#publish-send")
    form.wait_rows(2)


@pytest.mark.parametrize(
    ("type_", "data", "channel", "wrong"),
    [
        ("not a type", "{}", "", {"type": "Must be dot-separated"}),
        ("gateway.x", "{}", "", {"type": "reserved"}),
        ("a.b", "{}", "no good", {"channel": "Must be 1 to 128"}),
        ("a..b", "{}", "é", {"type": "Must be", "channel": "Must be"}),
        ("a.b", '{"a":1,}', "", {"data": "Not JSON"}),
        ("a.b", '1,"channel":"x"', "", {"data": "Not JSON"}),
        ("", " ", "", {"type": "Give a type", "data": "Give a JSON value"}),
    ],
)
def test_what_is_wrong_stands_beside_its_field(
    form: View, db: redis.Redis, stream: str, type_: str, data: str, channel: str, wrong: dict[str, str]
) -> None:
    fill(form, type_, data, channel)
    for name in ("type", "channel", "data"):
        error = form.page.locator(f"#publish-{name}-error")
        field = form.page.locator(f"#publish-{name}")
        if name in wrong:
            expect(error).to_contain_text(wrong[name])
            expect(field).to_have_attribute("aria-invalid", "true")
        else:
            expect(error).to_be_empty()
            expect(field).to_have_attribute("aria-invalid", "false")
    expect(form.page.locator(f"#publish-{next(iter(wrong))}")).to_be_focused()
    assert db.xlen(stream) == 0


def test_pressing_again_after_a_lost_answer_publishes_once(form: View, db: redis.Redis, stream: str) -> None:
    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    form.page.route("**/api/events", lose_the_answer)
    fill(form, "a.b", "1")
    expect(form.page.locator("#publish-result")).to_contain_text("could not be reached")
    form.page.unroute("**/api/events")
    form.page.click("#publish-send")
    expect(form.page.locator("#publish-result")).to_contain_text("Published ")
    assert db.xlen(stream) == 1
    fill(form, "a.b", "1")
    form.wait_rows(2)
