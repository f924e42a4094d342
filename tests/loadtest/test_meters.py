"""The parts that measure: they have to see what is there, and what is not."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import fanout, saturate, verify
from loadtest.rig import chart, fleet, machine, report, stats
from loadtest.rig.payload import MARK, STAMP, payload


@given(number=st.integers(0, 10**9), size=st.integers(0, 2000))
def test_a_payload_has_its_size_and_one_mark(number: int, size: int) -> None:
    data = payload(number, size)
    assert data.count(MARK) == 1
    assert len(data) == max(size, len(payload(number, 0)))
    match = STAMP.search(data)
    assert match is not None
    assert int(match[2]) == number


def test_quantiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert stats.quantile(values, 0.5) == 50
    assert stats.quantile(values, 0.99) == 99
    assert stats.quantile([7.0], 0.99) == 7
    assert math.isnan(stats.quantile([], 0.5))


def test_medians_are_taken_by_key() -> None:
    assert stats.medians([{"a": 1, "b": 9}, {"a": 5, "b": 1}, {"a": 3, "b": 2}]) == {"a": 3, "b": 2}


def test_ratios_only_where_both_were_measured() -> None:
    rows = {"gateway": {"x": 6.0}, "floor": {"x": 3.0}, "nchan": {"y": 1.0}}
    assert stats.gateway_over_peers(rows, "x", "cost") == {"gateway / floor, cost": 2.0}


async def test_a_sampler_counts_the_same_however_its_bytes_are_cut() -> None:
    stream = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(b"data: %b\n\n" % payload(i, 80) for i in range(50))
    for step in (1, 7, 64, len(stream)):
        sampler = fleet.Sampler(b"")
        for at in range(0, len(stream), step):
            chunk = stream[at : at + step]
            sampler.get_buffer(-1)[: len(chunk)] = chunk
            # The head comes whole: a status line that is cut is a server nobody has.
            sampler.buffer_updated(len(chunk)) if at or step > 12 else sampler.opened.set_result(None)
        missed = 0 if step > 12 else stream[:step].count(MARK)
        assert sampler.count == 50 - missed
        assert len(sampler.latencies) == 50
        assert all(ns >= 0 for ns in sampler.latencies)


def test_verify_sees_loss_repetition_and_what_was_not_asked_for() -> None:
    tally = verify.Tally(expected=[0, 2, 4, 6, 8])
    for number in (0, 2, 2, 6, 5):
        tally.see(payload(number, 60))
    assert (tally.lost, tally.repeated, tally.foreign, tally.late) == (1, 1, 1, 1)
    tally.see(payload(8, 60))
    assert (tally.lost, tally.late) == (1, 0)


def test_verify_sees_disorder() -> None:
    tally = verify.Tally(expected=[0, 1, 2])
    for number in (0, 2, 1):
        tally.see(payload(number, 60))
    assert (tally.lost, tally.repeated) == (1, 1)


@pytest.mark.parametrize(
    ("change", "holds"),
    [({}, True), ({"lost": 1}, False), ({"extra": 1}, False), ({"p99_ms": 101}, False), ({"sent_per_s": 90}, False)],
)
def test_a_step_of_saturate_holds_only_when_all_is_well(change: dict[str, float], holds: bool) -> None:
    row = {"lost": 0.0, "extra": 0.0, "p99_ms": 99.0, "sent_per_s": 99.0} | change
    assert saturate.holds(row, 100, 100) is holds


def test_a_target_is_open_until_all_its_ratios_are_there() -> None:
    limits = {"a": ("<=", 2.0), "b": (">=", 10.0)}
    assert report.ratio_target("x", "t", {"a": 1.5}, limits).met is None
    assert report.ratio_target("x", "t", {"a": 1.5, "b": 11}, limits).met is True
    assert report.ratio_target("x", "t", {"a": 1.5, "b": 9}, limits).met is False


def test_a_report_is_json_and_markdown_also_with_holes() -> None:
    found = report.Report(
        "fanout", "title", "load", fanout.COLUMNS, {"gateway": {"p99_ms": float("nan"), "lost": 0}}, {"a / b": 1.5}
    )
    assert found.as_json({"cores": "2"}, {})["rows"] == {"gateway": {"p99_ms": None, "lost": 0}}
    assert "| gateway | – |" in report.as_markdown(found)
    assert "**1.50**" in report.as_markdown(found)


def test_charts_are_xml_and_escape_names() -> None:
    drawn = chart.bars("<a & b>", "µs", {"gateway, <x>": 3.0, "none": float("nan")})
    assert "".join(ElementTree.fromstring(drawn).itertext()).count("<x>") == 1
    drawn = chart.lines("t", "x", "y", {"one": [(1, 2), (10, 20)], "two": [(0, 1), (5, float("nan"))], "dot": [(3, 3)]})
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert ElementTree.fromstring(chart.lines("t", "x", "y", {})) is not None


@pytest.mark.parametrize(("text", "cores"), [("0", {0}), ("0,2-4", {0, 2, 3, 4})])
def test_lists_of_cores(text: str, cores: set[int]) -> None:
    assert machine.parse_cores(text) == cores
