# SPDX-License-Identifier: MIT
"""What the relay is compared with: aiosmtpd and, as such relays are written, requests.post in a thread a message.

Takes any login and no token is fetched, which flatters it. Started with the upstream's URL and its CA; prints where it
listens.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import requests
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

THREADS = 100  # as many as the bench has connections; the default would hold 200 ms answers up


class Handler:
    def __init__(self, url: str, ca_file: str) -> None:
        self._url = url
        self._ca_file = ca_file
        self._threads = ThreadPoolExecutor(THREADS)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """202 from the upstream becomes 250."""
        login: LoginPassword = session.auth_data
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        loop = asyncio.get_running_loop()
        status = await loop.run_in_executor(self._threads, self._post, login.login.decode(), content)
        return "250 2.0.0 Ok" if status == 202 else "451 4.4.1 Upstream failed"

    def _post(self, user: str, content: bytes) -> int:
        response = requests.post(
            f"{self._url}/v1.0/users/{user}/sendMail",
            data=base64.b64encode(content),
            headers={"Authorization": "Bearer " + "t" * 1800, "Content-Type": "text/plain"},
            verify=self._ca_file,
            timeout=60,
        )
        return response.status_code


def _take_any(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword) -> AuthResult:
    return AuthResult(success=True, auth_data=login)


async def main() -> None:
    handler = Handler(*sys.argv[1:3])

    def connection() -> SMTP:
        return SMTP(handler, hostname="bench.example", authenticator=_take_any, auth_require_tls=False)

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"event": "listening", "address": f"{host}:{port}"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
