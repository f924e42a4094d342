"""Several processes on one port: each has a listening socket of its own, so the kernel spreads connections evenly.

(Workers that share one socket pile long-lived connections up on one of them: Kludex/uvicorn-worker#34.)  The
supervisor starts them, restarts one that died, passes signals on, and serves nothing itself.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from gateway.server.listen import base_url, bind, reserve
from gateway.server.run import serve
from gateway.settings import Settings
from gateway.telemetry import METRICS_FOLDER, configure_logging, forget_process

log = logging.getLogger("gateway.supervisor")

_PATIENCE = 15.0
"""Seconds beyond the drain until a worker that does not end is killed."""
_BACKOFF_LAST = 5.0


def _work(settings: Settings, port: int, parent: Connection) -> None:
    configure_logging(settings.log_level, settings.log_json)
    sock = bind(settings.host, port, shared=True)
    code = serve(settings, on_started=parent.send, sock=sock, orphaned=parent)
    raise SystemExit(code)


class Supervisor:
    """Keeps `settings.workers` processes at work on `port` until it is told to stop."""

    def __init__(self, settings: Settings, port: int) -> None:
        self._settings = settings
        self._port = port
        self._context = get_context("spawn")
        self._workers: dict[SpawnProcess, Connection] = {}
        self._restart_at: list[float] = []
        self._failures = 0
        self._signals: list[int] = []

    def __repr__(self) -> str:
        return f"<Supervisor port={self._port} workers={[worker.pid for worker in self._workers]}>"

    def run(self, on_started: Callable[[], None]) -> int:
        """Until a signal, or until no worker can be started; the exit code."""
        handlers = {sig: signal.signal(sig, self._note) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            for _ in range(self._settings.workers):
                self._start()
            if not self._all_listen():
                return 0 if self._signals else 1
            on_started()
            self._watch()
            return 0
        finally:
            self._stop()
            for sig, handler in handlers.items():
                signal.signal(sig, handler)

    def _note(self, sig: int, frame: FrameType | None) -> None:
        self._signals.append(sig)

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        worker = self._context.Process(target=_work, args=(self._settings, self._port, theirs))
        worker.start()
        theirs.close()
        self._workers[worker] = ours

    def _all_listen(self) -> bool:
        waiting = set(self._workers.values())
        while waiting and not self._signals:
            for ready in wait([*waiting, *(worker.sentinel for worker in self._workers)], timeout=0.2):
                if ready not in waiting:
                    return False
                assert isinstance(ready, Connection)
                try:
                    ready.recv()
                except EOFError:
                    return False
                waiting.discard(ready)
        return not waiting

    def _watch(self) -> None:
        while not self._signals:
            wait([worker.sentinel for worker in self._workers], timeout=0.2)
            for worker in [worker for worker in self._workers if not worker.is_alive()]:
                self._workers.pop(worker).close()
                forget_process(worker.pid or 0)
                self._failures += 1
                delay = min(_BACKOFF_LAST, 0.1 * 2 ** min(self._failures, 10))
                log.error("worker.died pid=%s exit=%s restart_in=%.1f", worker.pid, worker.exitcode, delay)
                self._restart_at.append(time.monotonic() + delay)
            due = [moment for moment in self._restart_at if moment <= time.monotonic()]
            for moment in due:
                self._restart_at.remove(moment)
                self._start()
            if any(connection.poll() for connection in self._workers.values()):
                self._hear()

    def _hear(self) -> None:
        """A restarted worker listens."""
        for connection in self._workers.values():
            try:
                if connection.poll():
                    connection.recv()
                    self._failures = 0
            except EOFError:
                continue

    def _stop(self) -> None:
        """Pass the signal on; a second one too; kill what does not end."""
        passed_on = 0
        deadline = time.monotonic() + self._settings.drain_seconds + _PATIENCE
        self._signals = self._signals or [signal.SIGTERM]
        while any(worker.is_alive() for worker in self._workers) and time.monotonic() < deadline:
            for sig in self._signals[passed_on:]:
                for worker in self._workers:
                    if worker.pid is not None and worker.is_alive():
                        os.kill(worker.pid, sig)
            passed_on = len(self._signals)
            wait([worker.sentinel for worker in self._workers if worker.is_alive()], timeout=0.2)
        for worker, connection in self._workers.items():
            worker.kill()
            worker.join()
            connection.close()


def supervise(settings: Settings, *, on_started: Callable[[str], None] | None = None) -> int:
    """As `gateway.server.run.serve`, with `settings.workers` processes. Raises `OSError` when the port is taken."""
    held = reserve(settings.host, settings.port)
    url = base_url(held, tls=settings.ssl_certfile is not None)
    folder = tempfile.mkdtemp(prefix="gateway-metrics-")
    os.environ[METRICS_FOLDER] = folder
    try:
        supervisor = Supervisor(settings, held.getsockname()[1])
        return supervisor.run(lambda: on_started(url) if on_started else None)
    finally:
        held.close()
        del os.environ[METRICS_FOLDER]
        shutil.rmtree(folder, ignore_errors=True)
