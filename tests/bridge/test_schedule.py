"""Waits as documented, never shorter."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bridge.dialects import DIALECTS, markdown_table
from gateway.bridge.schedule import MAX_RETRY_AFTER, Step, parse_retry_after, plan, throttled, wait_before

DOCUMENTED = {
    "standard": ([0, 5, 300, 1800, 7200, 18000, 36000, 36000], 15),
    "trunx": ([0, 30, 120, 600, 3600], 15),
    "truedy": ([0, 5, 300, 1800, 7200, 18000, 36000, 36000], 10),
    "telnyx-hmac": ([0, 60, 300, 900, 3600], 10),
    "tryvox": ([0, 1, 4, 16], 5),
    "cloudevents": ([0, 5, 300, 1800, 7200, 18000, 36000, 36000], 15),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_schedule_and_timeout_are_those_of_the_contract(name: str) -> None:
    waits, timeout = DOCUMENTED[name]
    dialect = DIALECTS[name]
    assert [step.wait for step in plan(dialect, None, failover=False)] == waits
    assert dialect.timeout == timeout


def test_failover() -> None:
    telnyx = DIALECTS["telnyx"]
    assert [step.failover for step in plan(telnyx, None, failover=True)] == [False] * 3 + [True] * 3
    assert [step.failover for step in plan(telnyx, None, failover=False)] == [False] * 3
    tryvox = plan(DIALECTS["tryvox"], None, failover=True)
    assert tryvox == (*(Step(wait, False) for wait in (0, 1, 4, 16)), Step(0, True))
    assert plan(telnyx, (0.0, 7.0), failover=False) == (Step(0, False), Step(7, False))
    assert plan(telnyx, "trunx", failover=False) == plan(DIALECTS["trunx"], None, failover=False)


@given(st.sampled_from(list(DIALECTS)), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e9))
def test_jitter_only_makes_it_later(name: str, luck: float, retry_after: float | None) -> None:
    dialect = DIALECTS[name]
    for step in plan(dialect, None, failover=True):
        wait = wait_before(step, dialect.jitter, luck, retry_after)
        assert wait >= step.wait
        assert wait <= max(step.wait * 1.1, min(retry_after or 0, MAX_RETRY_AFTER))
        assert wait >= min(retry_after or 0, MAX_RETRY_AFTER)
    assert throttled(dialect.jitter, luck, retry_after) >= min(retry_after or 0, MAX_RETRY_AFTER)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        (formatdate(1000060, usegmt=True), 60),
        (formatdate(10, usegmt=True), 0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 5000, 9999999999),
        (None, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, 1_000_000.0) == seconds


def test_the_table_of_the_documentation_names_every_dialect() -> None:
    rows = markdown_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(DIALECTS)
    assert all(row.replace("\\|", "").count("|") == 7 for row in rows)
