"""Whether people can use the page: keyboard, screen readers, phones, both colour schemes."""

from __future__ import annotations

import itertools

import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import OpenView, Publish
from tests.dashboard.view import DESKTOP, PHONE, View
from tests.support.gateway import GatewayProcess

LONG = '{"text":"' + "w" * 3000 + '"}'

RATIOS = """(pairs) => {
  const probe = document.createElement("p");
  document.body.append(probe);
  const context = document.createElement("canvas").getContext("2d");
  const luminance = (name) => {
    probe.style.color = `var(--${name})`;
    context.fillStyle = getComputedStyle(probe).color;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => {
      const s = v / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return pairs.map((names) => {
    const [one, two] = names.map(luminance);
    return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  });
}"""

GROUNDS = ("ground", "surface", "raised", "sunken", "hover", "chosen")
TEXT = [
    *itertools.product(("ink", "ink-soft"), GROUNDS),
    *itertools.product(("accent",), ("surface", "raised", "hover")),
    *itertools.product(("json-key", "json-string", "json-number", "json-literal"), ("sunken",)),
    *itertools.product(("good", "warning", "bad"), ("ground", "surface", "raised", "sunken")),
    ("bad", "bad-ground"),
    ("ink", "bad-ground"),
    ("warning", "warning-ground"),
    ("ink", "warning-ground"),
    ("ink", "info-ground"),
    ("accent", "info-ground"),
    ("on-accent", "accent-strong"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_edges_have_contrast(new_view: OpenView, gateway: GatewayProcess, scheme: str) -> None:
    view = new_view(gateway.url, color_scheme=scheme)
    view.goto("/")
    ratios = dict(zip(TEXT, view.page.evaluate(RATIOS, TEXT), strict=True))
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}
    borders = [("edge", "surface"), ("edge", "raised")]
    assert min(view.page.evaluate(RATIOS, borders)) >= 3, "WCAG 1.4.11: the border of a field"


def test_the_colours_can_be_chosen_and_are_kept(view: View, stream: str) -> None:
    view.open(stream)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = view.page.evaluate(ground)
    button = view.page.get_by_role("button", name="Colours")
    for name in ("light", "dark"):
        button.click()
        expect(button).to_have_accessible_name(f"Colours: {name}")
    dark = view.page.evaluate(ground)
    assert dark != light
    view.page.reload()
    assert view.page.evaluate(ground) == dark
    expect(button).to_have_accessible_name("Colours: dark")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_scrolls_sideways(
    new_view: OpenView, gateway: GatewayProcess, publish: Publish, stream: str, width: int
) -> None:
    view = new_view(gateway.url, viewport={"width": width, "height": 800}, has_touch=width < 500, is_mobile=width < 500)

    def fits(what: str) -> None:
        wide = view.page.evaluate(
            "[document.documentElement, ...document.querySelectorAll('.panel, .list, .empty')]"
            ".filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.className)"
        )
        assert wide == [], what
        assert view.page.evaluate("document.documentElement.clientWidth") == width

    view.open(stream)
    fits("empty")
    publish("a." + "b" * 120, LONG, channel="c" * 128, tenant="t" * 128)
    publish("sms.sent", '"short"')
    view.wait_rows(2)
    fits("rows")
    view.page.locator(".row-event").nth(1).click()
    expect(view.page.locator("#details")).to_be_visible()
    fits("details")
    view.page.click("#panel-close")
    view.page.click("#publish-open")
    fits("publish")
    view.page.click("#panel-close")
    if width < 768:
        view.page.click("#filters-toggle")
        fits("filters")
        view.page.fill("#filter-type", "sms.*")
        view.page.click("#filters-apply")
        view.wait_rows(1)
        expect(view.page.locator("#filters")).to_be_hidden()
        expect(view.page.locator("#filters-summary")).to_contain_text("sms.*")


def test_everything_on_a_phone_is_large_enough_to_touch(
    new_view: OpenView, gateway: GatewayProcess, stream: str
) -> None:
    view = new_view(gateway.url, viewport=PHONE, has_touch=True, is_mobile=True).open(stream)
    view.page.click("#filters-toggle")
    small = view.page.evaluate(
        "[...document.querySelectorAll('button, input, select, .sections a')].filter((node) => node.checkVisibility())"
        ".map((node) => [node.id, node.getBoundingClientRect().height]).filter(([, height]) => height < 44)"
    )
    assert small == []


def test_the_keyboard_reaches_everything(
    new_view: OpenView, gateway: GatewayProcess, publish: Publish, stream: str
) -> None:
    view = new_view(gateway.url, viewport=DESKTOP)
    for n in range(1, 101):
        publish("a.b", str(n))
    view.open(stream)
    view.wait_count("received", 100)
    order = []
    for _ in range(17):
        view.page.keyboard.press("Tab")
        order.append(view.page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert order == [
        *("skip-link", "Events", "theme", "publish-open"),
        *("filter-type", "filter-channel", "filter-stream", "filter-start", "filter-start-value"),
        *("filters-apply", "copy-curl", "copy-link", "pause", "clear", "find", "events"),
        order[-1],
    ]


def test_the_list_is_worked_by_keys(new_view: OpenView, gateway: GatewayProcess, publish: Publish, stream: str) -> None:
    view = new_view(gateway.url, viewport=DESKTOP)
    for n in range(1, 101):
        publish("a.b", str(n))
    view.open(stream)
    view.wait_count("received", 100)
    page, events = view.page, view.page.locator("#events")

    def active() -> str:
        # The row that assistive technology is told of is in the document, in sight, and the chosen one.
        return str(
            page.evaluate(
                """() => {
                  const list = document.getElementById("events");
                  const row = document.getElementById(list.getAttribute("aria-activedescendant"));
                  const [inner, outer] = [row.getBoundingClientRect(), list.getBoundingClientRect()];
                  if (row.ariaSelected !== "true") return "not chosen";
                  if (inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1) return "out of sight";
                  return row.querySelector(".row-data")?.textContent ?? row.textContent;
                }"""
            )
        )

    page.focus("#skip-link")
    page.keyboard.press("Enter")
    expect(events).to_be_focused()
    for key, row in [
        ("ArrowDown", "Live from here"),
        ("ArrowDown", "100"),
        ("ArrowDown", "99"),
        ("ArrowUp", "100"),
        ("End", "1"),
    ]:
        page.keyboard.press(key)
        assert active() == row
    publish("a.b", "101")
    expect(page.locator("#newer")).to_be_visible()
    assert active() == "1", "the view is held while an event is read"
    expect(page.locator("#details .payload")).to_have_text("1")
    page.keyboard.press("Enter")
    expect(page.locator("#panel-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(events).to_be_focused()
    expect(page.locator("#panel")).to_be_hidden()
    page.keyboard.press("Home")
    assert active() == "Live from here"
    page.keyboard.press("Escape")
    expect(page.locator("#newer")).to_be_hidden()
    expect(page.locator(".row-data").first).to_have_text("101")
    page.keyboard.press("Space")
    expect(page.locator("#pause")).to_have_text("Resume")


def test_on_a_phone_the_panel_covers_the_page_and_gives_the_focus_back(
    new_view: OpenView, gateway: GatewayProcess, publish: Publish, stream: str
) -> None:
    view = new_view(gateway.url, viewport=PHONE, has_touch=True, is_mobile=True)
    publish("a.b")
    view.open(stream)
    view.page.focus("#publish-open")
    view.page.keyboard.press("Enter")
    expect(view.page.locator("#panel-title")).to_be_focused()
    for _ in range(12):
        view.page.keyboard.press("Tab")
        outside = "document.activeElement.closest('body > .app') && !document.activeElement.closest('#panel')"
        assert not view.page.evaluate(outside), "what is covered cannot be reached"
    view.page.click("#panel-close")
    expect(view.page.locator("#publish-open")).to_be_focused()


def test_screen_readers_hear_states_not_events(view: View, publish: Publish, stream: str) -> None:
    view.open(stream)
    said = view.page.locator("#announcer")
    expect(said).to_have_text("Connection: Live")
    for _ in range(5):
        publish("a.b")
    view.wait_rows(5)
    expect(said).to_have_text("Connection: Live")
    live = view.page.evaluate(
        "[...document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]')].map((node) => node.id)"
    )
    assert sorted(live) == ["announcer", "publish-result"]
    assert view.page.evaluate("[...document.querySelectorAll('.row')].every((row) => row.role === 'option')")


def test_nothing_jumps_while_events_come(
    new_view: OpenView, gateway: GatewayProcess, publish: Publish, stream: str
) -> None:
    view = new_view(gateway.url, viewport=DESKTOP).open(stream)
    for n in range(1, 31):
        publish("a.b", str(n))
    view.wait_count("received", 30)
    assert view.page.evaluate("window.shifts") < 0.02


def test_less_motion_is_respected(new_view: OpenView, gateway: GatewayProcess) -> None:
    view = new_view(gateway.url, reduced_motion="reduce")
    view.page.route("**/api/events?*", lambda route: None)
    view.goto("/")
    view.wait_state("connecting")
    assert view.page.evaluate("document.getAnimations().length") == 0


def test_the_page_works_under_a_path(
    new_view: OpenView, gateway: GatewayProcess, publish: Publish, stream: str
) -> None:
    """Behind a proxy that serves the gateway at /live/."""
    view = new_view(gateway.url)
    view.page.route("**/live/**", lambda route: route.continue_(url=route.request.url.replace("/live/", "/", 1)))
    publish("a.b", "1")
    view.goto(f"/live/#/events?stream={stream}")
    view.wait_rows(1)
    assert all("/live/" in url for url in view.requests)
