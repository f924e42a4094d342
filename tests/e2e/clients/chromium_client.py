# ruff: noqa: T201 - printing is what they do
"""Chromium's own EventSource: ``python chromium_client.py PAGE NAME=URL... -- TYPE...``, one EventSource each."""

import json
import sys
import tempfile

from playwright.sync_api import sync_playwright

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LISTEN = """([name, url, types]) => {
  const source = new EventSource(url)
  source.onopen = () => say({ client: name, open: true })
  source.onerror = () => say({ client: name, error: "error", state: source.readyState })
  for (const type of ["message", ...types]) {
    source.addEventListener(type, (event) =>
      say({ client: name, type: event.type, data: event.data, id: event.lastEventId }))
  }
}"""

page_url, *words = sys.argv[1:]
sources, types = words[: words.index("--")], words[words.index("--") + 1 :]
with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
    context = playwright.chromium.launch_persistent_context(profile, executable_path="/usr/bin/chromium", args=FLAGS)
    page = context.pages[0]
    page.expose_function("say", lambda line: print(json.dumps(line), flush=True))
    page.goto(page_url)
    for source in sources:
        name, _, url = source.partition("=")
        page.evaluate(LISTEN, [name, url, types])
    while True:
        page.wait_for_timeout(100)
