# SPDX-License-Identifier: MIT
"""Entra ID and Graph on one TLS port, octet by octet: what they answer is written here by hand, right or wrong.

The sandbox knows what Graph would say; this knows nothing, shares nothing with it, and says what it is told to.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from relay.selfsigned import write_pair

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Asked:
    """One request. connection: its number. at: when its head was here."""

    connection: int
    method: str
    target: str
    fields: dict[str, str]
    body: bytes
    at: float


class Connection:
    """What a script may do with the connection instead of answering: write(), then return, which closes it."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock

    def write(self, octets: bytes) -> None:
        self._sock.sendall(octets)

    def reset(self) -> None:
        """Close with a TCP RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Script = bytes | Callable[[Connection], None]


def answer(status: int, body: bytes | dict[str, Any] | list[Any] = b"", **fields: str) -> bytes:
    """A well-formed answer. fields: with _ for -."""
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = {"Content-Length": str(len(octets)), **{name.replace("_", "-"): value for name, value in fields.items()}}
    return f"HTTP/1.1 {status} Some Reason\r\n{fields_of(head)}\r\n".encode() + octets


def fields_of(head: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in head.items())


class RawHttps:
    """`with RawHttps(directory) as service:` — url and ca_file are what a relay's configuration needs.

    script(kind, …): what the next requests of a kind (discovery, realm, token, sendMail, other) get; later ones are
    answered as they should be. asked(kind): what came. unread: kinds whose scripts run before the body was read.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file, key_file = write_pair(directory, ["127.0.0.1", "localhost"], datetime.now(UTC))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.ca_file, key_file)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self._scripts: dict[str, deque[Script]] = defaultdict(deque)
        self._asked: list[tuple[str, Asked]] = []
        self._answered: list[float] = []
        self.unread: set[str] = set()
        self.expires_in: Any = 3600

    def __enter__(self) -> RawHttps:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def script(self, kind: str, *scripts: Script) -> None:
        self._scripts[kind].extend(scripts)

    def asked(self, kind: str) -> list[Asked]:
        with self._lock:
            return [asked for found, asked in self._asked if found == kind]

    def gaps(self) -> list[float]:
        """Seconds from each answer to the next request, of whatever kind."""
        with self._lock:
            return [asked.at - at for (_, asked), at in zip(self._asked[1:], self._answered, strict=False)]

    def _accept(self) -> None:
        number = 0
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                number += 1
                threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        plain.settimeout(_PATIENCE_S)
        with contextlib.suppress(OSError, ValueError), self._context.wrap_socket(plain, server_side=True) as sock:
            stream = sock.makefile("rb")
            while line := stream.readline():
                method, target, _ = line.decode("ascii").split(" ")
                fields = {}
                while (field := stream.readline().decode("ascii").strip()) != "":
                    name, _, value = field.partition(":")
                    fields[name.lower()] = value.strip()
                at = time.monotonic()
                kind = _kind(target)
                length = 0 if kind in self.unread else int(fields.get("content-length", 0))
                asked = Asked(number, method, target, fields, stream.read(length), at)
                with self._lock:
                    self._asked.append((kind, asked))
                    scripts = self._scripts[kind]
                    script = scripts.popleft() if scripts else self._usual(kind, target)
                if not isinstance(script, bytes):
                    script(Connection(sock))
                    return
                sock.sendall(script)
                with self._lock:
                    self._answered.append(time.monotonic())

    def _usual(self, kind: str, target: str) -> bytes:
        if kind == "discovery":
            tenant = f"{self.url}/{target.split('/')[1]}"
            return answer(
                200,
                {
                    "issuer": f"{tenant}/v2.0",
                    "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{tenant}/oauth2/v2.0/token",
                },
            )
        if kind == "realm":
            return answer(200, {"account_type": "Managed"})
        if kind == "token":
            return answer(200, {"token_type": "Bearer", "access_token": "T0KEN", "expires_in": self.expires_in})
        return answer(202) if kind == "sendMail" else answer(404)


def _kind(target: str) -> str:
    path = target.partition("?")[0]
    if path.endswith("/openid-configuration"):
        return "discovery"
    if "/userrealm/" in path:
        return "realm"
    return {"token": "token", "sendMail": "sendMail"}.get(path.rpartition("/")[2], "other")
