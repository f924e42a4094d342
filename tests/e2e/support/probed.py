"""The server as ``gateway serve`` runs it, with a hook: SIGUSR1 makes it append a line of JSON with what it holds.

Run as ``python -m tests.e2e.support.probed FILE '<settings as JSON>'``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

from gateway.server import serve
from gateway.settings import Settings
from gateway.telemetry import configure_logging


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _tell(file: Path) -> None:
    gc.collect()
    kinds = [kind.__name__ for kind in map(type, gc.get_objects())]
    facts = {
        "tasks": sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks()),  # type: ignore[union-attr]
        "subscribers": kinds.count("Subscriber"),
        "resident": _resident(),
    }
    with file.open("a") as out:
        out.write(json.dumps(facts) + "\n")


def main(file: Path, settings: Settings) -> int:
    """Serve until a signal."""
    configure_logging("info", as_json=False)

    def on_started(url: str) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell, file)

    return serve(settings, on_started=on_started)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Settings(**json.loads(sys.argv[2]))))
