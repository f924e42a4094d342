"""The command ``gateway`` as a user runs it: its own process, stdout and stderr apart, no settings inherited."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.child import ROOT
from tests.support.wait import wait_until_sync

_GATEWAY = (sys.executable, "-m", "gateway")
# A process starts in a second, but a machine that runs other tests beside these may need many.
_PATIENCE = 60.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's variables without those that configure a gateway, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "REDIS_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", **(extra or {})}


def run(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes = b"",
    timeout: float = 2 * _PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """Run ``gateway`` with `arguments` to its end."""
    done = subprocess.run(
        [*_GATEWAY, *arguments],
        cwd=cwd,
        env=environment(env),
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Command:
    """A ``gateway`` command that goes on until it is stopped. Use it as a context manager."""

    def __init__(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, name: str = "command") -> None:
        self._out, self._err = cwd / f"{name}.out", cwd / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*_GATEWAY, *arguments],
                cwd=cwd,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=_die_with_parent,
            )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def lines(self) -> list[str]:
        """The complete lines on stdout so far."""
        return self.out.split("\n")[:-1]

    def wait_for_lines(self, count: int) -> list[str]:
        wait_until_sync(
            lambda: len(self.lines()) >= count or self._gone(), f"{count} lines: {self.lines()[-3:]}", _PATIENCE
        )
        return self.lines()

    def wait_for_err(self, text: str) -> None:
        wait_until_sync(lambda: text in self.err or self._gone(), f"{text!r} in: {self.err}", _PATIENCE)

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Send `signum`; answer the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def _gone(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.out}{self.err}"
        return False


class Serve(Command):
    """A gateway with its banner read. Its ports are free ones, unless told otherwise."""

    def __init__(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, name: str = "serve") -> None:
        ports = [word for flag in ("--port", "--embedded-port") if flag not in arguments for word in (flag, "0")]
        super().__init__("serve", *ports, *arguments, cwd=cwd, env=env, name=name)
        try:
            wait_until_sync(lambda: "XADD" in self.out or self._gone(), "the banner", _PATIENCE)
        except BaseException:
            self.stop()
            raise
        self.url = self._find(r"gateway\s+(http://\S+)")
        self.redis_url = self._find(r"redis\s+(\S+)")

    def __enter__(self) -> Serve:
        return self

    def _find(self, pattern: str) -> str:
        match = re.search(pattern, self.out)
        assert match, self.out
        return match[1]
