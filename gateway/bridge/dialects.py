"""The dialects of CONTRACT section 5, as data: one entry of `DIALECTS` says all that makes a webhook this vendor's.

Sources: Standard Webhooks 1.0; the vendors' documents for Trunx ("Verifying Signatures", "Retry Policy"), Truedy
("Minimal working receiver"), Telnyx (messaging webhooks, SDK ``webhook_verification``) and TryVox ("Webhook Retries");
CloudEvents 1.0 HTTP binding.  The table of dialects in the documentation is made by `markdown_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from gateway.events.envelope import ENCODERS

Algorithm = Literal["hmac-sha256", "ed25519"]
KeyDecoding = Literal["utf8", "base64"]
TimestampUnit = Literal["s", "ms"]
Encoding = Literal["hex", "base64"]

MINUTE: Final = 60.0
HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a request is signed.

    `signed` is the text over which the signature goes: literal characters around ``{id}``, ``{timestamp}`` and, at
    its end, ``{body}``.  `forms` gives, for each algorithm that receivers of this scheme know, how one signature is
    spelled in the header.  `overlap` stands between the signatures of two keys during a rotation; None where
    receivers read one signature only.
    """

    signature_header: str
    signed: str
    forms: Mapping[Algorithm, str]
    encoding: Encoding
    key: KeyDecoding = "utf8"
    timestamp_header: str | None = None
    timestamp_unit: TimestampUnit = "s"
    overlap: str | None = None

    def __post_init__(self) -> None:
        if not self.signed.endswith("{body}") or self.signed.count("{body}") != 1:
            raise ValueError(f"the body stands once, at the end: {self.signed!r}")
        if not self.forms:
            raise ValueError("a scheme knows one algorithm at least")

    @property
    def generated(self) -> Algorithm:
        """The algorithm for which a key is made when the user brings none."""
        return next(iter(self.forms))


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one kind of receiver expects. Durations are seconds.

    `schedule` is the wait before each attempt on the endpoint's URL, `failover` the same for the attempts that
    follow on its failover URL, when it has one.  `javascript` spells the body as ``JSON.stringify`` would, for
    receivers that sign what they parsed.
    """

    name: str
    envelope: str
    scheme: Scheme | None
    schedule: tuple[float, ...]
    timeout: float
    failover: tuple[float, ...] = (0.0,)
    jitter: float = 0.1
    """The share by which a wait may come out longer; never shorter."""
    content_type: str = "application/json"
    user_agent: str | None = None
    javascript: bool = False
    success: range = field(default=range(200, 300))

    def __post_init__(self) -> None:
        if self.envelope not in ENCODERS:
            raise ValueError(f"no such envelope: {self.envelope!r}")
        if not self.schedule or min((*self.schedule, *self.failover)) < 0:
            raise ValueError("a schedule has one attempt at least, and no negative wait")

    @property
    def per_attempt(self) -> bool:
        """Whether the body tells the attempt's number and URL, so that it differs from attempt to attempt."""
        return self.envelope == "telnyx"


STANDARD_WEBHOOKS: Final = Scheme(
    signature_header="webhook-signature",
    signed="{id}.{timestamp}.{body}",
    forms=MappingProxyType({"hmac-sha256": "v1,{}", "ed25519": "v1a,{}"}),
    encoding="base64",
    key="base64",
    timestamp_header="webhook-timestamp",
    overlap=" ",
)
_HMAC: Final[Mapping[Algorithm, str]] = MappingProxyType({"hmac-sha256": "{}"})
_STANDARD_SCHEDULE: Final = (0.0, 5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)

_ALL: Final = (
    Dialect("standard", "native", STANDARD_WEBHOOKS, _STANDARD_SCHEDULE, timeout=15.0),
    Dialect(
        "trunx",
        "trunx",
        # The key is the whole secret, prefix and all.  Receivers compare lengths first: 64 characters, nothing else.
        Scheme("X-Trunx-Signature", "{body}", _HMAC, "hex"),
        (0.0, 30.0, 2 * MINUTE, 10 * MINUTE, HOUR),
        timeout=15.0,
    ),
    Dialect(
        "truedy",
        "truedy",
        Scheme("X-Truedy-Signature", "{timestamp}.{body}", _HMAC, "hex", timestamp_header="X-Truedy-Timestamp"),
        _STANDARD_SCHEDULE,
        timeout=10.0,
    ),
    Dialect(
        "telnyx",
        "telnyx",
        Scheme(
            "telnyx-signature-ed25519",
            "{timestamp}|{body}",
            MappingProxyType({"ed25519": "{}"}),
            "base64",
            timestamp_header="telnyx-timestamp",
        ),
        # Three tries a URL are documented, the waits between them are not.
        (0.0, 1.0, 4.0),
        timeout=2.0,
        failover=(0.0, 1.0, 4.0),
        user_agent="telnyx-webhooks",
    ),
    Dialect(
        "telnyx-hmac",
        "telnyx",
        Scheme(
            "telnyx-signature-ed25519",
            "{timestamp}.{body}",
            _HMAC,
            "hex",
            timestamp_header="telnyx-timestamp",
            timestamp_unit="ms",
        ),
        (0.0, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR),
        timeout=10.0,
        user_agent="telnyx-webhooks",
        javascript=True,
    ),
    Dialect("tryvox", "tryvox", None, (0.0, 1.0, 4.0, 16.0), timeout=5.0),
    Dialect(
        "cloudevents",
        "cloudevents",
        STANDARD_WEBHOOKS,
        _STANDARD_SCHEDULE,
        timeout=15.0,
        content_type="application/cloudevents+json",
    ),
)

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({dialect.name: dialect for dialect in _ALL})
"""Name to dialect."""


def _span(seconds: float) -> str:
    for unit, size in (("h", HOUR), ("m", MINUTE)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s" if seconds else "0"


def _signature(scheme: Scheme | None) -> str:
    if scheme is None:
        return "none"
    spelled = ", ".join(f"`{form.format(scheme.encoding)}` {algorithm}" for algorithm, form in scheme.forms.items())
    return f"`{scheme.signature_header}`: {spelled} of `{scheme.signed}`"


def markdown_table() -> str:
    """The documentation's table, one row a dialect."""
    rows = ["| dialect | envelope | signature | before each attempt | then, on `failover_url` | timeout |"]
    rows.append("|---|---|---|---|---|---|")
    rows += (
        f"| `{it.name}` | {it.envelope} | {_signature(it.scheme).replace('|', chr(92) + '|')} "
        f"| {', '.join(map(_span, it.schedule))} | {', '.join(map(_span, it.failover))} | {_span(it.timeout)} |"
        for it in DIALECTS.values()
    )
    return "\n".join(rows) + "\n"
