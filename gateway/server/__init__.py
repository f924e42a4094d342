"""uvicorn: listening sockets, access to the transport, HTTP/2, drain, workers."""

from gateway.server.listen import is_port_taken
from gateway.server.run import serve
from gateway.server.supervisor import supervise

__all__ = ["is_port_taken", "serve", "supervise"]
