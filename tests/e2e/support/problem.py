"""What an error must look like (RFC 9457, CONTRACT section 7)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from tests.e2e.support.wire import Answer

_INNARDS = re.compile(rb'Traceback|File \\?"|line [0-9]+, in|/site-packages/|0x[0-9a-f]{6,}|gateway\.[a-z]+\.[a-z]+')


def check_problem(answer: Answer, *statuses: int) -> dict[str, Any]:
    """`answer` is problem+json with one of these statuses and shows nothing of our insides; its body."""
    assert answer.status in statuses, (answer.status, answer.body[:300])
    assert answer.head.get("content-type") == "application/problem+json"
    assert not _INNARDS.search(answer.body), answer.body
    assert len(answer.body) < 20_000
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status
    assert body["title"] == HTTPStatus(answer.status).phrase
    assert body["type"]
    assert body["detail"]
    for error in body.get("errors", []):
        assert set(error) == {"field", "message"}
    return body
