# ruff: noqa: T201 - printing is what they do
"""``curl -N`` in a loop, its output read by the reference parser: ``python -m tests.e2e.clients.curl_client URL``."""

import json
import subprocess
import sys
import time

from tests.support.whatwg import EventSourceParser

url, last_id = sys.argv[1], ""
while True:
    resume = ["-H", f"Last-Event-ID: {last_id}"] if last_id else []
    parser = EventSourceParser(last_id)
    with subprocess.Popen(["curl", "-sN", "--fail", *resume, url], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        while piece := curl.stdout.read1():
            for event in parser.feed(piece):
                last_id = event.last_event_id
                line = {"type": event.type, "data": event.data, "id": event.last_event_id}
                print(json.dumps(line), flush=True)
            if parser.empty_blocks:
                print(json.dumps({"type": "message", "data": "", "id": ""}), flush=True)
    # Past the jitter of a restart; curl has no idea of `retry`.
    time.sleep(0.2)
