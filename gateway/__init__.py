"""A Server-Sent Events gateway over Redis Streams, with a bridge that forwards the same log as signed webhooks."""

__version__ = "0.1.0"
