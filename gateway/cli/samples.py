"""Sample events: the 18 types of Trunx's catalogue, with payloads as telephony vendors document them. Pure.

Events come as little stories, a message that is sent and then delivered, a call that rings, is answered and ends: ids
recur, and a dashboard has something to show.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

TENANTS = ("cust_123", "cust_207", "cust_318", "cust_456")
_TEXTS = (
    "Your code is 482 913. It is valid for 10 minutes.",
    "Hi Ana, your table for 4 is confirmed for 19:30.",
    "Ihre Sendung kommt heute zwischen 14 und 16 Uhr.",
    "Recordatorio: su cita es mañana a las 9:00 ✅",
    "STOP",
    "ありがとうございます。ご注文を承りました。",
)
_SUMMARIES = (
    "Caller asked about pricing, shown the Pro plan.",
    "Appointment moved to Thursday, 3 pm.",
    "Caller wanted a refund; ticket opened.",
    "No answer to the offer; call back next week.",
)
_ERRORS = (
    {"code": "10004", "title": "Invalid destination", "detail": "The destination number is not reachable"},
    {"code": "40008", "title": "Undeliverable", "detail": "The recipient's carrier did not accept the message"},
    {"code": "40300", "title": "Blocked", "detail": "The recipient has opted out"},
)
_VOICES = ("USER_BUSY", "NO_ANSWER", "CALL_REJECTED", "NETWORK_FAILURE")


class Sample(NamedTuple):
    """An event to be. `data` is a JSON object."""

    type: str
    tenant: str
    data: dict[str, Any]


Step = tuple[str, dict[str, Any]]
Story = Generator[Step, None, None]


class Samples:
    """An endless iterator of `Sample`. `chance` decides everything; `now` gives RFC 3339 times for the payloads."""

    def __init__(self, chance: random.Random, now: Callable[[], str]) -> None:
        self._random = chance
        self._now = now
        # Each story once, in order, before chance sets in: every type is seen within the first minute.
        self._opening: list[Callable[[], Story]] = [story for story, _ in reversed(self._stories())]
        self._open: list[tuple[str, Story]] = []

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        """The next event of a story that is under way, or the first of a new one."""
        while True:
            if len(self._open) < 6:
                self._open.append((self._random.choice(TENANTS), self._new_story()))
            index = self._random.randrange(len(self._open))
            tenant, story = self._open[index]
            step = next(story, None)
            if step is not None:
                return Sample(step[0], tenant, step[1])
            del self._open[index]

    def _stories(self) -> list[tuple[Callable[[], Story], int]]:
        """Stories and how often they happen, relative to each other."""
        return [
            (self._sms, 30),
            (self._call, 16),
            (self._ai_call, 12),
            (self._campaign_reached, 10),
            (self._sms_received, 14),
            (self._inbound_call, 8),
            (self._sms_failed, 4),
            (self._call_failed, 4),
            (self._campaign_voicemail, 8),
            (self._campaign_failed, 4),
            (self._campaign_stats, 6),
            (self._campaign_paused, 1),
        ]

    def _new_story(self) -> Story:
        if self._opening:
            return self._opening.pop()()
        stories, weights = zip(*self._stories(), strict=True)
        chosen: Callable[[], Story] = self._random.choices(stories, weights)[0]
        return chosen()

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._random.getrandbits(48):012x}"

    def _number(self) -> str:
        return f"+1555{self._random.randrange(10**7):07d}"

    def _message(self) -> dict[str, Any]:
        text = self._random.choice(_TEXTS)
        parts = 1 + len(text) // 70
        return {
            "id": self._id("msg"),
            "from": self._number(),
            "to": self._number(),
            "text": text,
            "encoding": "GSM-7" if text.isascii() else "UCS-2",
            "parts": parts,
            "cost": {"amount": round(0.0051 * parts, 4), "currency": "USD"},
        }

    def _sms(self) -> Story:
        message = self._message()
        yield "sms.sent", {**message, "status": "sent", "sent_at": self._now()}
        done = {"status": "delivered", "carrier": self._random.choice(("T-MOBILE USA, INC.", "VERIZON", "AT&T"))}
        yield "sms.delivered", {key: message[key] for key in ("id", "from", "to")} | done

    def _sms_failed(self) -> Story:
        message = self._message()
        yield "sms.sent", {**message, "status": "sent", "sent_at": self._now()}
        failed = {"status": "delivery_failed", "errors": [self._random.choice(_ERRORS)]}
        yield "sms.failed", {key: message[key] for key in ("id", "from", "to")} | failed

    def _sms_received(self) -> Story:
        yield "sms.received", {**self._message(), "direction": "inbound", "received_at": self._now(), "media": []}

    def _leg(self, direction: str = "outbound") -> dict[str, Any]:
        return {
            "call_uuid": self._id("call"),
            "from": self._number(),
            "to": self._number(),
            "direction": direction,
        }

    def _ended(self, reason: str = "hangup") -> dict[str, Any]:
        seconds = self._random.randrange(4, 600)
        return {
            "status": "completed",
            "duration": seconds,
            "costUsd": round(seconds * 0.0015, 4),
            "end_reason": reason,
        }

    def _call(self) -> Story:
        leg = self._leg()
        yield "voice.initiated", {**leg, "status": "ringing"}
        yield "voice.answered", {**leg, "status": "answered"}
        yield "voice.amd", {**leg, "result": "human", "confidence": round(self._random.uniform(0.8, 1), 2)}
        yield "voice.completed", {**leg, **self._ended()}

    def _call_failed(self) -> Story:
        leg = self._leg()
        yield "voice.initiated", {**leg, "status": "ringing"}
        yield "voice.failed", {**leg, "status": "failed", "reason": self._random.choice(_VOICES)}

    def _inbound_call(self) -> Story:
        leg = self._leg("inbound")
        yield "voice.inbound", {**leg, "status": "ringing"}
        yield "voice.answered", {**leg, "status": "answered"}
        yield "voice.completed", {**leg, **self._ended()}

    def _ai_call(self) -> Story:
        leg = {**self._leg(), "agent": {"agentId": self._id("agent"), "voice": "aria"}}
        yield "voice.ai.initiated", {**leg, "status": "ringing"}
        yield "voice.answered", {**leg, "status": "answered"}
        yield "voice.ai.completed", {**leg, **self._ended("completed"), "summary": self._random.choice(_SUMMARIES)}

    def _campaign(self) -> dict[str, Any]:
        return {"campaign_id": f"cmp_{self._random.randrange(1, 6)}"}

    def _campaign_reached(self) -> Story:
        call = {**self._campaign(), **self._leg()}
        yield "campaign.call.initiated", {**call, "attempt": self._random.randrange(1, 4)}
        yield "campaign.call.human_connected", {**call, "wait_ms": self._random.randrange(80, 2400)}

    def _campaign_voicemail(self) -> Story:
        call = {**self._campaign(), **self._leg()}
        yield "campaign.call.initiated", {**call, "attempt": self._random.randrange(1, 4)}
        yield "campaign.call.voicemail", {**call, "message_left": self._random.random() < 0.5}

    def _campaign_failed(self) -> Story:
        call = {**self._campaign(), **self._leg()}
        yield "campaign.call.initiated", {**call, "attempt": self._random.randrange(1, 4)}
        yield "campaign.call.failed", {**call, "reason": self._random.choice(_VOICES)}

    def _campaign_stats(self) -> Story:
        dialed = self._random.randrange(50, 5000)
        connected = int(dialed * self._random.uniform(0.15, 0.45))
        stats = {"dialed": dialed, "connected": connected, "voicemail": (dialed - connected) // 3}
        yield "campaign.stats.updated", {**self._campaign(), **stats, "connect_rate": round(connected / dialed, 4)}

    def _campaign_paused(self) -> Story:
        yield "campaign.paused.no_dids", {**self._campaign(), "healthy_dids": 0, "paused_at": self._now()}
