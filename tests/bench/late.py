# SPDX-License-Identifier: MIT
"""Answers 202 as late as the mailbox's name says: `d200.` after 200 ms. HTTP/1.1 on a Unix socket, behind nginx."""

from __future__ import annotations

import asyncio
import re
import sys

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_DELAY = re.compile(rb"POST /v1\.0/users/d([0-9]+)\.")
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


class Late(asyncio.Protocol):
    """One connection; its next request comes when this one is answered."""

    def __init__(self) -> None:
        self._octets = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer once all of the body is there."""
        self._octets += data
        end = self._octets.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._octets, 0, end + 2)
        if len(self._octets) - end - 4 < (int(length[1]) if length else 0):
            return
        delay = _DELAY.match(self._octets)
        self._octets = b""
        asyncio.get_running_loop().call_later(int(delay[1]) / 1000 if delay else 0, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ACCEPTED)


async def main() -> None:
    server = await asyncio.get_running_loop().create_unix_server(Late, sys.argv[1], backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
