# SPDX-License-Identifier: MIT
"""The bench's Microsoft 365: nginx with fixed answers over TLS, which costs less than any relay before it.

Checks nothing: that is for the sandbox, which would be slower than the relay. A mailbox whose name begins with `d200.`
is answered after 200 ms, which nginx cannot do by itself: that goes on to late.py.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from relay.sandbox.certs import write_certificates

HERE = Path(__file__).resolve().parent
_PATIENCE_S = 120.0
_CHUNK_END = "999999/"  # the relay's chunks are of 4,000,000 octets; only the last one ends elsewhere

_CONFIG = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_max_body_size 0;
  client_body_timeout 1h;
  client_header_timeout 1h;
  send_timeout 1h;
  proxy_read_timeout 1h;
  keepalive_timeout 1h;
  keepalive_requests 100000000;
  default_type application/json;
  upstream late {{ server unix:{late_socket}; keepalive 256; keepalive_requests 100000000; }}
  map $http_content_range $uploaded {{ default 201; "~-[0-9]*{chunk_end}" 200; }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=1024;
    ssl_certificate {cert_file};
    ssl_certificate_key {key_file};
    location ~ ^/v1\\.0/users/d[1-9] {{
      proxy_pass http://late;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "";
    }}
    location ~ /sendMail$ {{ return 202; }}
    location ~ /messages$ {{ return 201 '{{"id":"draft"}}'; }}
    location ~ /createUploadSession$ {{ return 201 '{{"uploadUrl":"{url}/upload"}}'; }}
    location = /upload {{
      if ($uploaded = 201) {{ return 201; }}
      return 200 '{{}}';
    }}
    location ~ /attachments$ {{ return 201 '{{}}'; }}
    location ~ /send$ {{ return 202; }}
    location ~ /openid-configuration$ {{ return 200 '{discovery}'; }}
    location ~ /userrealm/ {{ return 200 '{realm}'; }}
    location ~ /token$ {{ return 200 '{token}'; }}
  }}
}}
"""


class NoNginx(Exception):
    """It is not installed or does not start. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where it is. processes: nginx, and what answers late."""

    url: str
    ca_file: Path
    cert_file: Path
    key_file: Path
    processes: dict[str, subprocess.Popen[bytes]]


@contextmanager
def start(directory: Path) -> Iterator[Upstream]:
    """From when it listens to the end of the block; directory: for all that it writes. Raises NoNginx."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise NoNginx("nginx is missing; on Debian: apt install nginx-light")
    files = write_certificates(directory, datetime.now(UTC))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    config = directory / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            directory=directory,
            port=port,
            url=url,
            late_socket=directory / "late.sock",
            chunk_end=_CHUNK_END,
            cert_file=files.cert_file,
            key_file=files.key_file,
            **_entra_answers(url),
        ),
        encoding="utf-8",
    )
    late = subprocess.Popen([sys.executable, str(HERE / "late.py"), str(directory / "late.sock")])
    nginx = subprocess.Popen([program, "-p", str(directory), "-c", str(config), "-e", str(directory / "nginx.log")])
    try:
        _wait_for(nginx, port, directory / "nginx.log")
        yield Upstream(url, files.ca_file, files.cert_file, files.key_file, {"nginx": nginx, "late": late})
    finally:
        for process in (nginx, late):
            process.terminate()
            process.wait(_PATIENCE_S)


def _entra_answers(url: str) -> dict[str, str]:
    tenant = f"{url}/bench"
    answers = {
        "discovery": {
            "issuer": f"{tenant}/v2.0",
            "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        },
        "realm": {"ver": "1.0", "account_type": "Managed", "domain_name": "bench.example"},
        "token": {"token_type": "Bearer", "expires_in": 86400, "access_token": "t" * 1800},
    }
    return {name: json.dumps(answer) for name, answer in answers.items()}


def _wait_for(nginx: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while nginx.poll() is None and time.monotonic() < give_up:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.01)
    raise NoNginx(f"nginx does not start: {log.read_text(errors='replace') if log.exists() else ''}")
