"""A server under test as a tree of processes: started on chosen cores, measured through /proc, always ended."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.rig.wait import until

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Memory(NamedTuple):
    """Bytes. `pss` counts pages shared with other processes in proportion; `peak` is the most that `rss` ever was."""

    rss: int
    pss: int
    peak: int


class ProcessTree:
    """A child process and its descendants. Its output goes to a file, whose tail is shown when it fails."""

    def __init__(
        self, command: Sequence[str], *, cores: frozenset[int], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self.started = time.monotonic()

        def settle() -> None:
            os.sched_setaffinity(0, cores)
            # So that nothing stays behind when this process is killed and cannot clean up.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                # A Ctrl-C is for us: we end the servers, after what is being measured.
                start_new_session=True,
                preexec_fn=settle,
            )
        self.pid = self._popen.pid
        # Once reaped, the number may belong to somebody else.
        self._stopped = False

    def __repr__(self) -> str:
        return f"<ProcessTree {self.pid} {self._popen.args!r} {'ended' if self.ended else 'running'}>"

    @property
    def ended(self) -> bool:
        return self._popen.poll() is not None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        found = [self.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    with contextlib.suppress(OSError):
                        found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of all processes of the tree, without threads that have ended."""
        return sum(map(_cpu, self.pids()))

    def memory(self) -> Memory:
        parts = [_memory(pid) for pid in self.pids()]
        return Memory(*map(sum, zip(*parts, strict=True)))

    async def wait_until(self, ready: Callable[[], bool], seconds: float = 20.0) -> None:
        """Poll `ready` until it is true. Raises `RuntimeError` with the tail of the log when the time is up."""
        if await until(lambda: self.ended or ready(), seconds, every=0.005) and not self.ended:
            return
        what = "ended at once" if self.ended else f"was not ready after {seconds:g} s"
        raise RuntimeError(f"{self._popen.args!r} {what}:\n{self.output()[-2000:]}")

    async def wait_for_end(self, seconds: float = 60.0) -> None:
        """Wait for a command that ends by itself. Raises `RuntimeError` when it fails, or takes longer."""
        ended = await until(lambda: self.ended, seconds)
        if not ended or self._popen.returncode != 0:
            raise RuntimeError(f"{self._popen.args!r} failed:\n{self.output()[-2000:]}")

    def signal(self, signum: int) -> None:
        """To all processes of the tree; for one that has ended it is nothing."""
        with contextlib.suppress(ProcessLookupError):
            if not self._stopped:
                os.killpg(self.pid, signum)

    def kill(self) -> None:
        """SIGKILL, without a word before."""
        self.signal(signal.SIGKILL)
        self._popen.wait()
        self._stopped = True

    def stop(self, seconds: float = 2.0) -> None:
        """Terminate, and kill what is left of the group. Blocks for at most about `seconds`."""
        if self._stopped:
            return
        self._stopped = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


def _cpu(pid: int) -> float:
    # The same time as in /proc/<pid>/stat, in nanoseconds instead of steps of 10 ms: sched-stats of the kernel's docs.
    used = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has ended just now
            used += int(task.read_text().split()[0])
    return used / 1e9


def _memory(pid: int) -> Memory:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text() + Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return Memory(0, 0, 0)
    kilobytes = {name: int(value) for name, value in re.findall(r"^(Rss|Pss|VmHWM):\s+(\d+) kB", text, re.MULTILINE)}
    return Memory(*(kilobytes.get(name, 0) << 10 for name in ("Rss", "Pss", "VmHWM")))


def own_cpu() -> float:
    """Seconds of CPU that this process has used."""
    return time.process_time()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now, below the range from which outgoing connections take theirs."""
    # A port of the ephemeral range could be taken by one of our own thousands of connections in the meantime.
    for candidate in range(20000 + os.getpid() % 10000, 32000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", candidate))
            if candidate not in _given:
                _given.add(candidate)
                return candidate
    raise RuntimeError("no free port between 20000 and 32000")


_given: set[int] = set()


def status(port: int, path: str) -> int:
    """The HTTP status of a GET to that port of 127.0.0.1; 0 when there is no answer within 2 s."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def answers(port: int) -> bool:
    """Whether something listens on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
