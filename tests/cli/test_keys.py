"""``gateway keys`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.command import run
from tests.support.redisserver import RedisServer


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = RedisServer("valkey", tmp_path_factory.mktemp("vault")).start()
    yield server
    server.stop()


def keys(vault: RedisServer, cwd: Path, *words: str) -> Any:
    done = run("keys", *words, "--json", cwd=cwd, env={"GATEWAY_REDIS_URL": vault.url})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_life_of_a_key(vault: RedisServer, tmp_path: Path) -> None:
    given = ("--tenant", "t1", "--channels", "sms, voice.*", "--expires", "90d", "--limit", "connections=5")
    made = keys(vault, tmp_path, "create", "--name", "a b", "--scopes", "subscribe,publish", *given)
    assert made["key"].startswith("gwk_") and made["id"].startswith("key_")
    assert (made["name"], made["scopes"], made["tenant"]) == ("a b", ["publish", "subscribe"], "t1")
    assert (made["channels"], made["types"], made["limits"]) == (["sms", "voice.*"], None, {"connections": 5.0})
    assert made["expires_at"] - made["created"] == pytest.approx(90 * 86_400, abs=60)
    changed = keys(vault, tmp_path, "update", made["id"], "--channels", "sms", "--expires", "never")
    assert (changed["channels"], changed["expires_at"], changed["tenant"]) == (["sms"], None, "t1")
    assert keys(vault, tmp_path, "revoke", made["id"])["state"] == "revoked"
    listed = keys(vault, tmp_path, "list")["keys"]
    assert [(key["id"], key["state"]) for key in listed] == [(made["id"], "revoked")]
    assert made["key"] not in json.dumps(listed)


def test_without_json_the_key_alone_is_on_stdout(vault: RedisServer, tmp_path: Path) -> None:
    environment = {"GATEWAY_REDIS_URL": vault.url}
    done = run("keys", "create", "--name", "x", "--scopes", "admin", cwd=tmp_path, env=environment)
    assert done.stdout.startswith("gwk_") and done.stdout.count("\n") == 1 and "not shown again" in done.stderr
    table = run("keys", "list", cwd=tmp_path, env=environment).stdout
    assert "active" in table and done.stdout.strip() not in table


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["create", "--name", "x", "--scopes", "root"], 2, "not root"),
        (["create", "--name", "x", "--scopes", ""], 2, "scopes"),
        (["create", "--name", "", "--scopes", "admin"], 2, "name"),
        (["create", "--scopes", "admin"], 2, "--name"),
        (["create", "--name", "x", "--scopes", "admin", "--tenant", "a b"], 2, "tenant"),
        (["create", "--name", "x", "--scopes", "admin", "--channels", "a b,ü"], 2, "channels"),
        (["create", "--name", "x", "--scopes", "admin", "--expires", "soon"], 2, "--expires"),
        (["create", "--name", "x", "--scopes", "admin", "--limit", "speed=1"], 2, "--limit"),
        (["revoke", "x"], 2, "gateway keys list"),
        (["revoke", "key_0123456789abcdef"], 1, "no key"),
        (["update", "key_0123456789abcdef", "--tenant", "t"], 1, "no key"),
    ],
)
def test_mistakes(vault: RedisServer, tmp_path: Path, words: list[str], code: int, says: str) -> None:
    done = run("keys", *words, cwd=tmp_path, env={"GATEWAY_REDIS_URL": vault.url})
    assert (done.returncode, done.stdout) == (code, "") and says in done.stderr


def test_redis_away(tmp_path: Path) -> None:
    done = run("keys", "list", "--redis-url", "redis://:hush@127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 1 and "Redis at" in done.stderr and "hush" not in done.stderr


def test_the_embedded_server_is_started_for_it(tmp_path: Path) -> None:
    environment = {"GATEWAY_DATA_DIR": str(tmp_path / "data")}
    made = run("keys", "create", "--name", "x", "--scopes", "admin", "--json", cwd=tmp_path, env=environment)
    assert made.returncode == 0, made.stderr
    listed = json.loads(run("keys", "list", "--json", cwd=tmp_path, env=environment).stdout)["keys"]
    assert [key["id"] for key in listed] == [json.loads(made.stdout)["id"]], "it was kept on disk"
    state = json.loads((tmp_path / "data" / "embedded.json").read_text())
    with redis.Redis(port=state["port"]) as client, pytest.raises(redis.ConnectionError):
        client.ping()
