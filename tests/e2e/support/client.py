"""Programs that other people's clients run in. Each prints a line of JSON for each message that it was given."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.support.nodejs import CLIENTS, installed
from tests.support.child import Child
from tests.support.command import environment


class Received(NamedTuple):
    """What a client handed to its user."""

    type: str
    data: str
    id: str | None


def node(script: str, *words: str) -> list[str]:
    """A client under node. Skips where there is none."""
    return ["node", str(installed() / script), *words]


def python(script: str, *words: str) -> list[str]:
    """A client under Python."""
    return [sys.executable, "-m", f"tests.e2e.clients.{script}", *words]


def curl(url: str) -> list[str]:
    """curl. Skips where there is none."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return python("curl_client", url)


def chromium(*words: str) -> list[str]:
    """Chromium. Skips where there is none."""
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("Chromium is not installed")
    pytest.importorskip("playwright")
    return python("chromium_client", *words)


class Client:
    """`command` at work; `names` are the clients in it, one that says no name has that of the first."""

    def __init__(self, folder: Path, *names: str, command: list[str]) -> None:
        self.names = names
        self._child = Child(command, folder / f"{names[0]}.log", environment())

    def stop(self) -> None:
        """End it."""
        self._child.stop()

    def _lines(self) -> list[dict[str, Any]]:
        complete = self._child.output().split("\n")[:-1]
        return [json.loads(line) for line in complete if line.startswith("{")]

    def received(self, name: str) -> list[Received]:
        """All messages, in order."""
        return [
            Received(line["type"], line["data"], line.get("id"))
            for line in self._lines()
            if "type" in line and line.get("client", self.names[0]) == name
        ]

    def output(self) -> str:
        """All that it printed."""
        return self._child.output()


__all__ = ["CLIENTS", "Client", "Received", "chromium", "curl", "node", "python"]
