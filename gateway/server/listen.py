"""Listening sockets: what accepted ones inherit, and whether the port is free."""

from __future__ import annotations

import errno
import socket

_SEND_BUFFER = 65_536
"""Bytes the kernel may hold for one reader: without a limit 4 MB go to a client that reads nothing (measured)."""
_USER_TIMEOUT_MS = 30_000


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket whose accepted ones inherit bounded buffers and dead-peer detection. Raises `OSError`.

    It does not listen yet. A `shared` one can be bound again by other processes of ours (SO_REUSEPORT): the kernel
    then spreads connections over those that listen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def reserve(host: str, port: int) -> socket.socket:
    """A shared socket that holds a port for workers, which nobody else listens on. Raises `OSError`."""
    # A shared one binds beside another gateway's shared ones; one that is not shared tells of them.
    probe = bind(host, port)
    port = probe.getsockname()[1]
    probe.close()
    return bind(host, port, shared=True)


def base_url(sock: socket.socket, *, tls: bool) -> str:
    """``http://127.0.0.1:8080``."""
    host, port = sock.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def is_port_taken(error: OSError) -> bool:
    """Whether `bind` failed because somebody else listens there."""
    return error.errno == errno.EADDRINUSE
