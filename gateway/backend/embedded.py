"""The embedded Valkey: a real server beside the gateway, so that one command is enough to begin.

It listens on loopback, keeps an append-only file in its data directory and never evicts.  A watchdog starts it again on
the same port when it dies.  It ends with the gateway, also when that is killed (Linux); where the kernel cannot see to
that, or it outlives the gateway all the same, the next gateway of the same directory adopts it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from redis.exceptions import BusyLoadingError

from gateway.backend.datadir import DataDir, EmbeddedError, ServerState
from gateway.backend.filesync import FileSync
from gateway.backend.valkey import APPEND_DIR, Answer, PortTaken, ValkeyProcess, ask

DEFAULT_PORT = 6399
_STEADY = 10.0
_LONGEST_PAUSE = 2.0
# Below the ranges from which kernels choose ports for outgoing connections (Linux from 32768, macOS from 49152): a
# client that dials a dead port inside that range can end up connected to itself, and the restarted server cannot bind.
_FREE_PORTS = range(20_000, 32_000)

_log = logging.getLogger(__name__)


def _is_free(port: int) -> bool:
    # The wildcard address too: on macOS a loopback bind succeeds next to a wildcard listener.
    for address in ("127.0.0.1", "0.0.0.0"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


class EmbeddedValkey:
    """The server of `data_dir`, from `start` to `stop`.

    `port` 0 takes the one used here last time, or a free one; with `fallback` so does a port that is taken.  `fsync`:
    ``always`` and ``no`` are Valkey's ``appendfsync``; ``everysec`` is done here (`gateway.backend.filesync`).
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = DEFAULT_PORT,
        fallback: bool = True,
        fsync: str = "everysec",
        chance: random.Random | None = None,
    ) -> None:
        self._dir = DataDir(data_dir)
        self._wanted_port = port
        self._fallback = fallback
        self._fsync = "no" if fsync == "everysec" else fsync
        self._sync = FileSync(self._dir.path / APPEND_DIR) if fsync == "everysec" else None
        self._random = chance or random.Random()
        self._process: ValkeyProcess | None = None
        self._state: ServerState | None = None
        self._stopping = threading.Event()
        self._watchdog: threading.Thread | None = None
        self.version = ""
        self.adopted = False

    def __repr__(self) -> str:
        return f"<EmbeddedValkey {self._dir.path} {self._state} {'adopted' if self.adopted else ''}>"

    @property
    def data_dir(self) -> Path:
        """Absolute."""
        return self._dir.path

    @property
    def state(self) -> ServerState:
        """Where it listens. Raises `EmbeddedError` before `start`."""
        if self._state is None:
            raise EmbeddedError("the embedded Valkey is not running")
        return self._state

    @property
    def port_was_taken(self) -> bool:
        """Whether it listens elsewhere than asked for."""
        return self._wanted_port not in (0, self.state.port)

    def start(self) -> None:
        """Start or adopt the server; return when it answers. Raises `EmbeddedError`."""
        self._dir.claim()
        try:
            try:
                answer = self._adopt() or self._start_on_some_port()
            except OSError as error:
                raise EmbeddedError(f"cannot use data dir {self._dir.path}: {error.strerror}") from None
            self.version = answer.version
            self._watchdog = threading.Thread(target=self._watch, name="valkey-watchdog", daemon=True)
            self._watchdog.start()
            if self._sync is not None:
                self._sync.start()
        except BaseException:
            self.stop()
            raise

    def stop(self, patience: float = 10.0) -> None:
        """End the server after it has synced its file; after `patience` seconds, end it at once."""
        self._stopping.set()
        if self._sync is not None:
            self._sync.stop()
        for signum in (signal.SIGTERM, signal.SIGKILL):
            self._signal(signum)
            if self._watchdog is None:
                break
            self._watchdog.join(patience)
            if not self._watchdog.is_alive():
                break
        if self._process is not None:
            self._process.end(patience)
        self._dir.release()

    def _signal(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(signum)
        elif self._state is not None:
            with contextlib.suppress(OSError):
                os.kill(self._state.pid, signum)

    def __enter__(self) -> EmbeddedValkey:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _adopt(self) -> Answer | None:
        """Take over a server that a gateway left behind. None when there is none."""
        state = self._dir.read_state()
        # On Linux it has its signal already and is on its way out; elsewhere nobody told it.
        until = time.monotonic() + (5.0 if sys.platform == "linux" else 0.0)
        while state is not None and self._dir.server_is_alive():
            if time.monotonic() >= until:
                with contextlib.suppress(BusyLoadingError):
                    answer = ask(state.port)
                    if answer is not None and Path(answer.directory) == self._dir.path.resolve():
                        self.adopted = True
                        self._state = ServerState(state.port, answer.pid)
                        return answer
                return None
            time.sleep(0.01)
        return None

    def _ports(self) -> Iterator[int]:
        if self._wanted_port:
            yield self._wanted_port
        if self._fallback or not self._wanted_port:
            last = self._dir.read_state()
            if last is not None and last.port != self._wanted_port:
                yield last.port
            yield from (self._random.choice(_FREE_PORTS) for _ in range(100))

    def _start_on_some_port(self) -> Answer:
        for port in self._ports():
            if _is_free(port):
                with contextlib.suppress(PortTaken):
                    return self._run(port)
        raise PortTaken(
            f"port {self._wanted_port}, wanted for the embedded Valkey, is taken by another program; "
            "choose another with --embedded-port, or 0 for any"
        )

    def _run(self, port: int) -> Answer:
        lock = self._dir.server_lock(patience=10.0)
        try:
            self._process = ValkeyProcess.start(self._dir.path, port, self._fsync, lock)
        finally:
            os.close(lock)
        self._state = ServerState(port, self._process.pid)
        try:
            answer = self._process.wait_until_ready()
        except BaseException:
            self._process.end()
            raise
        self._dir.write_state(self._state)
        return answer

    def _wait_for_end(self) -> str:
        if self._process is None:
            self._dir.wait_for_server_end()
            return "unknown"
        return str(self._process.wait())

    def _watch(self) -> None:
        pause = 0.0
        while True:
            began = time.monotonic()
            code = self._wait_for_end()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > _STEADY:
                pause = 0.0
            died = time.monotonic()
            if not self._restart(pause):
                return
            pause = min(max(0.1, pause * 2), _LONGEST_PAUSE)
            _log.warning(
                "embedded.restarted port=%d pid=%d exit=%s away=%.2fs",
                self.state.port,
                self.state.pid,
                code,
                time.monotonic() - died,
            )

    def _restart(self, pause: float) -> bool:
        """Try until the server runs again on its port; False when `stop` came first."""
        said = ""
        while not self._stopping.wait(pause):
            try:
                self._run(self.state.port)
            except (EmbeddedError, OSError) as error:
                if str(error) != said and not self._stopping.is_set():
                    said = str(error)
                    _log.error("embedded.failed %s", said)
                pause = min(max(0.1, pause * 2), _LONGEST_PAUSE)
            else:
                # When `stop` came meanwhile, it may have signalled the one before only: it ends this one too.
                return not self._stopping.is_set()
        return False
