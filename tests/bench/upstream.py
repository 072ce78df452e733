# SPDX-License-Identifier: MIT
"""The bench's Microsoft 365: HTTPS/1.1 with kept connections and fixed answers, as cheap as Python can make it.

Checks nothing: that is for the sandbox, which would be slower than the relay. A mailbox whose name begins with `d200.`
is answered after 200 ms. Started with a directory for its certificates; prints where it listens.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

import gevent
from gevent.server import StreamServer
from gevent.ssl import SSLContext

from relay.sandbox.certs import write_certificates

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_DELAY = re.compile(rb"POST /v1\.0/users/d([1-9][0-9]*)\.")
_PIECE = 65536
_ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nrequest-id: 00000000-0000-4000-8000-000000000000\r\n"
    b"Content-Length: 0\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
)


def _json_answer(content: object) -> bytes:
    octets = json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(octets), octets)


class Upstream:
    """What one HTTPS port answers."""

    def __init__(self, url: str) -> None:
        tenant = f"{url}/bench"
        self._answers = {
            "openid-configuration": _json_answer(
                {
                    "issuer": f"{tenant}/v2.0",
                    "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{tenant}/oauth2/v2.0/token",
                }
            ),
            "userrealm": _json_answer({"ver": "1.0", "account_type": "Managed", "domain_name": "bench.example"}),
            "token": _json_answer({"token_type": "Bearer", "expires_in": 86400, "access_token": "t" * 1800}),
        }

    def serve(self, sock: socket.socket, _: object) -> None:
        """One connection, until the client closes it."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while head := _read_request(sock):
                if delay := _DELAY.match(head):
                    gevent.sleep(int(delay[1]) / 1000)
                sock.sendall(self._answer(head.partition(b"\r\n")[0]))
        except (OSError, ssl.SSLError):
            return  # the client closed without a goodbye

    def _answer(self, request_line: bytes) -> bytes:
        if b"/sendMail " in request_line:
            return _ACCEPTED
        found = [answer for name, answer in self._answers.items() if name.encode() in request_line]
        return found[0] if found else b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def _read_request(sock: socket.socket) -> bytes:
    """The request line and header fields, once all of the body has come; empty when the client is gone."""
    octets = b""
    while (end := octets.find(b"\r\n\r\n")) < 0:
        if not (piece := sock.recv(_PIECE)):
            return b""
        octets += piece
    head = octets[:end]
    length = _LENGTH.search(head)
    missing = (int(length[1]) if length else 0) - (len(octets) - end - 4)
    while missing > 0:
        if not (piece := sock.recv(_PIECE)):
            return b""
        missing -= len(piece)
    return head


def main() -> None:
    files = write_certificates(Path(sys.argv[1]), datetime.now(UTC))
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert_file, files.key_file)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    listener.setblocking(False)
    server = StreamServer(listener, Upstream(url).serve, ssl_context=context)
    server.start()
    print(json.dumps({"event": "listening", "address": url, "ca_file": str(files.ca_file)}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
