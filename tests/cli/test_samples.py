"""The demo's events: the whole catalogue, early, valid, and the same for the same seed."""

from __future__ import annotations

import random
from itertools import islice

import orjson

from gateway.cli.samples import TENANTS, Samples
from gateway.events.event import Event, read_entry

CATALOGUE = {
    "sms.sent",
    "sms.delivered",
    "sms.failed",
    "sms.received",
    "voice.initiated",
    "voice.ai.initiated",
    "voice.inbound",
    "voice.answered",
    "voice.completed",
    "voice.ai.completed",
    "voice.failed",
    "voice.amd",
    "campaign.call.initiated",
    "campaign.call.human_connected",
    "campaign.call.voicemail",
    "campaign.call.failed",
    "campaign.stats.updated",
    "campaign.paused.no_dids",
}


def _samples(seed: int) -> Samples:
    return Samples(random.Random(seed), lambda: "2025-01-01T12:00:00.000Z")


def test_every_type_comes_within_the_first_fifty_and_no_other() -> None:
    for seed in range(20):
        assert {sample.type for sample in islice(_samples(seed), 50)} == CATALOGUE
        assert {sample.type for sample in islice(_samples(seed), 2000)} == CATALOGUE


def test_samples_are_valid_events() -> None:
    for index, sample in enumerate(islice(_samples(1), 500)):
        data = orjson.dumps(sample.data)
        fields = [b"type", sample.type.encode(), b"data", data, b"tenant", sample.tenant.encode()]
        event = read_entry("events", f"{index + 1}-0".encode(), fields)
        assert isinstance(event, Event)
        assert event.data == data
        assert event.tenant in TENANTS


def test_a_message_is_sent_before_it_is_delivered() -> None:
    seen: dict[str, str] = {}
    for sample in islice(_samples(2), 1000):
        if sample.type == "sms.delivered":
            assert seen[sample.data["id"]] == "sms.sent"
        if "id" in sample.data:
            seen[sample.data["id"]] = sample.type


def test_the_same_seed_gives_the_same_events() -> None:
    assert list(islice(_samples(3), 100)) == list(islice(_samples(3), 100))
    assert list(islice(_samples(3), 100)) != list(islice(_samples(4), 100))
