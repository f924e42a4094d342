"""Nchan: the pub/sub module of nginx, in C, as Debian packs it. One worker, its message store in memory."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from loadtest.peers import Peer
from loadtest.rig.process import ProcessTree, answers, free_port
from loadtest.rig.publish import PostPublisher

_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_CONF = """\
load_module {module};
{user}
daemon off;
master_process on;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 3600s;
  client_body_buffer_size 64k;
  nchan_shared_memory_size 512M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /pub {{
      nchan_publisher;
      nchan_channel_id $arg_id;
      nchan_message_buffer_length {buffer};
      nchan_message_timeout 1h;
    }}
    location = /sub {{
      nchan_subscriber eventsource;
      nchan_channel_id $arg_id;
      nchan_eventsource_ping_interval {ping};
      nchan_subscriber_first_message newest;
    }}
    location = /replay {{
      nchan_subscriber eventsource;
      nchan_channel_id $arg_id;
      nchan_eventsource_ping_interval {ping};
      nchan_subscriber_first_message oldest;
    }}
  }}
}}
"""


class Server(Peer):
    name = "nchan"
    about = "nginx with libnginx-mod-nchan, one worker, messages published by POST"
    can = frozenset({"fanout", "channels", "resume", "idle"})
    overhead = len("id: 1735732800:0\ndata: \n\n")

    @staticmethod
    def missing() -> str | None:
        return None if shutil.which("nginx") and _MODULE.exists() else "nginx with libnginx-mod-nchan is not installed"

    async def start(self) -> None:
        self.port = free_port()
        folder = self.site.folder / f"nchan-{self.port}"
        folder.mkdir()
        files = os.sysconf("SC_OPEN_MAX")
        conf = folder / "nginx.conf"
        conf.write_text(
            _CONF.format(
                module=_MODULE,
                user="user root;" if os.getuid() == 0 else "",
                folder=folder,
                files=files,
                connections=files - 64,
                port=self.port,
                buffer=self.options.window or 20_000,
                ping=max(1, round(self.options.heartbeat)),
            )
        )
        command = [str(shutil.which("nginx")), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(conf)]
        self.process = ProcessTree(command, cores=self.site.cores, log=folder / "output.log")
        await self.process.wait_until(lambda: answers(self.port))

    async def publisher(self) -> PostPublisher:
        loop = asyncio.get_running_loop()
        _, publisher = await loop.create_connection(
            lambda: PostPublisher(lambda channel: f"/pub?id={channel}"), self.host, self.port
        )
        return publisher

    def path(self, channel: str | None = None, since: str | None = None) -> str:
        return f"/{'sub' if since is None else 'replay'}?id={channel or 'load'}"
