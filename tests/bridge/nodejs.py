"""JavaScript that others wrote, under node; npm packages are kept in a cache directory of the user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

RECEIVERS = Path(__file__).parent / "receivers"
PACKAGES = ("telnyx@7.24.0", "standardwebhooks@1.1.1", "svix@1.99.1", "express@5", "typescript@5")


@cache
def packages() -> Path:
    """The folder that holds ``node_modules``."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sse-gateway" / "bridge-tests"
    wanted = json.dumps({"private": True, "dependencies": dict(name.rsplit("@", 1) for name in PACKAGES)})
    manifest = home / "package.json"
    if not manifest.exists() or manifest.read_text() != wanted:
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(wanted)
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent"],
            cwd=home,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            manifest.unlink()
            pytest.skip(f"npm install failed: {done.stderr[-300:]}")
    return home


def run(script: str, data: Any, *args: str) -> Any:
    """Run a script of `RECEIVERS` that reads JSON from stdin and prints JSON."""
    node = shutil.which("node") or pytest.skip("node is not installed")
    done = subprocess.run(
        [node, RECEIVERS / script, *args], input=json.dumps(data), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
