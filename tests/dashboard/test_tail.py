"""Events on the page, from XADD to the row: a real gateway, a real browser."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Route, expect

from tests.dashboard.conftest import OpenView, Publish
from tests.dashboard.view import DESKTOP, View
from tests.support.gateway import GatewayProcess
from tests.support.wait import wait_until_sync

MARKUP = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'


def test_events_appear_newest_first(view: View, publish: Publish, stream: str) -> None:
    publish("sms.sent", '{"n":1}')
    view.open(stream)
    view.wait_rows(1)
    ids = [publish("sms.delivered", f'{{"n":{n}}}', channel="orders/eu") for n in range(2, 40)]
    view.wait_rows(39)
    assert view.data() == [f'{{"n":{n}}}' for n in range(1, 40)]
    assert view.texts(".row-id")[:38] == ids[::-1]
    assert view.texts(".row-channel")[0] == "orders/eu"
    assert view.texts(".row-mark") == ["Live from here"]
    view.wait_count("received", 39)


def test_an_empty_stream_says_how_to_publish_and_the_lines_work(
    view: View, gateway: GatewayProcess, valkey: object, stream: str, publish: Publish
) -> None:
    view.open(stream)
    over_http, into_redis = view.page.locator("#empty code").all_text_contents()
    assert f"{gateway.url}/api/events" in over_http
    assert f"XADD {stream} " in into_redis
    answer = subprocess.run(["sh", "-c", over_http], capture_output=True, check=True)
    assert len(json.loads(answer.stdout)["ids"]) == 1
    publish("a.b")
    view.wait_rows(1)
    expect(view.page.locator("#empty")).to_be_hidden()


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("type=sms.*", ["sms.sent", "sms.ai.sent"]),
        ("type=sms.sent,voice.*", ["sms.sent", "voice.answered"]),
        ("channel=eu/*", ["voice.answered", "order.paid"]),
        ("channel=eu/*&type=voice.*,sms.*", ["voice.answered"]),
        ("type=*", ["sms.sent", "sms.ai.sent", "voice.answered", "order.paid"]),
    ],
)
def test_filters_apply_to_history_and_to_what_follows(
    view: View, publish: Publish, stream: str, query: str, seen: list[str]
) -> None:
    def all_kinds() -> None:
        publish("sms.sent")
        publish("sms.ai.sent")
        publish("voice.answered", channel="eu/west")
        publish("order.paid", channel="eu/east")

    all_kinds()
    view.open(stream, f"{query}&last=100")
    view.wait_rows(len(seen))
    all_kinds()
    view.wait_rows(2 * len(seen))
    assert view.texts(".row-type")[::-1] == seen * 2


def test_the_form_and_the_address_say_the_same(view: View, publish: Publish, stream: str) -> None:
    for kind in ("sms.sent", "voice.answered"):
        publish(kind)
    view.open(stream)
    view.wait_rows(2)
    view.page.fill("#filter-type", "sms.*  order.paid")
    view.page.select_option("#filter-start", "since")
    view.page.fill("#filter-start-value", "earliest")
    view.page.click("#filters-apply")
    view.wait_rows(1)
    assert view.page.url.endswith(f"#/events?stream={stream}&type=sms.*,order.paid&since=earliest")
    view.page.go_back()
    view.wait_rows(2)
    assert view.page.input_value("#filter-type") == ""
    view.page.go_forward()
    view.wait_rows(1)
    assert view.page.input_value("#filter-type") == "sms.*, order.paid"
    assert view.page.input_value("#filter-start-value") == "earliest"


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("type", "sms/*", "cannot match"),
        ("channel", "a b!c", "cannot match"),
        ("stream", "ev*nts", "cannot match"),
        ("start-value", "1001", "from 1 to 1000"),
    ],
)
def test_a_filter_that_cannot_match_is_refused_in_place(
    view: View, stream: str, field: str, text: str, message: str
) -> None:
    view.open(stream)
    before = view.page.url
    view.page.fill(f"#filter-{field}", text)
    view.page.click("#filters-apply")
    expect(view.page.locator(f"#filter-{field.removesuffix('-value')}-error")).to_contain_text(message)
    expect(view.page.locator(f"#filter-{field}")).to_be_focused()
    assert view.page.url == before


def test_what_the_gateway_refuses_stands_beside_the_field(view: View, stream: str) -> None:
    view.goto(f"/#/events?stream={stream}&since=yesterday")
    view.wait_state("closed")
    expect(view.page.locator("#filter-start-error")).to_contain_text("RFC 3339")
    expect(view.page.locator(".notice-bad")).to_contain_text("Not connected")
    view.page.fill("#filter-start-value", "10m")
    view.page.click("#filters-apply")
    view.wait_state("open")
    expect(view.page.locator(".notice")).to_have_count(0)
    expect(view.page.locator("#filter-start-error")).to_be_empty()


def test_a_payload_is_shown_and_copied_as_it_was_published(
    new_view: OpenView, gateway: GatewayProcess, publish: Publish, stream: str
) -> None:
    view = new_view(gateway.url, viewport=DESKTOP, permissions=["clipboard-read", "clipboard-write"])
    text = '{"big":9007199254740993,"one":1.0,"e":1E+2,"z":[],"a":"\\u00e9","dup":1,"dup":2}'
    event_id = publish("order.created", text, tenant="cust_1")
    view.open(stream)
    view.page.locator(".row-event").click()
    details = view.page.locator("#details")
    shown = details.locator(".payload").inner_text()
    assert "".join(shown.split()) == text
    assert details.locator("dd").all_text_contents()[:4] == [event_id, stream, "order", "cust_1"]
    clipboard = {}
    for label in ("Copy id", "Copy data", "Copy envelope", "Copy curl from here"):
        details.get_by_role("button", name=label).click()
        expect(details.get_by_role("button", name="Copied")).to_have_count(len(clipboard) + 1)
        clipboard[label] = view.page.evaluate("navigator.clipboard.readText()")
    assert clipboard["Copy id"] == event_id
    assert clipboard["Copy data"] == text
    assert clipboard["Copy envelope"].endswith(f'"tenant":"cust_1","data":{text}}}')
    after = publish("order.paid")
    assert follow(clipboard["Copy curl from here"]) == [after]


def follow(curl: str) -> list[str]:
    """Ids that the copied curl line prints before the replay is over."""
    with subprocess.Popen(["sh", "-c", f"exec {curl}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        ids = []
        for line in child.stdout:
            if line.startswith(b"event: gateway.caught-up"):
                break
            if line.startswith(b"id: "):
                ids.append(line[4:].decode().strip())
        child.kill()
    return ids


def test_the_copied_curl_line_follows_the_same_filter(
    new_view: OpenView, gateway: GatewayProcess, publish: Publish, stream: str
) -> None:
    view = new_view(gateway.url, viewport=DESKTOP, permissions=["clipboard-read", "clipboard-write"])
    publish("voice.answered")
    wanted = [publish("sms.sent"), publish("sms.failed")]
    view.open(stream, "type=sms.*&last=10")
    view.page.click("#copy-curl")
    expect(view.page.locator("#copy-curl")).to_have_text("Copied")
    assert follow(view.page.evaluate("navigator.clipboard.readText()")) == wanted


@pytest.mark.parametrize("data", [MARKUP, json.dumps({MARKUP: MARKUP}), json.dumps(f"</pre>{MARKUP}")])
def test_markup_in_a_payload_stays_text(view: View, publish: Publish, stream: str, data: str) -> None:
    publish("sms.sent", data)
    view.open(stream)
    view.wait_rows(1)
    view.page.locator(".row-event").click()
    assert MARKUP[:20] in json.loads(json.dumps(view.data()[0])).replace("\\", "")
    expect(view.page.locator("#details .payload")).to_contain_text("onerror=")
    assert view.page.locator("#events img, #events script, #details img, #details script").count() == 0
    assert view.page.evaluate("window.pwned") is None


def test_markup_in_control_events_and_problems_stays_text(view: View, stream: str) -> None:
    gap = {"stream": MARKUP, "requested": MARKUP, "resumed_at": MARKUP, "reason": MARKUP}
    blocks = [
        f"event: gateway.gap\ndata: {json.dumps(gap)}\nid: 1-0\n\n",
        f"event: gateway.skipped\ndata: {json.dumps({'stream': MARKUP, 'id': MARKUP, 'reason': MARKUP})}\nid: 1-1\n\n",
        f"event: gateway.closing\ndata: {json.dumps({'reason': MARKUP, 'reconnect': False})}\nid: 1-2\n\n",
    ]

    def answer(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body="".join(blocks))

    view.page.route("**/api/events?*", answer)
    view.goto(f"/#/events?stream={stream}")
    view.wait_state("closed")
    assert len(view.texts(".row-mark")) == 3
    expect(view.page.locator(".notice")).to_have_count(3)
    for text in view.texts(".notice-text"):
        assert "onerror=" in text
    assert view.page.locator("#live img, #live script").count() == 0
    assert view.page.evaluate("window.pwned") is None


def test_a_skipped_entry_is_reported(view: View, db: redis.Redis, publish: Publish, stream: str) -> None:
    view.open(stream)
    db.xadd(stream, {"type": "no good", "data": "{}"})
    db.xadd(stream, {"data": "{}"})
    publish("sms.sent")
    view.wait_rows(1)
    view.wait_count("skipped", 2)
    notice = view.page.locator(".notice-warning")
    expect(notice).to_contain_text("2 entries were skipped")
    expect(notice).to_contain_text("1 × invalid type, 1 × missing type")
    assert [text.split(": ")[1] for text in view.texts(".row-skipped")] == ["missing type", "invalid type"]
    notice.get_by_role("button", name="Dismiss").click()
    expect(notice).to_have_count(0)


@pytest.fixture
def busy(view: View, db: redis.Redis, stream: str) -> Iterator[View]:
    view.open(stream, "since=latest")
    view.page.set_viewport_size(DESKTOP)
    return view


def load(db: redis.Redis, stream: str, first: int, last: int) -> None:
    with db.pipeline(transaction=False) as pipe:
        for n in range(first, last + 1):
            pipe.xadd(stream, {"type": "load.test", "data": f'{{"n":{n}}}'})
        pipe.execute()


def test_a_flood_keeps_the_newest_rows_and_counts_the_rest(busy: View, db: redis.Redis, stream: str) -> None:
    load(db, stream, 1, 12_000)
    busy.wait_count("received", 12_000)
    busy.wait_count("dropped", 7_000)
    assert busy.type_of(0) == "load.test"
    assert busy.texts(".row-data")[0] == '{"n":12000}'
    assert busy.page.locator(".row").count() < 60, "only rows in sight are in the document"
    busy.page.locator("#events").evaluate("(list) => { list.scrollTop = list.scrollHeight; }")
    expect(busy.page.locator(".row-data").last).to_have_text('{"n":7001}')


def test_a_paused_view_stands_still_and_loses_nothing(busy: View, db: redis.Redis, stream: str) -> None:
    load(db, stream, 1, 10)
    busy.wait_rows(10)
    busy.page.click("#pause")
    load(db, stream, 11, 6_000)
    busy.wait_count("received", 6_000)
    expect(busy.page.locator("#newer")).to_have_text("5,990 newer")
    assert busy.texts(".row-data") == [f'{{"n":{n}}}' for n in range(10, 0, -1)]
    busy.page.get_by_role("button", name="Resume").click()
    expect(busy.page.locator(".row-data").first).to_have_text('{"n":6000}')
    expect(busy.page.locator("#tail-note")).to_have_text("5,000 rows")
    busy.wait_count("dropped", 1_000)
    expect(busy.page.locator("#newer")).to_be_hidden()


def test_scrolling_away_holds_the_view_and_back_to_the_top_follows(busy: View, db: redis.Redis, stream: str) -> None:
    load(db, stream, 1, 200)
    busy.wait_count("received", 200)
    busy.page.locator("#events").evaluate("(list) => { list.scrollTop = 1000; }")
    expect(busy.page.locator("#newer")).to_be_hidden()
    before = busy.texts(".row-data")
    load(db, stream, 201, 300)
    expect(busy.page.locator("#newer")).to_have_text("100 newer")
    assert busy.texts(".row-data") == before
    busy.page.locator("#events").evaluate("(list) => { list.scrollTop = 0; }")
    expect(busy.page.locator(".row-data").first).to_have_text('{"n":300}')


def test_find_and_clear(busy: View, db: redis.Redis, stream: str) -> None:
    load(db, stream, 1, 120)
    busy.page.fill("#find", '"n":11')
    expect(busy.page.locator("#tail-note")).to_have_text('11 rows with “"n":11”')
    load(db, stream, 1100, 1101)
    expect(busy.page.locator("#tail-note")).to_have_text('13 rows with “"n":11”')
    busy.page.fill("#find", "nothing")
    expect(busy.page.locator("#empty")).to_contain_text("No row in view")
    busy.page.fill("#find", "")
    busy.page.click("#clear")
    expect(busy.page.locator("#empty")).to_contain_text("Waiting for events")
    load(db, stream, 2000, 2000)
    busy.wait_rows(1)


def test_several_streams_at_once(view: View, db: redis.Redis, stream: str) -> None:
    names = [f"{stream}.a", f"{stream}.b"]
    view.open(",".join(names))
    for n in range(6):
        db.xadd(names[n % 2], {"type": "a.b", "data": str(n)})
        wait_until_sync(lambda n=n: len(view.data()) == n + 1, "the row is there")  # type: ignore[misc]
    assert view.data() == [str(n) for n in range(6)]
