# ruff: noqa: T201 - printing is what they do
"""httpx-sse: ``python httpx_client.py URL``."""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

url, last_id, delay = sys.argv[1], "", 3.0
# A stream may be silent for as long as the heartbeat: httpx's default of 5 s would cut it.
with httpx.Client(timeout=httpx.Timeout(5, read=45)) as client:
    while True:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with connect_sse(client, "GET", url, headers=headers) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    last_id = event.id or last_id
                    delay = delay if event.retry is None else event.retry / 1000
                    print(json.dumps({"type": event.event, "data": event.data, "id": event.id}), flush=True)
        except httpx.HTTPError as error:
            print(json.dumps({"error": repr(error)}), flush=True)
        time.sleep(delay)
