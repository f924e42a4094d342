"""The parts of the page that are pure: run in Chromium, where they will run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.dashboard.view import View
from tests.support.gateway import GatewayProcess

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def call(browser: Browser, shared_gateway: Callable[..., GatewayProcess]) -> Iterator[Call]:
    """``call("json-text", "(m, text) => m.pretty(text)", text)``: what the function answers, given that module."""
    view = View(browser, shared_gateway("direct").url)
    response = view.goto("/#/events?since=latest")
    assert response is not None
    folder = re.search(r"assets/\w+/js/", response.text())
    assert folder is not None

    def run(module: str, body: str, *args: Any) -> Any:
        script = (
            f"async (args) => {{ const m = await import('./{folder[0]}{module}.js'); return (({body}))(m, ...args); }}"
        )
        return view.page.evaluate(script, list(args))

    yield run
    assert view.close() == []


@pytest.mark.parametrize(
    "text",
    [
        '{"n":9007199254740993,"x":1.0,"y":1e400,"z":-0,"e":1E+2}',
        '{"a":{},"b":[],"c":[[]],"d":[{}]}',
        '"\\u0000\\ud800 \\"quoted\\" back\\\\slash"',
        "null",
        "-12.50",
        '{"dup":1,"dup":2,"":{"x":[1,2,[3,{"y":null}]]}}',
        json.dumps({"k": "ü🙂\u2028"}, ensure_ascii=False),
        '{"s":"' + "x\\n" * 400_000 + '"}',
        "[" * 900 + "1" + "]" * 900,
    ],
)
def test_layout_changes_blanks_only(call: Call, text: str) -> None:
    shown = call("json-text", "(m, text) => m.pretty(text)", text)
    strings = r'"(?:[^"\\]|\\.)*"'
    assert re.findall(strings, shown) == re.findall(strings, text)
    assert re.sub(r"\s", "", re.sub(strings, "", shown)) == re.sub(r"\s", "", re.sub(strings, "", text))


def test_layout_indents(call: Call) -> None:
    shown = call("json-text", "(m, text) => m.pretty(text)", '{"a":[1,{"b":true}],"c":{}}')
    assert shown == '{\n  "a": [\n    1,\n    {\n      "b": true\n    }\n  ],\n  "c": {}\n}'


@pytest.mark.parametrize("text", ["not json", "{'a':1}", ""])
def test_what_is_not_json_is_shown_as_it_is(call: Call, text: str) -> None:
    assert call("json-text", "(m, text) => m.pretty(text)", text) == text


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?since=latest",
        "?last=200",
        "?since=earliest",
        "?since=1735732800000-0",
        "?since=orders@1-0,payments@2-3",
        "?stream=a,b:{c}&channel=orders/*,@me&type=sms.*,voice.answered&since=10m",
    ],
)
def test_an_address_survives_reading_and_writing(call: Call, query: str) -> None:
    address = f"#/events{query}"
    written = call("subscription", "(m, hash) => m.writeHash(m.readHash(hash))", address)
    assert written.replace("%7B", "{").replace("%7D", "}") == address


@pytest.mark.parametrize("word", ["plain", "two words", "it's", '$(rm -rf /) `x` "y" \\', "*?[a]", "ü;|&<>\n", ""])
def test_a_shell_reads_back_what_was_quoted(call: Call, word: str) -> None:
    quoted = call("commands", "(m, word) => m.shellWord(word)", word)
    assert subprocess.run(["sh", "-c", f"printf %s {quoted}"], capture_output=True, check=True).stdout.decode() == word


def test_the_buffer_is_bounded_by_rows_and_by_characters(call: Call) -> None:
    script = """(m, rows, size) => {
      const buffer = new m.EventBuffer({ maxRows: 2000, maxCharacters: 100_000 });
      for (let n = 1; n <= rows; n += 1) buffer.push({ text: "x".repeat(size), n });
      return [buffer.length, buffer.dropped, buffer.newest(0).n, buffer.newest(buffer.length - 1).n, buffer.last];
    }"""
    assert call("event-buffer", script, 10_000, 1) == [2000, 8000, 10_000, 8001, 10_000]
    assert call("event-buffer", script, 1000, 1000) == [100, 900, 1000, 901, 1000]
    assert call("event-buffer", script, 3, 1_000_000) == [1, 2, 3, 3, 3], "the newest row stays, however large"


def test_a_snapshot_stands_still(call: Call) -> None:
    script = """(m) => {
      const buffer = new m.EventBuffer({ maxRows: 3, maxCharacters: 100 });
      for (const n of [1, 2, 3]) buffer.push({ text: "x", n });
      const held = buffer.snapshot((row) => row.n !== 2);
      for (const n of [4, 5, 6]) buffer.push({ text: "x", n });
      return [held.length, held.newest(0).n, held.newest(1).n, buffer.newest(2).n];
    }"""
    assert call("event-buffer", script) == [2, 3, 1, 4]


def test_the_meter_counts_by_whole_seconds(call: Call) -> None:
    script = """(m) => {
      let ms = 1_000_000;
      const meter = new m.RateMeter({ seconds: 4, now: () => ms });
      const at = (time, count) => { ms = 1_000_000 + time; if (count) meter.add(count); return meter.history(); };
      return [at(0, 3), at(999, 2), at(1000, 7), at(3500, 1), at(3000, 1), at(4000, 0), at(60_000, 0)];
    }"""
    assert call("rate-meter", script) == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 5],
        [0, 5, 7, 0],
        [0, 5, 7, 0],
        [5, 7, 0, 2],
        [0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [("type", "type"), ("[0].data", "data"), ("3.channel", "channel"), ("body.type", "type"), ("", "")],
)
def test_a_problem_names_a_field(call: Call, path: str, name: str) -> None:
    assert call("problem", "(m, path) => m.fieldName(path)", path) == name
