"""A child process that cannot outlive the tests, and a free port for one that comes back on the same port."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Below the ports that kernels give to outgoing connections: a client that dials a dead port inside that range can end
# up connected to itself, and the server that wants its port back cannot have it.
_PORTS = range(20_000, 32_000)
_chance = random.Random()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    for port in (_chance.choice(_PORTS) for _ in range(200)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Child:
    """A process with its output in a file; SIGKILLed with its parent (Linux)."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def wait(self, patience: float = 20.0) -> int:
        return self._process.wait(patience)

    def kill(self) -> None:
        """End it the hard way, and wait for that."""
        self._process.kill()
        self._process.wait()

    def stop(self, patience: float = 15.0) -> int:
        """End it politely; after `patience` seconds the hard way. Answers its exit code."""
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                return self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.wait()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
