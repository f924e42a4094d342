"""npm packages for the clients under node, kept in a cache directory of the user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

PACKAGES = {"eventsource": "4.1.1", "eventsource-client": "1.2.0", "@microsoft/fetch-event-source": "2.0.1"}
CLIENTS = Path(__file__).resolve().parents[1] / "clients"


@cache
def installed() -> Path:
    """The folder with ``node_modules`` and a copy of the clients: modules are looked for beside the script."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sse-gateway" / "e2e-clients"
    wanted = json.dumps({"private": True, "dependencies": PACKAGES})
    manifest = home / "package.json"
    if not manifest.exists() or manifest.read_text() != wanted:
        home.mkdir(parents=True, exist_ok=True)
        manifest.write_text(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--no-package-lock"]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
        if done.returncode:
            manifest.unlink()
            pytest.skip(f"npm install failed: {done.stderr[-300:]}")
    for script in CLIENTS.glob("*.mjs"):
        shutil.copy(script, home)
    return home
