# ruff: noqa: T201 - printing is what they do
"""sseclient-py over requests: ``python sseclient_client.py URL``."""

import json
import sys
import time

import requests
import sseclient

url, last_id, delay = sys.argv[1], "", 3.0
while True:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(5, 45)) as response:
            response.raise_for_status()
            for event in sseclient.SSEClient(response).events():
                last_id = event.id or last_id
                delay = delay if event.retry is None else int(event.retry) / 1000
                print(json.dumps({"type": event.event, "data": event.data, "id": event.id}), flush=True)
    except requests.RequestException as error:
        print(json.dumps({"error": repr(error)}), flush=True)
    time.sleep(delay)
