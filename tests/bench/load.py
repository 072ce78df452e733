# SPDX-License-Identifier: MIT
"""The bench's SMTP clients: raw sockets, one greenlet a connection, prepared octets. Knows nothing about the servers.

Reads one job a line (JSON) from standard input and prints one result a line:
{"job": "send", …} sends messages for a while (see Send), {"job": "idle", "count": N, …} opens N connections and keeps
them until {"job": "close"}.
"""

from __future__ import annotations

import base64
import json
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import gevent
from gevent import socket

USERS = 50  # so that no limit for one mailbox is met
_PATIENCE_S = 60.0


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, with all its threads, to the nanosecond (Linux: clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


class UnexpectedReply(Exception):
    """The server did not say what it should."""


class Client:
    """One SMTP connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock = socket.create_connection(address)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect(b"220")

    def log_in(self, user: str) -> None:
        """EHLO and AUTH; the reply to EHLO is waited for, as each client must."""
        self.ask(b"EHLO bench.example\r\n", b"250")
        response = base64.b64encode(f"\0{user}\0secret".encode())
        self.ask(b"AUTH PLAIN " + response + b"\r\n", b"235")

    def ask(self, octets: bytes, *codes: bytes) -> None:
        """Send, and wait for as many replies as there are codes."""
        self._sock.sendall(octets)
        self._expect(*codes)

    def close(self) -> None:
        """Without QUIT."""
        self._sock.close()

    def _expect(self, *codes: bytes) -> None:
        octets = b""
        while True:
            piece = self._sock.recv(4096)
            if not piece:
                raise UnexpectedReply("the connection was closed")
            octets += piece
            replies = [line[:3] for line in octets.split(b"\r\n")[:-1] if line[3:4] != b"-"]
            if len(replies) >= len(codes):
                break
        if tuple(replies) != codes:
            raise UnexpectedReply(octets.decode("ascii", "replace"))


class Send:
    """One job: so many connections send as fast as they can, each its next message when the last one is answered.

    size: octets of a message; users: how the mailboxes' names begin, see upstream.py; spread_s: time over which the
    connections begin, so that they do not move in step; keep: all messages on one connection, else each on a new one;
    pipeline: RFC 2920; pids: processes whose CPU time is wanted.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._address = (job["host"], job["port"])
        self._count: int = job["connections"]
        self._seconds: float = job["seconds"]
        self._warm_up_s: float = job["warm_up_s"]
        self._spread_s: float = job["spread_s"]
        self._keep: bool = job["keep"]
        self._pipeline: bool = job["pipeline"]
        self._pids: dict[str, int] = job["pids"]
        self._users = [f"{job['users']}{number:02}@bench.example" for number in range(USERS)]
        self._content = message(job["size"])
        self._latencies: list[float] = []
        self._stopping = False

    def run(self) -> dict[str, Any]:
        """What was measured between the warm-up and the end. Raises what a connection raises."""
        workers = [gevent.spawn(self._work, number) for number in range(self._count)]
        self._wait(workers, self._spread_s + self._warm_up_s)
        first, cpu, begun = len(self._latencies), self._cpu(), time.monotonic()
        self._wait(workers, self._seconds)
        last, cpu_after, seconds = len(self._latencies), self._cpu(), time.monotonic() - begun
        self._stopping = True
        gevent.joinall(workers, raise_error=True)
        latencies = self._latencies[first:last]
        percentiles = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
        return {
            "messages": last - first,
            "seconds": seconds,
            "cpu_s": {name: cpu_after[name] - cpu[name] for name in cpu},
            "p50_ms": percentiles[49] * 1000,
            "p99_ms": percentiles[98] * 1000,
        }

    def _wait(self, workers: list[gevent.Greenlet], seconds: float) -> None:
        """For that long, or until a worker fails."""
        failed = gevent.wait(workers, timeout=seconds, count=1)
        for worker in failed:
            worker.get()

    def _cpu(self) -> dict[str, float]:
        return {"load": time.process_time()} | {name: cpu_s(pid) for name, pid in self._pids.items()}

    def _work(self, number: int) -> None:
        gevent.sleep(self._spread_s * number / self._count)
        client: Client | None = None
        while not self._stopping:
            user = self._users[number % USERS]
            number += 1
            begun = time.monotonic()
            if client is None:
                client = Client(self._address)
                client.log_in(user)
            self._send(client, user)
            if not self._keep:
                client.close()
                client = None
            self._latencies.append(time.monotonic() - begun)

    def _send(self, client: Client, user: str) -> None:
        mail, rcpt = b"MAIL FROM:<%s>\r\n" % user.encode(), b"RCPT TO:<someone@example.com>\r\n"
        if self._pipeline:
            client.ask(mail + rcpt + b"DATA\r\n", b"250", b"250", b"354")
        else:
            client.ask(mail, b"250")
            client.ask(rcpt, b"250")
            client.ask(b"DATA\r\n", b"354")
        if self._keep:
            client.ask(self._content, b"250")
        elif self._pipeline:
            client.ask(self._content + b"QUIT\r\n", b"250", b"221")
        else:
            client.ask(self._content, b"250")
            client.ask(b"QUIT\r\n", b"221")


def message(size: int) -> bytes:
    """Mail data of some size octets, the dot at its end included: one text part, or a text and an attachment."""
    header = (
        b"From: Scanner <scanner@example.com>\r\nTo: Someone <someone@example.com>\r\nSubject: Bench\r\n"
        b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@bench.example>\r\nMIME-Version: 1.0\r\n"
    )
    text = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    line = b"The quick brown fox jumps over the lazy dog, and nothing else is to be said here.\r\n"
    if size < 10_000:
        return header + text + line * ((size - len(header + text)) // len(line)) + b".\r\n"
    base64_line = base64.b64encode(bytes(range(57))) + b"\r\n"
    return (
        header
        + b'Content-Type: multipart/mixed; boundary="part"\r\n\r\n--part\r\n'
        + text
        + line
        + b"--part\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        + b'Content-Disposition: attachment; filename="scan.bin"\r\n\r\n'
        + base64_line * (size // len(base64_line))
        + b"--part--\r\n.\r\n"
    )


def _open_idle(job: Mapping[str, Any]) -> list[Client]:
    clients = [Client((job["host"], job["port"])) for _ in range(job["count"])]
    for client in clients:
        client.ask(b"EHLO bench.example\r\n", b"250")
    return clients


def main() -> None:
    clients: list[Client] = []
    for line in sys.stdin:
        job = json.loads(line)
        result: dict[str, Any] = {}
        try:
            with gevent.Timeout(job.get("seconds", 0) + _PATIENCE_S, TimeoutError("no answer")):
                if job["job"] == "send":
                    result = Send(job).run()
                elif job["job"] == "idle":
                    clients = _open_idle(job)
                else:
                    for client in clients:
                        client.close()
        except (OSError, UnexpectedReply) as fault:
            result = {"fault": f"{type(fault).__name__}: {fault}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
