"""One source for settings: each field is a variable and a flag; the strongest wins; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from gateway.cli.flags import flag_name, variables
from gateway.settings import ClientSettings, Settings
from tests.support.command import run

_FIELDS = [(kind, field) for kind in (Settings, ClientSettings) for field in kind.model_fields]

# Each starts several processes, which a busy machine makes slow.
pytestmark = pytest.mark.timeout(300)


def _config(*arguments: str, cwd: Path, **env: str) -> dict[str, dict[str, object]]:
    done = run("config", "--json", *arguments, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


def test_every_field_is_a_flag_of_serve_and_is_listed(tmp_path: Path) -> None:
    serve = run("serve", "--help", cwd=tmp_path).stdout
    listed = _config(cwd=tmp_path)
    for kind, field in _FIELDS:
        assert listed[field]["variable"] == variables(kind, field)[0] == f"GATEWAY_{field.upper()}"
        assert listed[field]["from"] == "default"
        if kind is Settings:
            assert f"{flag_name(field)} " in serve, field
            assert f"GATEWAY_{field.upper()}" in serve


def test_a_flag_wins_over_a_variable_over_the_default(tmp_path: Path) -> None:
    assert _config(cwd=tmp_path)["port"] == {"value": 8080, "variable": "GATEWAY_PORT", "from": "default"}
    assert _config(cwd=tmp_path, GATEWAY_PORT="1")["port"]["value"] == 1
    both = _config("--port", "2", "--no-demo", cwd=tmp_path, GATEWAY_PORT="1", GATEWAY_DEMO="true")
    assert (both["port"]["value"], both["port"]["from"]) == (2, "--port")
    assert (both["demo"]["value"], both["demo"]["from"]) == (False, "--demo")
    assert _config(cwd=tmp_path, GATEWAY_PORT="")["port"]["from"] == "default"


def test_the_redis_url_has_two_variables(tmp_path: Path) -> None:
    plain, own = "redis://plain:1", "redis://own:1"
    assert _config(cwd=tmp_path, REDIS_URL=plain)["redis_url"]["from"] == "REDIS_URL"
    assert _config(cwd=tmp_path, REDIS_URL=plain, GATEWAY_REDIS_URL=own)["redis_url"]["value"] == own
    flag = _config("--redis-url", "redis://flag:1", cwd=tmp_path, REDIS_URL=plain, GATEWAY_REDIS_URL=own)
    assert flag["redis_url"]["value"] == "redis://flag:1"


def test_secrets_are_masked_everywhere(tmp_path: Path) -> None:
    env = {"GATEWAY_REDIS_URL": "rediss://user:s3cr3t@host:1/0", "GATEWAY_TOKEN": "gwk_s3cr3t"}
    for arguments in (["config"], ["config", "--json"]):
        done = run(*arguments, cwd=tmp_path, env=env)
        assert "s3cr3t" not in done.stdout + done.stderr
        assert "rediss://user:***@host:1/0" in done.stdout
    done = run("config", cwd=tmp_path, env={"GATEWAY_REDIS_URL": "http://user:s3cr3t@host"})
    assert done.returncode == 2
    assert "s3cr3t" not in done.stderr
    assert "GATEWAY_REDIS_URL: must begin with redis://" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["--port", "x"], {}, "error: --port: must be a valid integer, not 'x'\n"),
        ([], {"GATEWAY_PORT": "70000"}, "error: GATEWAY_PORT: must be less than or equal to 65535, not '70000'\n"),
        (["--retention-age", "7x"], {}, "error: --retention-age: must be a duration such as 30s, 10m, 2h or 7d"),
        ([], {"GATEWAY_LOG_LEVEL": "loud"}, "GATEWAY_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'"),
        (["--streams", "ev*"], {}, "--streams: the first one is the default stream, so it cannot be a glob"),
        ([], {"GATEWAY_DEMO": "perhaps"}, "GATEWAY_DEMO: must be a valid boolean"),
        (["--url", "localhost"], {}, "--url: must be a URL such as http://127.0.0.1:8080"),
    ],
)
def test_what_is_invalid_is_blamed_by_name(
    tmp_path: Path, arguments: list[str], env: dict[str, str], message: str
) -> None:
    done = run("config", *arguments, cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_mistyped_variable_is_pointed_out(tmp_path: Path) -> None:
    done = run("config", cwd=tmp_path, env={"GATEWAY_PROT": "1"})
    assert done.returncode == 0
    assert done.stderr == "warning: GATEWAY_PROT is no setting; did you mean GATEWAY_PORT?\n"


def test_plain_output_is_one_assignment_a_line(tmp_path: Path) -> None:
    lines = run("config", cwd=tmp_path, env={"GATEWAY_STREAMS": "a,b.*"}).stdout.splitlines()
    assert "GATEWAY_STREAMS=a,b.*\t# GATEWAY_STREAMS" in lines
    assert len(lines) == len(_FIELDS)


def test_usage(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout.startswith("gateway 0.")
    shown = run("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for command in ("serve", "publish", "tail", "config", "doctor"):
        assert command in shown.stdout
    for arguments in (["nonsense"], ["config", "--nonsense"], ["config", "--port"]):
        done = run(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")


def test_field_names_are_unique_across_kinds() -> None:
    kinds: list[type[BaseSettings]] = [Settings, ClientSettings]
    names = [name for kind in kinds for name in kind.model_fields]
    assert len(names) == len(set(names))
