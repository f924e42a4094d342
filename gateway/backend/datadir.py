"""The directory of an embedded Valkey: who uses it, and where its server listens.

Two locks, both released by the kernel however their holder ends: ``gateway.lock`` is held by the gateway that runs the
server, ``valkey.lock`` by the server itself, which inherits the descriptor.  So "is it in use" and "is the server still
alive" are facts, not guesses from process ids that may have been used again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

_BUSY = (errno.EAGAIN, errno.EACCES)


class EmbeddedError(Exception):
    """The embedded Valkey cannot run; the message is one sentence for people."""


class ServerState(NamedTuple):
    """What a running server leaves for other commands: where it listens, and its process id."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """For any Redis client on this machine."""
        return f"redis://127.0.0.1:{self.port}/0"


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


class DataDir:
    """`path` is made when it does not exist yet, readable by this user only."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._state = self.path / "embedded.json"
        self._claim: int | None = None

    def __repr__(self) -> str:
        return f"<DataDir {self.path} {'claimed' if self._claim is not None else 'not claimed'}>"

    def claim(self) -> None:
        """Take the directory for this process until `release`. Raises `EmbeddedError`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
            fd = self._open("gateway.lock")
            if not _try_lock(fd):
                holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
                os.close(fd)
                raise EmbeddedError(
                    f"data dir {self.path} is in use by another gateway (process {holder or 'unknown'}); "
                    "stop it, or choose another with --data-dir"
                )
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise EmbeddedError(
                f"cannot write to data dir {self.path}: {error.strerror}; choose another with --data-dir"
            ) from None
        self._claim = fd

    def release(self) -> None:
        """Let another process claim the directory."""
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def server_lock(self, patience: float) -> int:
        """A descriptor that holds the server's lock, to be inherited by the server and closed here.

        Waits up to `patience` seconds for a server that is going down.  Raises `EmbeddedError` when one stays.
        """
        fd = self._open("valkey.lock")
        until = time.monotonic() + patience
        while not _try_lock(fd):
            if time.monotonic() >= until:
                os.close(fd)
                raise EmbeddedError(
                    f"a Valkey that was left behind still holds data dir {self.path}, and does not answer"
                )
            time.sleep(0.01)
        return fd

    def wait_for_server_end(self) -> None:
        """Return once no process holds the server's lock."""
        fd = self._open("valkey.lock")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)

    def server_is_alive(self) -> bool:
        """Whether a process holds the server's lock now."""
        try:
            fd = os.open(self.path / "valkey.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not _try_lock(fd)
        finally:
            os.close(fd)

    def read_state(self) -> ServerState | None:
        """Where the server listens, or listened last; None when none ever ran here."""
        try:
            state = json.loads(self._state.read_bytes())
            return ServerState(port=int(state["port"]), pid=int(state["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_state(self, state: ServerState) -> None:
        """Tell other commands where the server listens. Atomic: a reader sees the old or the new."""
        draft = self._state.with_suffix(".new")
        draft.write_text(json.dumps({"url": state.url, **state._asdict()}) + "\n")
        draft.replace(self._state)

    def _open(self, name: str) -> int:
        return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def find_embedded(data_dir: Path) -> str | None:
    """The URL of the embedded Valkey that runs in `data_dir` now, else None."""
    directory = DataDir(data_dir)
    state = directory.read_state()
    return state.url if state and directory.server_is_alive() else None
