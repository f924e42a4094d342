"""Debian's proxies in front of a gateway, configured as little as they allow."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import httpx
import pytest

from tests.support.child import Child, free_port
from tests.support.wait import wait_until_sync

_NGINX = """
user root;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
  access_log off;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
  }}
}}
"""
# Timeouts are those of Debian's /etc/haproxy/haproxy.cfg.
_HAPROXY = """
defaults
  mode http
  timeout connect 5000
  timeout client 50000
  timeout server 50000
  {option}
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  {check}
  server gateway 127.0.0.1:{upstream} {inter}
  {second}
"""
# What a rolling restart needs: ask for readiness, and try another server when one has just closed its door.
_CHECKED = """
  balance leastconn
  option httpchk GET /readyz
  option redispatch
  retries 3
  retry-on conn-failure empty-response 503
  stats enable
  stats uri /haproxy
"""
KINDS = ("nginx", "haproxy", "haproxy with http-no-delay")


class Proxy:
    """One of `KINDS` on a free port, in front of `upstream`. Skips where it is not installed.

    HAProxy takes a second server, `also`, and then checks both.
    """

    def __init__(self, kind: str, folder: Path, upstream: int, also: int | None = None) -> None:
        name = kind.partition(" ")[0]
        binary = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if binary is None:
            pytest.skip(f"{name} is not installed")
        self.port = free_port()
        config = folder / f"{name}.conf"
        option = "option http-no-delay" if "no-delay" in kind else ""
        template = _NGINX if name == "nginx" else _HAPROXY
        inter = "check inter 50ms rise 1 fall 1" if also else ""
        second = f"server second 127.0.0.1:{also} {inter}" if also else ""
        config.write_text(
            template.format(
                folder=folder,
                port=self.port,
                upstream=upstream,
                option=option,
                check=_CHECKED if also else "",
                inter=inter,
                second=second,
            )
        )
        words = (
            [binary, "-p", str(folder), "-c", str(config)] if name == "nginx" else [binary, "-db", "-f", str(config)]
        )
        self._child = Child(words, folder / f"{name}.out")
        wait_until_sync(self._is_up, f"{kind} listens")
        self.url = f"http://127.0.0.1:{self.port}/api/events"

    def _is_up(self) -> bool:
        assert self._child.running, self._child.output()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def all_up(self) -> bool:
        """Whether HAProxy's own checks found both servers ready."""
        table = httpx.get(f"http://127.0.0.1:{self.port}/haproxy;csv").text
        return table.count(",UP,") >= 3  # the backend itself, and both

    def stop(self) -> None:
        """End it."""
        self._child.stop()
