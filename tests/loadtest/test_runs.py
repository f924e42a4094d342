"""Each load test runs, small: it starts servers, measures, writes what it was asked for, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from loadtest import peers
from tests.support.wait import wait_until_sync

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "loadtest", *arguments]


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run a test of the package in a process of its own, since it binds itself to cores; answer its JSON."""
    out = tmp_path / "out.json"
    done = subprocess.run(
        command(*arguments, "--quiet", "--json", str(out)), cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def left_behind(folder: Path) -> list[str]:
    """Command lines of the processes that were started with `folder` for temporary files, or run in it, as Redis does.

    Redis writes its title over its environment, so that the one sign is not enough.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                place = (entry / "cwd").readlink()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"TMPDIR={folder}".encode() in environment or place.is_relative_to(folder):
                found.append(line)
    return found


def able(*names: str) -> list[str]:
    return [word for name in names if peers.load(name).missing() is None for word in ("--peer", name)]


def test_fanout_beside_its_peers(tmp_path: Path) -> None:
    plot = tmp_path / "fanout.svg"
    small = ["--subscribers", "5", "--rate", "50", "--seconds", "0.4", "--warmup", "0"]
    found = run(tmp_path, "fanout", *small, *able("floor", "nchan", "naive"), "--plot", str(plot))
    assert "gateway" in found["rows"]
    for row in found["rows"].values():
        assert row["deliveries"] == 100
        assert row["lost"] == row["extra"] == 0
        assert row["p50_ms"] > 0
    assert found["machine"]["cores"] == str(os.cpu_count())
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


@pytest.mark.parametrize("peer", ["floor", "nchan"])
def test_a_frame_has_the_size_that_was_asked_for(tmp_path: Path, peer: str) -> None:
    if not able(peer):
        pytest.skip(f"{peer} cannot run here")
    found = run(
        tmp_path, "fanout", "--no-gateway", "--frame", "200", "--subscribers", "2", "--seconds", "0.3", *able(peer)
    )
    # Chunk framing comes on top.
    assert 195 <= found["rows"][peer]["bytes_per_delivery"] <= 215


def test_verify_finds_nothing_wrong_with_the_gateway(tmp_path: Path) -> None:
    small = ["--subscribers", "6", "--events", "150", "--rate", "150", "--cut-every", "0.2", "--away", "0.05"]
    found = run(tmp_path, "verify", *small, "--restarts", "1")
    row = found["rows"]["gateway"]
    assert row["cuts"] > 0
    assert row["deliveries"] == 2 * 150 + 2 * 150
    assert row["lost"] == row["late"] == row["repeated"] == row["foreign"] == 0


def test_storm_counts_the_commands_of_redis(tmp_path: Path) -> None:
    found = run(tmp_path, "storm", "--clients", "5", "--behind", "50")
    row = found["rows"]["gateway"]
    assert row["lost"] == row["extra"] == 0
    assert row["redis_reads"] > 0
    assert row["ranges_read"] >= 1


def test_abuse_refuses_every_bad_key_and_loses_nothing(tmp_path: Path) -> None:
    small = ["--subscribers", "5", "--samplers", "5", "--events", "20", "--rate", "100", "--seconds", "0.5"]
    found = run(tmp_path, "abuse", *small)
    row = found["rows"]["gateway"]
    assert row["refused_per_s"] > 0
    assert row["let_in"] == row["unanswered"] == row["lost"] == 0
    assert row["p99_ms_before"] > 0
    assert row["p99_ms_during"] > 0


def test_connect_with_and_without_a_key(tmp_path: Path) -> None:
    found = run(tmp_path, "connect", "--keys", "--connections", "50", "--events", "2", "--pairs", "2")
    assert set(found["rows"]) == {"gateway, open", "gateway, with a key"}
    assert all(row["lost"] == 0 and row["cpu_us_per_connect"] > 0 for row in found["rows"].values())
    assert [target["letter"] for target in found["targets"]] == ["D", "D"]


@pytest.mark.slow
def test_all_writes_a_page_with_every_test(tmp_path: Path) -> None:
    done = subprocess.run(
        command("all", "--quick", "--quiet", "--only", "connect", "replay", "--peer", "bare", "--out", str(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "RESULTS.md").read_text()
    assert "## connect:" in page
    assert "## replay:" in page
    for picture in re.findall(r"\]\((results/.+\.svg)\)", page):
        assert (tmp_path / picture).exists()


@pytest.mark.parametrize("arguments", [["nonsense"], [], ["fanout", "--peer", "nonsense"], ["fanout", "--nonsense"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    peer = able("floor")
    if not peer:
        pytest.skip("there is no C compiler")
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    small = ["--no-gateway", "--subscribers", "3", "--seconds", "60"]
    running = subprocess.Popen(command("fanout", *small, *peer, "--quiet"), cwd=ROOT, env=env, stderr=subprocess.PIPE)
    try:
        # The load test, its Redis, and the floor, which ends its command line with two ports.
        wait_until_sync(lambda: any(re.search(r"/floor \d+ \d+", line) for line in left_behind(tmp_path)))
        assert any("redis-server" in line or "valkey" in line for line in left_behind(tmp_path))
    finally:
        running.send_signal(number)
        _, errors = running.communicate(timeout=20)
    wait_until_sync(lambda: not left_behind(tmp_path), "all processes have ended")
    assert b"Traceback" not in errors
