# SPDX-License-Identifier: MIT
"""Plays an SMTP dialogue from a text file against a Session over a socket pair.

A line of such a file is one of these; what stands between two `S:` is sent in one piece (PIPELINING):

    # anything                        the fact that the dialogue shows, and where it comes from
    use authenticated                 greeted | authenticated | anonymous | anonymous greeted; nothing: not even EHLO
    set max_recipients 2              a setting of the session, or of the connection (lifetime_s, bare_lf)
    set inflight_bytes 1000           room for all messages at a time
    set tls 1                         a certificate is there, so that STARTTLS is offered (no handshake is played)
    allow from *@example.com          what the login may send as, or to whom (to)
    others take 1000                  so much of the room is taken by other sessions from now on; 0 gives it back
    backend DELIVERY_UNREACHABLE      the answer to the next message: a name in relay.smtp.reply, or fault
    C: MAIL FROM:<a@example.com>      sent with CR LF behind it
    raw: a\\r\\n.\\r\\n                   sent as it is; \\r \\n \\t \\0 \\\\ \\xNN
    S: 250 2.1.0                      a whole reply, by its code and enhanced code
    has: PIPELINING                   the reply before holds this line; has not: the contrary
    lines: 1                          the reply before has so many lines
    line: 334 VXNlcm5hbWU6            the last line of the reply before, exactly
    end                               the server has closed the connection, and said nothing more
    close                             the client hangs up
    silence                           the client sends nothing more: whoever waits for it runs into a timeout
    delivered: a@example.com b@example.com       the next message that the backend got: reverse-path, forward-paths
    content: text\\r\\n                  and its octets, unstuffed
    nothing delivered                 the backend got no further message
    logs: bare_lf_networks            a record at INFO or above holds this text

{x*600} anywhere in C: and raw: stands for 600 times x. {user}, {password} and {plain} stand for the base64 of the
backend's user name, password and PLAIN response.
"""

from __future__ import annotations

import base64
import logging
import random
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay.clock import Clock, Deadline
from relay.logs import FIELDS, TextLines
from relay.smtp import reply as replies
from relay.smtp.backend import SessionSettings
from relay.smtp.budget import Budget
from relay.smtp.lineio import LineIO
from relay.smtp.session import Session
from tests.support.backend import CLIENT, PASSWORD, USER, MemoryBackend

_PATIENCE_S = 40.0  # for what must come; nothing waits that long unless the test fails
_TICK_S = 0.02
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
_REPEAT = re.compile(r"\{(.+?)\*(\d+)\}")
_PLAIN = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
SETTINGS = SessionSettings("mail.example.com", 1_000_000, 500)

Cut = Callable[[int], int]
"""How many octets the next recv() may give, of those asked for."""


def encoded(text: str) -> str:
    """Base64 of the text as UTF-8."""
    return base64.b64encode(text.encode()).decode()


_WORDS = {"{user}": encoded(USER), "{password}": encoded(PASSWORD), "{plain}": encoded(f"\0{USER}\0{PASSWORD}")}


class CutSocket:
    """The server's end: recv() gives what is there in the pieces that cut() says."""

    def __init__(self, sock: socket.socket, cut: Cut) -> None:
        self._sock = sock
        self._cut = cut
        self._may_wait = True
        self.silent = threading.Event()
        self.ended = threading.Event()  # the session behind it

    def recv(self, size: int, /) -> bytes:
        while True:
            silent = self.silent.is_set()  # asked first: what was sent before the silence is still to be read
            try:
                return self._sock.recv(self._cut(size))
            except TimeoutError:
                if silent or not self._may_wait:
                    raise

    def send(self, data: bytes, /) -> int:
        return self._sock.send(data)

    def sendall(self, data: bytes, /) -> None:
        self._sock.sendall(data)

    def settimeout(self, value: float | None, /) -> None:
        """The time of a test is not the time of a client; see silent. Only 0 is what it says: not to wait."""
        self._may_wait = value != 0
        self._sock.settimeout(_TICK_S if self._may_wait else 0.001)


def whole(size: int) -> int:
    """As it comes."""
    return size


def single(_: int) -> int:
    """Octet by octet."""
    return 1


def at_random(seed: str) -> Cut:
    """Mostly small pieces, now and then a large one; the same ones for the same seed."""
    draw = random.Random(seed)
    return lambda size: draw.choice((1, 2, 3, draw.randrange(1, 40), size))


@dataclass(frozen=True, slots=True)
class Step:
    number: int
    verb: str
    text: str


@dataclass(slots=True)
class Setting:
    """What the lines at the head of a dialogue say."""

    session: SessionSettings = SETTINGS
    lifetime_s: float = 60.0
    bare_lf: bool = False
    allowed_from: tuple[str, ...] = ()
    allowed_recipients: tuple[str, ...] = ()
    anonymous: bool = False
    prelude: tuple[bytes, ...] = ()
    steps: list[Step] = field(default_factory=list)


_VERB = re.compile(
    r"(use|set|allow from|allow to|others take|backend|C:|raw:|S:|has:|has not:|lines:|line:|end|close|silence"
    r"|delivered:|content:|nothing delivered|logs:)(?: (.*))?"
)


def read(path: Path) -> Setting:
    """The steps of a file. Raises ValueError with the line number for what is none."""
    setting = Setting()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _VERB.fullmatch(line)
        if match is None:
            raise ValueError(f"{path.name}:{number}: {line}")
        step = Step(number, match[1], match[2] or "")
        if step.verb in ("use", "set", "allow from", "allow to"):
            _apply(setting, step)
        else:
            setting.steps.append(step)
    return setting


def _apply(setting: Setting, step: Step) -> None:
    if step.verb == "set":
        name, value = step.text.split()
        if name == "lifetime_s":
            setting.lifetime_s = float(value)
        elif name == "bare_lf":
            setting.bare_lf = value == "1"
        elif name == "inflight_bytes":
            setting.session = replace(setting.session, budget=Budget(int(value)))
        elif name == "tls":
            setting.session = replace(setting.session, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        else:
            setting.session = replace(setting.session, **{name: int(value)})
        return
    if step.verb == "allow from":
        setting.allowed_from = tuple(step.text.split())
        return
    if step.verb == "allow to":
        setting.allowed_recipients = tuple(step.text.split())
        return
    setting.anonymous = "anonymous" in step.text
    if step.text != "anonymous":
        setting.prelude = (b"EHLO client.example.com\r\n",)
    if step.text == "authenticated":
        setting.prelude += (f"AUTH PLAIN {_WORDS['{plain}']}\r\n".encode(),)


def octets_of(text: str, *, escapes: bool) -> bytes:
    """What is sent for the text of a C: or raw: line."""
    for word, meaning in _WORDS.items():
        text = text.replace(word, meaning)
    text = _REPEAT.sub(lambda m: m[1] * int(m[2]), text)
    if not escapes:
        return text.encode("utf-8") + b"\r\n"
    pieces: list[bytes] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        pieces.append(text[at : match.start()].encode("utf-8"))
        pieces.append(bytes([int(match[1][1:], 16)]) if match[1][0] == "x" else _PLAIN[match[1]])
        at = match.end()
    return b"".join(pieces) + text[at:].encode("utf-8")


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


@contextmanager
def all_records() -> Iterator[list[logging.LogRecord]]:
    """Every record of the relay at any level, for as long as the block lasts."""
    handler = _Records()
    logger = logging.getLogger("relay")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.seen
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@contextmanager
def serving(setting: Setting, backend: MemoryBackend, cut: Cut) -> Iterator[tuple[socket.socket, CutSocket]]:
    """The client's end of a connection, and the other one, which a Session serves in a thread."""
    ours, theirs = socket.socketpair()
    clock = Clock()
    cutting = CutSocket(theirs, cut)
    line_io = LineIO(cutting, clock, _PATIENCE_S, Deadline(clock, setting.lifetime_s), bare_lf=setting.bare_lf)
    session = Session(line_io, CLIENT, backend, setting.session)

    def run() -> None:
        session.run()
        cutting.ended.set()
        theirs.shutdown(socket.SHUT_WR)
        theirs.settimeout(_PATIENCE_S)
        while theirs.recv(
            65536
        ):  # the server lingers likewise: closing over unread input would take our last reply away
            pass
        theirs.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ours.settimeout(_PATIENCE_S)
    try:
        yield ours, cutting
    finally:
        ours.close()
        thread.join(_PATIENCE_S)
        assert not thread.is_alive(), "the session did not end with its connection"


class Player:
    """One run of one dialogue."""

    def __init__(self, setting: Setting, cut: Cut) -> None:
        self._setting = setting
        self._cut = cut
        self._backend = MemoryBackend(
            anonymous=setting.anonymous,
            allowed_from=setting.allowed_from,
            allowed_recipients=setting.allowed_recipients,
        )
        self._others = setting.session.budget.reservation()
        self._received = b""
        self._unsent = b""
        self._reply: list[str] = []
        self._taken = 0  # deliveries that a `delivered:` has looked at

    def play(self) -> None:
        """Raises AssertionError with the line of the file at which it went otherwise."""
        with (
            all_records() as records,
            serving(self._setting, self._backend, self._cut) as (self._sock, self._server_end),
        ):
            self._expect("220")
            for octets in self._setting.prelude:
                self._sock.sendall(octets)
                self._expect("235 2.7.0" if octets.startswith(b"AUTH") else "250")
            for step in self._setting.steps:
                if step.verb != "logs:":
                    self._guarded(step, records)
        for step in self._setting.steps:
            if step.verb == "logs:":
                self._guarded(step, records)
        self._others.release()
        assert self._setting.session.budget.used == 0, "octets of a message are counted although it is gone"
        faults_wanted = any(s.verb == "backend" and s.text == "fault" for s in self._setting.steps)
        assert faults_wanted or not [r for r in records if r.getMessage() == "session_fault"]
        check_records(records)

    def _guarded(self, step: Step, records: list[logging.LogRecord]) -> None:
        try:
            self._step(step, records)
        except (AssertionError, OSError) as fault:
            raise AssertionError(f"line {step.number}: {step.verb} {step.text}: {fault}") from fault

    def _step(self, step: Step, records: list[logging.LogRecord]) -> None:  # noqa: C901 - a table of verbs
        if step.verb in ("C:", "raw:"):
            self._unsent += octets_of(step.text, escapes=step.verb == "raw:")
            return
        self._send()
        match step.verb:
            case "S:":
                self._expect(step.text)
            case "has:":
                assert step.text in [line[4:] for line in self._reply], self._reply
            case "has not:":
                assert step.text not in [line[4:] for line in self._reply], self._reply
            case "lines:":
                assert len(self._reply) == int(step.text), self._reply
            case "line:":
                assert self._reply[-1].rstrip() == step.text, self._reply
            case "end":
                assert self._received == b"", self._received
                assert self._sock.recv(1) == b""
            case "close":
                self._sock.close()
                assert self._server_end.ended.wait(_PATIENCE_S)
            case "others take":
                self._others.release()
                assert self._others.grow(int(step.text))
            case "silence":
                self._server_end.silent.set()
            case "backend":
                fault = RuntimeError("a bug of the backend")
                self._backend.outcomes.append(fault if step.text == "fault" else getattr(replies, step.text))
            case "logs:":
                said = [TextLines().format(r) for r in records if r.levelno >= logging.INFO]
                assert any(step.text in line for line in said), said
            case _:
                self._look_at_delivery(step)

    def _look_at_delivery(self, step: Step) -> None:
        deliveries = self._backend.deliveries
        if step.verb == "nothing delivered":
            assert deliveries[self._taken :] == []
        elif step.verb == "delivered:":
            assert len(deliveries) > self._taken, "nothing was delivered"
            self._taken += 1
            assert [path or "<>" for path in deliveries[self._taken - 1].paths] == step.text.split()
        else:
            assert deliveries[self._taken - 1].content == octets_of(step.text, escapes=True)

    def _send(self) -> None:
        octets, self._unsent = self._unsent, b""
        if octets:
            self._sock.sendall(octets)

    def _expect(self, status: str) -> None:
        self._reply = [self._line()]
        while self._reply[-1][3:4] == "-":
            self._reply.append(self._line())
        assert {line[:3] for line in self._reply} == {status[:3]}, self._reply
        words = self._reply[-1].split()
        enhanced = words[1] if len(words) > 1 and re.fullmatch(r"[245]\.\d\.\d+", words[1]) else ""
        assert f"{status[:3]} {enhanced}".rstrip() == status, self._reply

    def _line(self) -> str:
        while b"\r\n" not in self._received:
            octets = self._sock.recv(65536)
            assert octets, f"closed behind {self._received!r}"
            self._received += octets
        line, _, self._received = self._received.partition(b"\r\n")
        return line.decode("ascii")


def check_records(records: list[logging.LogRecord]) -> None:
    """No secret in any record, no field that the log does not know, no line that can be taken for two."""
    plain = logging.LogRecord("", 0, "", 0, "", None, None).__dict__
    for record in records:
        unknown = set(record.__dict__) - set(plain) - set(FIELDS) - {"message", "asctime"}  # formatters add these two
        assert not unknown, f"{record.getMessage()}: fields {unknown} are not in logs.FIELDS"
        line = TextLines().format(record)
        for secret in (PASSWORD, *(word for name, word in _WORDS.items() if name != "{user}")):
            assert secret.rstrip("=") not in line, f"a secret in {record.getMessage()}"
        assert record.exc_info or len(line.splitlines()) == 1, line
