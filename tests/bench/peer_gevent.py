# SPDX-License-Identifier: MIT
"""The relay's own shape with nothing in it: gevent, a buffer, email's parser, requests.Session, a line in the log.

No checks, no limits, no logins, no tokens, no deadlines: what is left is what the libraries cost. Started with the
upstream's URL and its CA; prints where it listens.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import base64  # noqa: E402 - after the patching, as all below
import email  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
from email.message import Message  # noqa: E402
from email.utils import getaddresses  # noqa: E402

import requests  # noqa: E402
from gevent.server import StreamServer  # noqa: E402
from requests.adapters import HTTPAdapter  # noqa: E402

CONNECTIONS = 100
_END = b"\r\n.\r\n"
_OK, _BYE = b"250 2.0.0 Ok\r\n", b"221 2.0.0 Bye\r\n"
_REPLIES = {
    b"EHLO": b"250-bench.example\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n",
    b"AUTH": b"235 2.7.0 Ok\r\n",
    b"DATA": b"354 Go on\r\n",
    b"QUIT": _BYE,
}

log = logging.getLogger("plainest")


class Relay:
    def __init__(self, url: str, ca_file: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # what it looks up takes as long as a third of the rest
        self._session.verify = ca_file
        self._session.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))

    def handle(self, sock: socket.socket, _: object) -> None:
        """One connection; the replies to what came in one piece leave in one piece."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"220 bench.example\r\n")
        held, ending, replies, user = b"", b"\r\n", b"", ""
        while not replies.endswith(_BYE) and (octets := sock.recv(65536)):
            held += octets
            replies = b""
            while ending in held:
                line, _, held = held.partition(ending)
                if line.startswith(b"AUTH PLAIN "):
                    user = base64.b64decode(line[11:]).split(b"\0")[1].decode()
                reply = self._send(user, line) if ending == _END else _REPLIES.get(line[:4], _OK)
                ending = _END if reply == _REPLIES[b"DATA"] else b"\r\n"
                replies += reply
            sock.sendall(replies)
        sock.close()

    def _send(self, user: str, octets: bytes) -> bytes:
        parsed = email.message_from_bytes(octets)  # with compat32, the cheapest of email's policies
        text, *files = [part for part in parsed.walk() if not part.is_multipart()]
        message = {
            "subject": parsed["Subject"],
            "body": {"contentType": "text", "content": _octets(text).decode()},
            "toRecipients": [{"emailAddress": {"address": addr}} for _, addr in getaddresses([parsed["To"]])],
            "attachments": [
                {
                    "@odata.type": "#microsoft.graph.fileAttachment",
                    "name": part.get_filename(),
                    "contentBytes": base64.b64encode(_octets(part)).decode(),
                }
                for part in files
            ],
        }
        response = self._session.post(
            f"{self._url}/v1.0/users/{user}/sendMail",
            json={"message": message},
            headers={"Authorization": "Bearer " + "t" * 1800},
            timeout=60,
        )
        log.info("delivered %s %s %d", parsed["From"], parsed["To"], len(octets))
        return _OK if response.status_code == 202 else b"451 4.4.1 Upstream failed\r\n"


def _octets(part: Message) -> bytes:
    decoded = part.get_payload(decode=True)
    return decoded if isinstance(decoded, bytes) else b""


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    server = StreamServer(("127.0.0.1", 0), Relay(*sys.argv[1:3]).handle, backlog=1024)
    server.start()
    print(json.dumps({"event": "listening", "address": f"127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
