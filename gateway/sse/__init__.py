"""A way out: the log as Server-Sent Events, NDJSON and pages of JSON."""
