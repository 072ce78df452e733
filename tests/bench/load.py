# SPDX-License-Identifier: MIT
"""The bench's SMTP clients: raw sockets, one epoll, prepared octets, so that they cost less than any server.

Knows nothing about the servers. Reads one job a line (JSON) from standard input and prints one result a line:
{"job": "send", …} sends messages, {"job": "idle", "count": N, …} opens N connections and keeps them until
{"job": "close"}, {"job": "probe", …} asks NOOP again and again. See Send, Idle and probe().
"""

from __future__ import annotations

import base64
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import processes

USERS = 50  # so that no limit for one mailbox is met
_PATIENCE_S = 120.0
_PIECE = 65536
_AGAIN_AFTER_S = 0.2  # behind 452: there was no room for a large message beside the others
_PROBE_EVERY_S = 0.005
_PERCENTILES = (50, 95, 99, 100)
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Dialogue = Generator[float, None, None]
"""One connection's work: each value that it yields is how long to sleep; below zero: until its socket has something."""
_UNTIL_READY = -1.0


class UnexpectedReply(Exception):
    """The server did not say what it should."""


class Loop:
    """Runs dialogues until all have ended."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, Dialogue] = {}  # by file descriptor
        self._sleeping: list[tuple[float, Dialogue]] = []
        self._current: Dialogue | None = None

    def run(self, dialogues: Iterator[Dialogue], patience_s: float) -> None:
        """Raises what a dialogue raises, and TimeoutError."""
        give_up = time.monotonic() + patience_s
        for dialogue in dialogues:
            self._resume(dialogue)
        while self._waiting or self._sleeping:
            now = time.monotonic()
            if now > give_up:
                raise TimeoutError("no answer")
            self._wake(now)
            wait_s = 0.001 if self._sleeping else 1.0
            for descriptor, _ in self._epoll.poll(wait_s):
                waiting = self._waiting.pop(descriptor, None)
                if waiting is not None:
                    self._resume(waiting)

    def watch(self, sock: socket.socket) -> None:
        """From now on, the dialogue that runs is the one that this socket wakes."""
        self._epoll.register(sock, select.EPOLLIN)

    def await_room(self, sock: socket.socket, *, room: bool) -> None:
        """Whether the socket wakes for room to write instead of for something to read."""
        self._epoll.modify(sock, select.EPOLLOUT if room else select.EPOLLIN)

    def wait_for(self, sock: socket.socket) -> float:
        """To be yielded: the dialogue goes on when the socket is ready."""
        assert self._current is not None
        self._waiting[sock.fileno()] = self._current
        return _UNTIL_READY

    def _wake(self, now: float) -> None:
        due = [dialogue for at, dialogue in self._sleeping if at <= now]
        if due:
            self._sleeping = [(at, dialogue) for at, dialogue in self._sleeping if at > now]
        for dialogue in due:
            self._resume(dialogue)

    def _resume(self, dialogue: Dialogue) -> None:
        self._current = dialogue
        sleep_s = next(dialogue, None)
        if sleep_s is not None and sleep_s >= 0:
            self._sleeping.append((time.monotonic() + sleep_s, dialogue))


class Client:
    """One SMTP connection. Methods that yield are parts of a dialogue."""

    def __init__(self, loop: Loop, address: tuple[str, int]) -> None:
        self._loop = loop
        self.sock = socket.create_connection(address, _PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        loop.watch(self.sock)

    def start_tls(self, context: ssl.SSLContext, session: ssl.SSLSession | None) -> Dialogue:
        """Implicit TLS, with an earlier session taken up where there is one."""
        self.sock = context.wrap_socket(self.sock, do_handshake_on_connect=False, session=session)
        while True:
            try:
                return self.sock.do_handshake()
            except _NOT_YET:
                yield self._loop.wait_for(self.sock)

    def ask(self, octets: bytes, *codes: bytes) -> Dialogue:
        """Send, and wait for as many replies as there are codes. Raises UnexpectedReply."""
        left = memoryview(octets)
        while left:
            try:
                left = left[self.sock.send(left) :]
            except _NOT_YET:
                self._loop.await_room(self.sock, room=True)
                yield self._loop.wait_for(self.sock)
                self._loop.await_room(self.sock, room=False)
        got = b""
        while True:
            try:
                if octets and not got and not isinstance(self.sock, ssl.SSLSocket):
                    yield self._loop.wait_for(self.sock)  # it cannot be there yet
                piece = self.sock.recv(4096)
            except _NOT_YET:
                yield self._loop.wait_for(self.sock)
                continue
            if not piece:
                raise UnexpectedReply(f"the connection was closed behind {got!r}")
            got += piece
            if got.endswith(b"\n"):
                replies = tuple(line[:3] for line in got.split(b"\r\n") if line[3:4] == b" ")
                if len(replies) >= len(codes):
                    break
        if replies != codes:
            raise UnexpectedReply(got.decode("ascii", "replace"))

    def close(self) -> None:
        """Without QUIT."""
        self.sock.close()


class Send:
    """One job: so many connections send, each its next message when the last one is answered.

    size: octets of a message; users: how the mailboxes' names begin, see upstream.py, or with `@` one mailbox for all;
    spread_s: time over which the connections begin, so that they do not move in step; keep: all messages on one
    connection, else each on a new one; pipeline: RFC 2920; tls: implicit, of this version at most, with the sessions
    taken up again; empty: none; messages: the end comes when that many have been answered, without it after seconds;
    pids: the processes whose CPU time is wanted, with their children.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._job = job
        self._address = (job["host"], job["port"])
        self._count: int = job["connections"]
        self._spread_s: float = job.get("spread_s", 0.0)
        self._keep: bool = job.get("keep", False)
        self._pipeline: bool = job.get("pipeline", True)
        self._pids: dict[str, int] = job.get("pids", {})
        self._content = message(job["size"])
        self._tls = _tls_context(job["ca_file"], job["tls"]) if job.get("tls") else None
        self._sessions: list[ssl.SSLSession | None] = [None] * self._count
        self._latencies: list[tuple[float, float]] = []  # when it ended, and how long it took
        self._to_begin: int | None = job.get("messages")
        self._refused = 0
        self._stopping = False
        self._loop = Loop()

    def run(self) -> dict[str, Any]:
        """What was measured: between the warm-up and the end, or of all messages. Raises what a connection raises."""
        marks: list[tuple[float, dict[str, float]]] = [self._mark()]
        dialogues = [self._work(number) for number in range(self._count)]
        if self._to_begin is None:
            dialogues.append(self._keep_time(marks))
        self._loop.run(iter(dialogues), self._job.get("seconds", 0.0) + _PATIENCE_S)
        if self._to_begin is not None:
            marks.append(self._mark())
        (began, cpu), (ended, cpu_after) = marks[-2:]
        took = sorted(seconds for at, seconds in self._latencies if began <= at < ended)
        return {
            "messages": len(took),
            "seconds": ended - began,
            "refused": self._refused,
            "cpu_s": {name: cpu_after[name] - cpu[name] for name in cpu},
            **{f"p{percent}_ms": percentile(took, percent) * 1000 for percent in _PERCENTILES},
        }

    def _mark(self) -> tuple[float, dict[str, float]]:
        used = {"load": time.process_time()} | {name: processes.cpu_s(pid) for name, pid in self._pids.items()}
        return time.monotonic(), used

    def _keep_time(self, marks: list[tuple[float, dict[str, float]]]) -> Dialogue:
        yield self._spread_s + self._job.get("warm_up_s", 0.0)
        marks.append(self._mark())
        yield self._job["seconds"]
        marks.append(self._mark())
        self._stopping = True

    def _goes_on(self) -> bool:
        if self._to_begin is None:
            return not self._stopping
        self._to_begin -= 1
        return self._to_begin >= 0

    def _work(self, number: int) -> Dialogue:
        yield self._spread_s * number / self._count
        client: Client | None = None
        place, turn = number, number
        while self._goes_on():
            users = self._job["users"]
            user = users if "@" in users else f"{users}{turn % USERS:02}@bench.example"
            turn += 1
            began = time.monotonic()
            while True:
                if client is None:
                    client = Client(self._loop, self._address)
                    yield from self._log_in(client, user, place)
                if (yield from self._send(client, user)):
                    break
                self._refused += 1
                client.close()
                client = None
                yield _AGAIN_AFTER_S
            self._latencies.append((time.monotonic(), time.monotonic() - began))
            if not self._keep:
                client.close()
                client = None
        if client is not None:
            client.close()

    def _log_in(self, client: Client, user: str, place: int) -> Dialogue:
        """The reply to EHLO is waited for, as each client must."""
        if self._tls is not None:
            yield from client.start_tls(self._tls, self._sessions[place])
        yield from client.ask(b"", b"220")
        yield from client.ask(b"EHLO bench.example\r\n", b"250")
        if isinstance(client.sock, ssl.SSLSocket):
            self._sessions[place] = client.sock.session
        response = base64.b64encode(f"\0{user}\0secret".encode())
        yield from client.ask(b"AUTH PLAIN " + response + b"\r\n", b"235")

    def _send(self, client: Client, user: str) -> Generator[float, None, bool]:
        """False: 452, there was no room for it."""
        mail, rcpt = b"MAIL FROM:<%s>\r\n" % user.encode(), b"RCPT TO:<someone@example.com>\r\n"
        quit_, bye = (b"", ()) if self._keep else (b"QUIT\r\n", (b"221",))
        try:
            if self._pipeline:
                yield from client.ask(mail + rcpt + b"DATA\r\n", b"250", b"250", b"354")
                yield from client.ask(self._content + quit_ if quit_ else self._content, b"250", *bye)
                return True
            for command, code in ((mail, b"250"), (rcpt, b"250"), (b"DATA\r\n", b"354"), (self._content, b"250")):
                yield from client.ask(command, code)
            if quit_:
                yield from client.ask(quit_, *bye)
            return True
        except UnexpectedReply as reply:
            if "\n452 " in f"\n{reply}":
                return False
            raise


def probe(job: Mapping[str, Any]) -> dict[str, Any]:
    """How long NOOP takes: what stops the server's event loop stops this too."""
    took: list[float] = []
    with socket.create_connection((job["host"], job["port"]), _PATIENCE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.recv(512)
        end = time.monotonic() + job["seconds"]
        while (began := time.monotonic()) < end:
            sock.sendall(b"NOOP\r\n")
            sock.recv(512)
            took.append(time.monotonic() - began)
            time.sleep(_PROBE_EVERY_S)
    took.sort()
    return {"messages": len(took), **{f"p{percent}_ms": percentile(took, percent) * 1000 for percent in _PERCENTILES}}


def percentile(ordered: list[float], percent: int) -> float:
    """Nearest rank; 0 of nothing."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0.0


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
    head = (
        header
        + b'Content-Type: multipart/mixed; boundary="part"\r\n\r\n--part\r\n'
        + text
        + line
        + b"--part\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        + b'Content-Disposition: attachment; filename="scan.bin"\r\n\r\n'
    )
    end = b"--part--\r\n.\r\n"
    base64_line = base64.b64encode(bytes(range(57))) + b"\r\n"
    return head + base64_line * ((size - len(head) - len(end)) // len(base64_line)) + end


def _tls_context(ca_file: str, newest: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.maximum_version = ssl.TLSVersion[newest]
    context.check_hostname = False
    return context


class Idle:
    """Connections that are open and say nothing."""

    def __init__(self) -> None:
        self._socks: list[socket.socket] = []

    def open(self, job: Mapping[str, Any]) -> None:
        """count of them, behind EHLO."""
        context = _tls_context(job["ca_file"], job["tls"]) if job.get("tls") else None
        for _ in range(job["count"]):
            sock = socket.create_connection((job["host"], job["port"]), _PATIENCE_S)
            if context is not None:
                sock = context.wrap_socket(sock)
            self._socks.append(sock)
            sock.recv(512)
            sock.sendall(b"EHLO bench.example\r\n")
            sock.recv(2048)

    def close(self) -> None:
        for sock in self._socks:
            sock.close()
        self._socks.clear()


@contextmanager
def _faults_as(result: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except (OSError, UnexpectedReply) as fault:
        result["fault"] = f"{type(fault).__name__}: {fault}"


def main() -> None:
    idle = Idle()
    for line in sys.stdin:
        job = json.loads(line)
        result: dict[str, Any] = {}
        with _faults_as(result):
            match job["job"]:
                case "send":
                    result = Send(job).run()
                case "probe":
                    result = probe(job)
                case "idle":
                    idle.open(job)
                case "close":
                    idle.close()
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
