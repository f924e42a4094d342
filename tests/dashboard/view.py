"""The page as a user has it: a real Chromium, and what can be seen in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Request, Response

CHROMIUM = Path("/usr/bin/chromium")
LAUNCH: Mapping[str, Any] = {
    "executable_path": str(CHROMIUM),
    "args": [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ],
}
# High enough for a hundred rows: the list keeps only those in sight in the document.
TALL = {"width": 1280, "height": 4_000}
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

_WATCH = """
window.violations = [];
window.shifts = 0;
addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective + event.blockedURI));
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


class View:
    """One tab. `origin` is the gateway's base URL; `close` says what went wrong that nobody looked for."""

    def __init__(self, browser: Browser, origin: str, **context: Any) -> None:
        self.origin = origin
        self.context = browser.new_context(**{"viewport": TALL, **context})
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.streams: list[str] = []
        self.page.add_init_script(_WATCH)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._requested)
        self.page.set_default_timeout(20_000)

    def open(self, stream: str, query: str = "last=100") -> View:
        """Go to the page with `stream` and this query, and wait until it is live."""
        self.goto(f"/#/events?stream={stream}&{query}")
        self.wait_state("open")
        return self

    def goto(self, path: str) -> Response | None:
        return self.page.goto(self.origin + path)

    def wait_state(self, state: str) -> None:
        self.page.wait_for_selector(f'#connection[data-state="{state}"]')

    def wait_rows(self, count: int) -> None:
        """Until exactly `count` events are in sight."""
        self.page.wait_for_function("(n) => document.querySelectorAll('.row-event').length === n", arg=count)

    def wait_count(self, name: str, count: int) -> None:
        """Until the counter `name` shows `count`."""
        self.page.wait_for_function(
            "([id, text]) => document.getElementById(id).textContent === text", arg=[f"count-{name}", f"{count:,}"]
        )

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()

    def data(self) -> list[str]:
        """Payloads of the rows in sight, oldest first."""
        return self.texts(".row-data")[::-1]

    def type_of(self, position: int) -> str:
        return self.texts(".row-type")[position]

    @property
    def violations(self) -> list[str]:
        found: list[str] = self.page.evaluate("window.violations")
        return found

    def close(self) -> list[str]:
        """Script errors, breaches of the policy and requests to elsewhere, which no test expects."""
        foreign = [url for url in self.requests if not url.startswith((self.origin, "data:"))]
        found = [*self.errors, *self.violations, *foreign]
        self.page.unroute_all(behavior="ignoreErrors")
        self.context.close()
        return found

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)
        if request.resource_type == "eventsource":
            self.streams.append(request.url)
