"""The house rules: who may import whom, no circles, and sizes that stay readable."""

from __future__ import annotations

import ast
import graphlib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GATEWAY = ROOT / "gateway"

# "About 300" and "about 40".
MOST_LINES_OF_A_FILE = 330
MOST_LINES_OF_A_FUNCTION = 45
TOO_LONG = {"sse/live": 335}
"""Files that hold two nouns still. They may shrink, not grow, and nothing may be added here."""
TOO_LONG_FUNCTIONS = {"server/http2": 53}
"""Likewise: the longest function of a file."""

# From the roof down: a room may use those below its own line.
FLOORS: list[set[str]] = [
    {"__main__"},
    {"cli"},
    {"server"},
    {"app"},
    {"operations", "guard"},
    {"apidoc"},
    {"publish", "dashboard"},
    {"sse", "bridge"},
    {"access"},
    {"stream"},
    {"events", "backend"},
]
# Values and tools without a room of their own.
ANYWHERE = {"errors", "telemetry", "settings", "__init__"}

LIBRARIES: dict[str, tuple[str, ...]] = {
    "redis": ("backend/", "stream/store", "bridge/ledger", "access/keys"),
    "uvicorn": ("server/",),
    # server/run names the type of the application that it runs.
    "starlette": (
        "app",
        "publish",
        "operations",
        "/routes",
        "sse/door",
        "sse/response",
        "access/gate",
        "dashboard/",
        "server/run",
    ),
}


@cache
def modules() -> dict[str, Path]:
    """Name below ``gateway`` with slashes, such as ``sse/hub``, to file."""
    return {str(path.relative_to(GATEWAY).with_suffix("")): path for path in sorted(GATEWAY.rglob("*.py"))}


@cache
def imports(path: Path) -> frozenset[str]:
    """Full dotted names of all that a file imports for use at run time, wherever in it."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def inner(path: Path) -> set[str]:
    """The modules of this package that a file imports, as names of `modules`."""
    known = modules()
    names = {name.removeprefix("gateway.").replace(".", "/") for name in imports(path) if name.startswith("gateway.")}
    return {
        name if name in known else f"{name}/__init__" for name in names if name in known or f"{name}/__init__" in known
    }


@pytest.mark.parametrize("name", modules())
def test_arrows_point_down(name: str) -> None:
    room = name.split("/")[0]
    if room in ANYWHERE:
        assert {other.split("/")[0] for other in inner(modules()[name])} <= ANYWHERE | FLOORS[-1] | {"stream"}
        return
    floor = next(at for at, rooms in enumerate(FLOORS) if room in rooms)
    below = set().union(*FLOORS[floor + 1 :]) | ANYWHERE | {room}
    assert {other.split("/")[0] for other in inner(modules()[name])} <= below


def test_every_room_has_its_place() -> None:
    rooms = {name.split("/")[0] for name in modules()}
    assert rooms <= set().union(*FLOORS) | ANYWHERE


def test_no_circles() -> None:
    graph = {name: inner(path) - {name} for name, path in modules().items()}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_in_their_rooms(library: str) -> None:
    users = {name for name, path in modules().items() if any(used.split(".")[0] == library for used in imports(path))}
    allowed = LIBRARIES[library]
    strangers = {
        name
        for name in users
        if not any(
            name == where or (where[0] == "/" and name.endswith(where)) or (where[-1] == "/" and name.startswith(where))
            for where in allowed
        )
    }
    assert strangers == set()


def test_settings_stop_at_the_app() -> None:
    """Below it there are plain values; a function that hides passwords is no setting."""
    users = {
        name
        for name, path in modules().items()
        if {used for used in imports(path) if used.startswith("gateway.settings.")} - {"gateway.settings.masked_url"}
    }
    assert {name for name in users if name.split("/")[0] not in ("cli", "server")} <= {"app", "guard"}


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("events/")])
def test_the_core_is_pure(name: str) -> None:
    impure = {
        "asyncio",
        "socket",
        "time",
        "random",
        "os",
        "logging",
        "threading",
        "secrets",
        "pathlib",
        "redis",
        "starlette",
    }
    assert not {used.split(".")[0] for used in imports(modules()[name])} & impure


@pytest.mark.parametrize("name", modules())
def test_sizes(name: str) -> None:
    text = modules()[name].read_text()
    assert len(text.splitlines()) <= TOO_LONG.get(name, MOST_LINES_OF_A_FILE)
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > TOO_LONG_FUNCTIONS.get(name, MOST_LINES_OF_A_FUNCTION)
    ]
    assert long == []
