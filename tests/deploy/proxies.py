"""The proxy configurations of ``deploy/``, moved to free ports and to a folder of the test; nothing else is changed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.certificate import make_pair
from tests.support.child import ROOT, Child, free_port

DEPLOY = ROOT / "deploy"
NAME = "events.example.com"


def program(name: str) -> str:
    """Where `name` is installed; skips where it is not."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or pytest.skip(f"no {name}")


def write_certificate(folder: Path) -> None:
    """``gateway.pem`` (certificate and key, as HAProxy wants it) and ``gateway.key``."""
    private, certificate = make_pair(x509.DNSName(NAME))
    (folder / "gateway.key").write_bytes(private)
    (folder / "gateway.pem").write_bytes(certificate + private)


def _adapted(name: str, folder: Path, changes: Mapping[str, str]) -> Path:
    text = (DEPLOY / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} no longer has {old!r}"
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return path


class Proxy:
    """nginx or HAProxy with the configuration of ``deploy/``, in front of the gateways on two `ports`."""

    def __init__(self, kind: str, folder: Path, ports: tuple[int, int]) -> None:
        self.port = free_port()
        write_certificate(folder)
        backends = {"127.0.0.1:8080": f"127.0.0.1:{ports[0]}", "127.0.0.1:8081": f"127.0.0.1:{ports[1]}"}
        self.access_log = folder / "access.log"
        if kind == "nginx":
            changes = {
                "listen 443 ": f"listen 127.0.0.1:{self.port} ",
                "/etc/ssl/certs/": f"{folder}/",
                "/etc/ssl/private/": f"{folder}/",
                "/var/log/nginx/access.log": str(self.access_log),
                "pid /run/nginx.pid": f"pid {folder}/nginx.pid",
            }
            config = _adapted("nginx.conf", folder, backends | changes)
            self.check = [program("nginx"), "-t", "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
            self._run = [word for word in self.check if word != "-t"] + ["-g", "daemon off; user root;"]
        else:
            # HAProxy logs to a syslog; here to its own output.
            changes = {
                "bind :443 ": f"bind 127.0.0.1:{self.port} ",
                "/etc/haproxy/": f"{folder}/",
                "    maxconn 65536": "    maxconn 1000\n    log stdout format raw local0",
                "    mode http\n": "    mode http\n    log global\n",
            }
            config = _adapted("haproxy.cfg", folder, backends | changes)
            self.check = [program("haproxy"), "-c", "-f", str(config)]
            self._run = [program("haproxy"), "-db", "-f", str(config)]
            self.access_log = folder / "proxy.log"
        self._log = folder / "proxy.log"
        self._child: Child | None = None

    def start(self) -> Proxy:
        self._child = Child(self._run, self._log)
        return self

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def output(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
