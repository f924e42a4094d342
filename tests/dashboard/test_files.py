"""The page and its files as HTTP gives them out."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from gateway import dashboard
from gateway.dashboard.routes import SECURITY_HEADERS, routes

PAGE = Path(dashboard.__file__).parent / "page"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}


def browse(**options: str) -> httpx.AsyncClient:
    app = Starlette(routes=routes(**options))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with browse(stream="orders", redis_url="redis://127.0.0.1:6399/0") as found:
        yield found


async def html(client: httpx.AsyncClient) -> str:
    return (await client.get("/")).text


async def addresses(client: httpx.AsyncClient) -> list[str]:
    return re.findall(r'(?:src|href)="(assets/[^"]+)"', await html(client))


async def test_the_page_is_html_that_is_revalidated(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert "$" not in answer.text


@pytest.mark.parametrize("path", ["/", "icon"])
async def test_a_known_etag_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    if path == "icon":
        path = next(f"/{address}" for address in await addresses(client) if address.endswith("icon.svg"))
    first = await client.get(path)
    etag = first.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = await client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["cache-control"] == first.headers["cache-control"]
    assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_each_file_has_its_type_and_is_cached_for_ever(client: httpx.AsyncClient) -> None:
    found = await addresses(client)
    on_disk = [path for path in PAGE.rglob("*") if path.suffix in TYPES]
    assert len(found) == len(on_disk), "every file is named in the page, so that none is fetched late"
    assert len(on_disk) > 20
    for address in found:
        answer = await client.get(f"/{address}")
        assert answer.status_code == 200, address
        assert answer.headers["content-type"] == TYPES[Path(address).suffix]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.content == (PAGE / address.split("/", 2)[2]).read_bytes()


async def test_the_security_headers_are_on_everything(client: httpx.AsyncClient) -> None:
    for path in ["/", f"/{(await addresses(client))[0]}"]:
        answer = await client.get(path)
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "require-trusted-types-for 'script'" in policy


async def test_nothing_is_inline_and_nothing_comes_from_elsewhere(client: httpx.AsyncClient) -> None:
    text = await html(client)
    assert re.findall(r"<script(?![^>]*\ssrc=)", text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", text) == []
    for path in [*PAGE.rglob("*.html"), *PAGE.rglob("*.css"), *PAGE.rglob("*.js")]:
        elsewhere = re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+", path.read_text())
        assert elsewhere == [], path


async def test_head_is_a_get_without_the_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/")
    assert answer.status_code == 200
    assert answer.headers["etag"] == (await client.get("/")).headers["etag"]


async def test_another_release_gets_the_file_uncached(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/0123456789ab/js/main.js")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["js/none.js", "%2e%2e/routes.py", "index.html", "js", "", "js/"])
async def test_what_is_not_a_file_of_the_page_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/assets/x/{name}")).status_code == 404


async def test_the_version_follows_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    async def version() -> str:
        async with browse() as client:
            return (await addresses(client))[0].split("/")[1]

    before = await version()
    assert before == await version()
    read = dashboard.routes._read
    monkeypatch.setattr(dashboard.routes, "_read", lambda *args: {**read(*args), "css/more.css": b"a{}"})
    assert await version() != before


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6399/0", "redis-cli -p 6399"),
        ("redis://localhost", "redis-cli -p 6379"),
        ("redis://user:secret@127.0.0.1:6400/0", "redis-cli -p 6400"),
        ("rediss://user:secret@redis.internal:6380/0", "redis-cli"),
        ("redis://10.1.2.3:6379", "redis-cli"),
        ("unix:///run/redis.sock", "redis-cli"),
        ("", "redis-cli"),
    ],
)
async def test_of_redis_only_a_port_of_this_machine_is_shown(url: str, shown: str) -> None:
    async with browse(redis_url=url) as client:
        assert f'name="gateway-redis-cli" content="{shown}"' in await html(client)


async def test_names_are_escaped() -> None:
    async with browse(stream='"><script>') as client:
        assert '"><script>' not in await html(client)
