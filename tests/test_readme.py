"""The README is true: its tables are those of the code, and its examples run as they are printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import Endpoint, EndpointConfig, Secret
from gateway.bridge.render import Bodies, Stationery
from gateway.bridge.signature import make_secret
from gateway.events.event import Event, read_entry
from tests.bridge import nodejs as bridge_nodejs
from tests.conftest import Start
from tests.e2e.support import nodejs
from tests.support.child import Child, free_port
from tests.support.gateway import GatewayProcess
from tests.support.readme import PARTS, README, renewed, snippet
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until_sync

_FIELDS = {"type": "sms.delivered", "data": '{"id":"msg_1"}'}


class Page(ThreadingHTTPServer):
    """A web server with one page: `html`. A page made up in the browser would not be let near loopback."""

    html = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _PageHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Page)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.server.html.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def web() -> Iterator[Page]:
    with Page(("127.0.0.1", 0), _PageHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def gateway(shared_gateway: Start, web: Page) -> GatewayProcess:
    return shared_gateway("direct", cors_origins=[web.url])


@pytest.fixture
def here(gateway: GatewayProcess, valkey: RedisServer) -> Callable[[str], str]:
    """Turns a snippet of the README into one for the servers of this test."""

    def adapt(name: str) -> str:
        text = snippet(name).replace("http://127.0.0.1:8080", gateway.url).replace("6399", str(valkey.port))
        return text.replace(".venv/bin/gateway", f"{sys.executable} -m gateway")

    return adapt


@pytest.fixture
def publishing(valkey: RedisServer) -> Iterator[None]:
    """Events go on coming while the test runs."""
    done = threading.Event()

    def publish() -> None:
        with valkey.client() as client:
            while not done.wait(0.05):
                client.xadd("events", _FIELDS)

    thread = threading.Thread(target=publish)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.fixture
def newest(valkey: RedisServer) -> Callable[[], dict[bytes, bytes]]:
    def read() -> dict[bytes, bytes]:
        with valkey.client() as client:
            entries = client.xrevrange("events", count=1)
            return dict(entries[0][1]) if entries else {}

    return read


def _run(*command: str, gateway: GatewayProcess) -> str:
    environment = {**os.environ, "GATEWAY_URL": gateway.url}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def _node(source: str, name: str) -> list[str]:
    script = nodejs.installed() / f"{name}.mjs"
    script.write_text(source)
    return [_program("node"), str(script)]


def test_the_tables_are_those_of_the_code() -> None:
    text = README.read_text()
    assert renewed(text) == text, "run python -m tests.support.readme"
    assert all(f"<!-- generated: {name} -->" in text for name in PARTS)


def test_the_tests_of_the_threat_table_exist() -> None:
    rows = re.findall(r"^\|[^|]+\|[^|]+\|[^|]+\| (`tests/[^|]+) \|$", README.read_text(), re.MULTILINE)
    assert len(rows) >= 12
    path = ""
    for name in re.findall(r"`([^`]+)`", " ".join(rows)):
        file, _, function = name.rpartition("::") if "::" in name else ("", "", name)
        if name.endswith(".py"):
            path, function = name, ""
        path = file or path
        text = (README.parent / path).read_text()
        assert not function or re.search(rf"^(async )?def {function}\(", text, re.MULTILINE), name


def test_files_that_are_linked_exist() -> None:
    for target in ("deploy", ".ci/run", "gateway/LICENSE", "deploy/CHANGELOG.md"):
        assert (README.parent / target).exists()


def test_publish_with_redis_cli(
    here: Callable[[str], str], gateway: GatewayProcess, newest: Callable[[], dict[bytes, bytes]]
) -> None:
    _program("redis-cli")
    _run("sh", "-ec", here("publish-redis-cli"), gateway=gateway)
    assert newest()[b"data"] == b'{"id":"msg_1","status":"delivered"}'


def test_publish_with_curl(
    here: Callable[[str], str], gateway: GatewayProcess, newest: Callable[[], dict[bytes, bytes]]
) -> None:
    _program("curl")
    answer = json.loads(_run("sh", "-ec", here("publish-curl"), gateway=gateway))
    assert len(answer["ids"]) == 1
    assert newest()[b"tenant"] == b"cust_123"


def test_publish_with_the_command(
    here: Callable[[str], str], gateway: GatewayProcess, newest: Callable[[], dict[bytes, bytes]]
) -> None:
    _run("sh", "-ec", here("publish-cli"), gateway=gateway)
    assert newest()[b"type"] == b"sms.delivered"


def test_publish_with_python(
    here: Callable[[str], str], gateway: GatewayProcess, newest: Callable[[], dict[bytes, bytes]]
) -> None:
    _run(sys.executable, "-c", here("publish-python"), gateway=gateway)
    assert newest()[b"data"] == b'{"id": "msg_1"}'


def test_publish_with_node(
    here: Callable[[str], str], gateway: GatewayProcess, newest: Callable[[], dict[bytes, bytes]]
) -> None:
    output = _run(*_node(here("publish-node"), "readme-publish"), gateway=gateway)
    assert output.startswith("201")
    assert newest()[b"type"] == b"sms.sent"


@pytest.mark.parametrize("name", ["subscribe-curl", "subscribe-ndjson", "subscribe-cli", "resume-curl"])
def test_subscribe_in_a_shell(
    name: str, here: Callable[[str], str], gateway: GatewayProcess, publishing: None, tmp_path: Path
) -> None:
    _program("curl")
    child = Child(["sh", "-ec", f"exec {here(name)}"], tmp_path / "out", {"GATEWAY_URL": gateway.url})
    try:
        wait_until_sync(lambda: child.output().count("msg_1") > 3, name)
    finally:
        child.kill()


def test_subscribe_with_python(here: Callable[[str], str], publishing: None, tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", here("subscribe-python")], tmp_path / "out")
    try:
        wait_until_sync(lambda: child.output().count("sms.delivered {'id'") > 3, "events")
        assert "Traceback" not in child.output()
    finally:
        child.kill()


def test_the_python_example_comes_back_with_the_last_id(
    here: Callable[[str], str], start_gateway: Start, valkey: RedisServer, stream: str, tmp_path: Path, db: redis.Redis
) -> None:
    own = start_gateway(valkey.url, streams=[stream], drain_seconds=0)
    source = snippet("subscribe-python").replace("http://127.0.0.1:8080", own.url)
    child = Child([sys.executable, "-u", "-c", source], tmp_path / "out")
    try:
        wait_until_sync(lambda: "caught-up" in child.output(), "connected")
        db.xadd(stream, _FIELDS | {"data": '"first"'})
        wait_until_sync(lambda: "'first'" in child.output(), "the first event")
        own.stop()
        db.xadd(stream, _FIELDS | {"data": '"missed"'})
        own.start()
        wait_until_sync(lambda: "'missed'" in child.output(), "the event that it missed", 40)
        assert child.output().count("'first'") == 1
    finally:
        child.kill()


def test_subscribe_with_node(here: Callable[[str], str], publishing: None, tmp_path: Path) -> None:
    child = Child(_node(here("subscribe-node"), "readme-subscribe"), tmp_path / "out")
    try:
        wait_until_sync(lambda: child.output().count("msg_1") > 3, "events")
    finally:
        child.kill()


def test_a_page(here: Callable[[str], str], gateway: GatewayProcess, valkey: RedisServer) -> None:
    _program("curl")
    with valkey.client() as client:
        client.xadd("events", _FIELDS)
        client.xadd("events", _FIELDS)
    page = json.loads(_run("sh", "-ec", here("page-curl"), gateway=gateway))
    assert len(page["events"]) == 2
    assert set(page) == {"events", "next", "gap"}


def _in_chromium(web: Page, html: str, enough: Callable[[str], bool]) -> None:
    from playwright.sync_api import sync_playwright

    chromium = _program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        web.html = html
        page.goto(web.url)
        wait_until_sync(lambda: enough(page.locator("body").inner_text()), "events on the page")
        browser.close()


def test_subscribe_in_a_browser(here: Callable[[str], str], web: Page, publishing: None) -> None:
    _in_chromium(web, f"<body>{here('subscribe-browser')}", lambda text: text.count("msg_1") > 3)


def test_resume_in_a_browser(here: Callable[[str], str], web: Page, publishing: None) -> None:
    source = here("resume-browser").replace("console.log", "(e) => document.body.append(JSON.stringify(e))")
    _in_chromium(web, f"<body><script type=module>{source}</script>", lambda text: text.count("msg_1") > 3)


def test_webhooks_can_be_tried_in_one_go(valkey: RedisServer, tmp_path: Path) -> None:
    _program("curl")
    gateway, receiver = free_port(), free_port()
    script = snippet("webhook-try").replace("8080", str(gateway)).replace("9000", str(receiver))
    script = script.replace(".venv/bin/gateway", f"{sys.executable} -m gateway")
    options = {"GATEWAY_PORT": gateway, "GATEWAY_DATA_DIR": tmp_path / "data", "GATEWAY_EMBEDDED_PORT": 0}
    environment = {name: str(value) for name, value in options.items()}
    environment["GATEWAY_URL"] = f"http://127.0.0.1:{gateway}"
    # The shell takes the two servers with it when it goes.
    script = script.replace(" &\n", ' & servers="$servers $!"\n')
    child = Child(["sh", "-ec", f"trap 'kill $servers; wait; exit' TERM\n{script} wait"], tmp_path / "out", environment)
    try:
        wait_until_sync(lambda: "verified" in child.output(), "the receiver verified a webhook", 60)
        assert '"type":"sms.delivered"' in child.output()
    finally:
        child.stop()


def test_a_webhook_is_created_with_curl(here: Callable[[str], str], start_gateway: Start, tmp_path: Path) -> None:
    _program("curl")
    redis_server = RedisServer("valkey", tmp_path / "valkey").start()
    try:
        own = start_gateway(redis_server.url)
        command = snippet("webhook-create").replace("http://127.0.0.1:8080", own.url)
        created = json.loads(_run("sh", "-ec", command, gateway=own))
        assert created["secret"].startswith("whsec_")
    finally:
        redis_server.stop()


def test_an_event_with_a_url_of_its_own(here: Callable[[str], str], start_gateway: Start, tmp_path: Path) -> None:
    _program("curl")
    redis_server = RedisServer("valkey", tmp_path / "valkey").start()
    try:
        own = start_gateway(redis_server.url)
        script = snippet("webhook-own-url").replace("http://127.0.0.1:8080", own.url)
        script = script.replace("https://example.com", "https://hook.invalid").replace("curl ", "curl -w '\\n' ")
        script = script.replace(".venv/bin/gateway", f"{sys.executable} -m gateway")
        published, secret = _run("sh", "-ec", script, gateway=own).splitlines()
        assert len(json.loads(published)["ids"]) == 1, published
        assert secret.startswith("whsec_")
    finally:
        redis_server.stop()


def test_a_key_is_made_and_used(start_gateway: Start, tmp_path: Path) -> None:
    _program("curl")
    redis_server = RedisServer("valkey", tmp_path / "valkey").start()
    try:
        own = start_gateway(redis_server.url)
        script = snippet("keys-create").replace(".venv/bin/gateway", f"{sys.executable} -m gateway").strip()
        made = json.loads(_run("sh", "-ec", f"{script} --json --redis-url {redis_server.url}", gateway=own))
        text = snippet("bearer-curl").replace("http://127.0.0.1:8080", own.url)
        child = Child(["sh", "-ec", f"exec {text}"], tmp_path / "out", {"GATEWAY_TOKEN": made["key"]})
        try:
            wait_until_sync(lambda: "gateway.caught-up" in child.output(), "the stream is open")
        finally:
            child.kill()
    finally:
        redis_server.stop()


def _signed(dialect: str, entropy: bytes = bytes(range(32)), age: float = 0.0) -> tuple[str, dict[str, str], bytes]:
    """(what the receiver knows, headers in lower case, body) of a webhook sent `age` seconds ago."""
    scheme = DIALECTS[dialect].scheme
    assert scheme is not None
    secret = make_secret(scheme, entropy)
    endpoint = Endpoint("whk_1", EndpointConfig(url="https://example.com/", dialect=dialect), (Secret(secret),), 0, 0)
    entry = [b"type", b"sms.delivered", b"data", b'{"id":"msg_1","n":1.0}']
    event = read_entry("events", b"1735732800000-0", entry)
    assert isinstance(event, Event)
    request = Stationery(endpoint, Bodies(), "test").request(event, 1, "https://example.com/", time.time() - age)
    return endpoint.public_key or secret, {k.lower(): v for k, v in request.headers.items()}, request.body


VERIFIED = [("standard", "standard"), ("standard", "cloudevents")] + [
    ("others", name) for name in ("trunx", "truedy", "telnyx", "telnyx-hmac")
]


def _forgeries(dialect: str) -> list[tuple[str, dict[str, str], bytes]]:
    """What must be refused: another byte, another secret, and a recording, where the signature has a time."""
    known, headers, body = _signed(dialect)
    other, _, _ = _signed(dialect, bytes(range(1, 33)))
    recorded = [_signed(dialect, age=3600)] if dialect != "trunx" else []
    return [(known, headers, body.replace(b"msg_1", b"msg_2")), (other, headers, body), *recorded]


def test_every_dialect_that_signs_has_an_example() -> None:
    assert {name for _, name in VERIFIED} == {name for name, it in DIALECTS.items() if it.scheme is not None}


@pytest.mark.parametrize(("kind", "dialect"), VERIFIED)
def test_signatures_verify_in_python(kind: str, dialect: str) -> None:
    space: dict[str, Any] = {}
    exec(snippet("verify-standard-python" if kind == "standard" else "verify-python"), space)
    verify = space["verify" if kind == "standard" else dialect.replace("-", "_")]
    verify(*_signed(dialect))
    for forged in _forgeries(dialect):
        with pytest.raises(Exception):  # noqa: B017 - each library has its own
            verify(*forged)


@pytest.mark.parametrize(("kind", "dialect"), VERIFIED)
def test_signatures_verify_in_node(kind: str, dialect: str) -> None:
    name = "verify" if kind == "standard" else dialect.replace("-", "_")
    folder = bridge_nodejs.packages() if kind == "standard" else nodejs.installed()
    module = folder / f"readme-{kind}.mjs"
    module.write_text(snippet("verify-standard-node" if kind == "standard" else "verify-node"))
    script = folder / f"readme-{kind}-test.mjs"
    script.write_text(
        f"""import * as verifiers from "./{module.name}";
import fs from "node:fs";
const [good, ...forged] = JSON.parse(fs.readFileSync(0, "utf8"));
const check = ([known, headers, body]) => verifiers.{name}(known, headers, Buffer.from(body));
check(good);
for (const one of forged) {{
  let refused = false;
  try {{ check(one); }} catch {{ refused = true; }}
  console.log(refused ? "refused" : "ACCEPTED");
}}
"""
    )
    cases = [[known, headers, body.decode()] for known, headers, body in (_signed(dialect), *_forgeries(dialect))]
    data = json.dumps(cases)
    done = subprocess.run([_program("node"), script], input=data, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["refused"] * (len(cases) - 1), done.stderr
