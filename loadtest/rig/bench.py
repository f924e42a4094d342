"""One run of load tests: its folder, its Redis, its cores, its progress bar; it starts servers and ends them all."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtest import peers
from loadtest.peers import Options, Peer, Site
from loadtest.rig.broker import Broker
from loadtest.rig.machine import busy, raise_file_limit
from loadtest.rig.stats import Row, medians


class Bench:
    """The context of a run. Enter it to have Redis; leave it and nothing is left of it."""

    def __init__(self, args: argparse.Namespace, console: Console) -> None:
        self.args = args
        self.console = console
        self.notes = [warning] if (warning := busy()) else []
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            # Drawn by `_draw` at its own pace: a thread that draws would take the interpreter from the measurement.
            auto_refresh=False,
            transient=True,
            disable=args.quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None)

    async def __aenter__(self) -> Bench:
        raise_file_limit()
        os.sched_setaffinity(0, self.args.generator_cores)
        self._stack = contextlib.AsyncExitStack()
        async with contextlib.AsyncExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadtest-")))
            self.broker = Broker(self.folder, self.args.generator_cores)
            stack.callback(self.broker.stop)
            await self.broker.start()
            stack.enter_context(self._progress)
            drawing = asyncio.create_task(self._draw())
            stack.callback(drawing.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def begin(self, args: argparse.Namespace) -> None:
        """Go on with another test."""
        self.args = args
        self.notes = []

    async def _draw(self) -> None:
        while True:
            self._progress.refresh()
            await asyncio.sleep(0.5)

    def say(self, text: str) -> None:
        """What is being done now."""
        self._progress.update(self._task, description=text)

    def chosen(self, *needs: str) -> list[str]:
        """The gateway and the peers asked for that can do `needs`; a note says why one is left out."""
        wanted = ([] if self.args.no_gateway else ["gateway"]) + self.args.peer
        able = []
        for name in dict.fromkeys(wanted):
            server = peers.load(name)
            if not set(needs) <= server.can:
                self.notes.append(
                    f"{name} is left out: it cannot do this ({', '.join(sorted(set(needs) - server.can))})"
                )
            elif (missing := server.missing()) is not None:
                self.notes.append(f"{name} is left out: {missing}")
            else:
                able.append(name)
        return able

    def options(self, **changes: Any) -> Options:
        """Start-up options from the command line, with `changes`."""
        basic = Options(format=self.args.format, workers=self.args.workers, extra=tuple(self.args.serve_arg))
        return replace(basic, **changes)

    def make(self, name: str, **changes: Any) -> Peer:
        """A server that has not been started."""
        options = self.options(**changes)
        if name != "gateway":
            options = replace(options, extra=())
        return peers.load(name)(Site(self.folder, self.args.server_cores, self.broker), options)

    @contextlib.asynccontextmanager
    async def server(self, name: str, **changes: Any) -> AsyncIterator[Peer]:
        """A server started afresh on an empty Redis."""
        await self.broker.call("FLUSHALL")
        await self.broker.call("CONFIG", "RESETSTAT")
        async with self.restarted(name, **changes) as peer:
            yield peer

    @contextlib.asynccontextmanager
    async def restarted(self, name: str, **changes: Any) -> AsyncIterator[Peer]:
        """A server started afresh on the Redis as it is."""
        peer = self.make(name, **changes)
        self.say(f"{name}: starting")
        try:
            await peer.start()
            yield peer
        except (RuntimeError, OSError) as error:
            said = "" if peer.process is None else peer.process.output()[-3000:]
            raise RuntimeError(f"{error or type(error).__name__}\n--- {name} said:\n{said}") from error
        finally:
            peer.stop()

    async def compare(self, cases: Mapping[str, Callable[[], Awaitable[Row]]]) -> dict[str, Row]:
        """Run every case, `--rounds` times in turn, and take the medians. Raises `RuntimeError` when there is none."""
        if not cases:
            raise RuntimeError("nothing to measure: " + ("; ".join(self.notes) or "no server was chosen"))
        rows: dict[str, list[Row]] = {label: [] for label in cases}
        self._progress.reset(self._task, total=self.args.rounds * len(cases))
        for _ in range(self.args.rounds):
            for label, measure in cases.items():
                rows[label].append(await measure())
                self._progress.advance(self._task)
        return {label: medians(found) for label, found in rows.items()}
