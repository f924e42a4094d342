"""What the numbers were measured on, and how this process takes its place on it."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("sse-gateway", "uvicorn", "uvloop", "httptools", "starlette", "sse-starlette", "redis", "hiredis")


def raise_file_limit() -> int:
    """Lift the soft limit of open files to the hard one; children inherit it. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def parse_cores(text: str) -> frozenset[int]:
    """``0,2-3`` -> {0, 2, 3}."""
    cores: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return frozenset(cores)


def busy() -> str | None:
    """A warning when others use this machine too: then times are too long and rates too low, and ratios shaky."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return (
        f"the machine was busy before this began (load average {load:.1f}, {cores} cores)" if load > cores / 2 else None
    )


def spell_cores(cores: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cores)))


def split_cores() -> tuple[frozenset[int], frozenset[int]]:
    """(server, generator): the last core serves, all others generate load; one core has to do both."""
    cores = sorted(os.sched_getaffinity(0))
    return frozenset(cores[-1:]), frozenset(cores[:-1] or cores)


def facts() -> dict[str, str]:
    """Cores, processor, kernel and versions, as text."""
    found = {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load average": f"{os.getloadavg()[0]:.2f}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if (commit := _first_line("git", "rev-parse", "--short", "HEAD")) is not None:
        found["commit"] = commit
    for name, pattern, command in (
        ("redis-server", r"v=(\S+)", ("redis-server", "--version")),
        ("nginx", r"nginx/(\S+)", ("nginx", "-v")),
        ("nchan", r"^(\S+)", ("dpkg-query", "-W", "-f=${Version}", "libnginx-mod-nchan")),
        ("cc", r"([0-9]+\.[0-9.]+)", ("cc", "--version")),
    ):
        line = _first_line(*command)
        if line is not None and (match := re.search(pattern, line)):
            found[name] = match[1]
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    match = re.search(r"model name\s*:\s*(.+)", text)
    return match[1] if match else platform.machine()


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent)
    # nginx prints its version on the standard error.
    output = (done.stdout or done.stderr).strip()
    return output.splitlines()[0] if done.returncode == 0 and output else None
