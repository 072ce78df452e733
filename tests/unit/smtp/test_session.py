# SPDX-License-Identifier: MIT
"""What no dialogue can say of a session: drain, time that runs out within a call, logs. The rest is tests/protocol/."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from relay.clock import Deadline
from relay.identity import Client, Credentials, Identity
from relay.smtp import reply as replies
from relay.smtp.envelope import Envelope
from relay.smtp.lineio import LineIO
from relay.smtp.reply import Reject, Reply
from relay.smtp.session import Session
from tests.support.backend import CLIENT, PASSWORD, USER, MemoryBackend
from tests.support.clock import FakeClock
from tests.support.dialog import SETTINGS, all_records, check_records, encoded
from tests.support.wire import ENVELOPE, LOGIN, SegmentSocket


class HookedSocket(SegmentSocket):
    """Calls back when a given read begins, counted from 1: the client thinks, and something else happens."""

    def __init__(self, segments: list[bytes], clock: FakeClock, at: int, hook: Callable[[], object]) -> None:
        super().__init__(segments, clock)
        self._at = at
        self._hook = hook

    def recv(self, size: int, /) -> bytes:
        waits = self._timeout_s > 0  # else it only looks whether something has come
        self._at -= waits
        if waits and self._at == 0:
            self._hook()
        return super().recv(size)


class HookedBackend(MemoryBackend):
    def __init__(self, hook: Callable[[], object]) -> None:
        super().__init__()
        self._hook = hook

    def submit(
        self, envelope: Envelope, content: bytes, identity: Identity, client: Client, gone: Callable[[], bool]
    ) -> Reply:
        self._hook()
        return super().submit(envelope, content, identity, client, gone)


class Scene:
    """A session whose parts are at hand. when: the read at which hook() is called; 0 means in submit()."""

    def __init__(self, segments: list[bytes], when: int, *, lifetime_s: float = 300) -> None:
        self.clock = FakeClock()
        self.drained: list[bool] = []
        self.hook: Callable[[], object] = lambda: self.drained.append(self.session.drain())
        self.backend = HookedBackend(lambda: self.hook() if when == 0 else None)
        self.sock = HookedSocket(segments, self.clock, when, lambda: self.hook())
        io = LineIO(self.sock, self.clock, 60, Deadline(self.clock, lifetime_s))
        self.session = Session(io, CLIENT, self.backend, SETTINGS)

    @property
    def last(self) -> bytes:
        return b"".join(self.sock.sent).splitlines()[-1]


def test_drain_of_an_idle_session() -> None:
    """421 4.3.2 at once (contract §8), and only once."""
    scene = Scene([LOGIN], when=2)
    scene.session.run()
    assert scene.drained == [True]
    assert b"".join(scene.sock.sent).count(b"421 4.3.2") == 1
    assert scene.session.cut_short


def test_drain_within_a_message_lets_it_finish() -> None:
    scene = Scene([LOGIN, ENVELOPE, b"text\r\n.\r\n", b"NOOP\r\n"], when=3)
    scene.session.run()
    assert scene.drained == [False]
    assert len(scene.backend.deliveries) == 1
    assert b"".join(scene.sock.sent).splitlines()[-2:] == [
        b"250 2.0.0 Ok: queued as MESSAGE1",
        b"421 4.3.2 Service is shutting down, try again later",
    ]


def test_drain_within_submit_lets_it_finish() -> None:
    scene = Scene([LOGIN, ENVELOPE, b"text\r\n.\r\n" + ENVELOPE + b"more\r\n.\r\n"], when=0)
    scene.session.run()
    assert scene.drained == [False]
    assert len(scene.backend.deliveries) == 1, "the next one is not begun"
    assert scene.last.startswith(b"421 4.3.2")


def test_drain_between_two_chunks_lets_the_message_finish() -> None:
    """It is in flight, as one that comes with DATA is (contract §8)."""
    chunks = [ENVELOPE.replace(b"DATA\r\n", b"BDAT 4\r\ntext"), b"BDAT 2 LAST\r\n\r\n", b"NOOP\r\n"]
    scene = Scene([LOGIN, *chunks], when=3)
    scene.session.run()
    assert scene.drained == [False]
    assert [delivery.content for delivery in scene.backend.deliveries] == [b"text\r\n"]
    assert b"".join(scene.sock.sent).splitlines()[-2:] == [
        b"250 2.0.0 Ok: queued as MESSAGE1",
        b"421 4.3.2 Service is shutting down, try again later",
    ]


def test_drain_twice() -> None:
    scene = Scene([LOGIN], when=2)
    scene.hook = lambda: scene.drained.extend((scene.session.drain(), scene.session.drain()))
    scene.session.run()
    assert scene.drained == [True, False]


def test_time_that_runs_out_within_submit() -> None:
    """The answer to the message first, then 421 (contract §3)."""
    scene = Scene([LOGIN, ENVELOPE + b"text\r\n.\r\n", b"NOOP\r\n"], when=0, lifetime_s=100)
    scene.hook = lambda: scene.clock.advance(101)
    scene.session.run()
    assert b"".join(scene.sock.sent).splitlines()[-2:] == [
        b"250 2.0.0 Ok: queued as MESSAGE1",
        b"421 4.4.2 Timeout, closing",
    ]


@pytest.mark.parametrize(
    "segments", [[b"NOOP\r\n" * 1000], [LOGIN, ENVELOPE, *[b"x" * 1000] * 1000]], ids=["commands", "data"]
)
def test_a_client_that_is_always_ahead_leaves_turns_to_others(segments: list[bytes]) -> None:
    """Its octets are there whenever we read, so that nothing else would make us wait."""
    turns: list[bool] = []
    clock = FakeClock()
    io = LineIO(
        SegmentSocket(segments, clock), clock, 60, Deadline(clock, 300), let_others_run=lambda: turns.append(True)
    )
    Session(io, CLIENT, MemoryBackend(), SETTINGS).run()
    assert len(turns) >= 20


def test_a_session_that_ended_by_itself_was_not_cut_short() -> None:
    scene = Scene([LOGIN, b"QUIT\r\n"], when=-1)
    scene.session.run()
    assert not scene.session.cut_short
    assert not scene.session.idle


def test_each_message_has_its_own_id() -> None:
    scene = Scene([LOGIN, (ENVELOPE + b".\r\n") * 20], when=-1)
    scene.session.run()
    assert len({delivery.envelope.message_id for delivery in scene.backend.deliveries}) == 20


def test_the_backend_gets_credentials_and_client() -> None:
    scene = Scene([LOGIN, ENVELOPE + b".\r\n"], when=-1)
    scene.session.run()
    (login,) = scene.backend.logins
    assert isinstance(login, Credentials)
    assert (login.user, login.password.reveal()) == (USER, PASSWORD)
    assert scene.backend.deliveries[0].client == CLIENT
    assert scene.backend.deliveries[0].identity.mailbox == "scanner@example.com"


SECRETS = (
    PASSWORD,
    encoded(PASSWORD).rstrip("="),
    encoded(f"\0{USER}\0{PASSWORD}").rstrip("="),
    "confidential text",
)


def test_no_secret_in_any_record() -> None:
    """At debug too, and where the client is out of step, malformed or refused."""
    word = encoded(f"\0{USER}\0{PASSWORD}").encode()
    octets = b"".join(
        (
            b"EHLO c\r\nAUTH PLAIN\r\n" + word + b"\r\n",
            word + b"\r\nAUTH PLAIN " + word + b"\r\nAUTH " + word + b"\r\nauth\t" + word + b"\r\n",
            b"AUTHPLAIN " + word + b"\r\n" + encoded(PASSWORD).encode() + b"\r\n" + PASSWORD.encode() + b"\r\n",
            ENVELOPE + b"Subject: confidential text\r\n\r\nconfidential text\r\n.\r\nconfidential text\r\n",
        )
    )
    scene = Scene([octets], when=-1)
    with all_records() as records:
        scene.session.run()
    check_records(records)
    assert len(records) > 10
    shown = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in records)
    assert not [secret for secret in SECRETS if secret in shown]


def test_every_record_has_the_session_and_the_client() -> None:
    scene = Scene([LOGIN, b"X\r\n", ENVELOPE + b"x" * 2_000_000 + b"\r\n.\r\n", b"\x16\x03\x01"], when=-1)
    with all_records() as records:
        scene.session.run()
    assert {"rejected", "tls_on_plain_port"} <= {record.getMessage() for record in records}
    for record in records:
        assert (record.__dict__["session"], record.__dict__["client"]) == (CLIENT.session, CLIENT.address)


def test_a_message_that_is_too_large_has_its_line() -> None:
    """As every message (contract §8), although it never reaches the backend."""
    scene = Scene([LOGIN, ENVELOPE + b"." + b"x" * 2_000_000 + b"\r\n.\r\n"], when=-1)
    with all_records() as records:
        scene.session.run()
    check_records(records)
    (facts,) = [record.__dict__ for record in records if record.getMessage() == "rejected"]
    wanted = {
        "user": USER,
        "mailbox": "scanner@example.com",
        "sender": "a@example.com",
        "recipients": 1,
        "size_bytes": 2_000_002,
        "attempts": 0,
        "reply": "552 5.3.4",
    }
    assert {name: facts[name] for name in wanted} == wanted
    assert "max_message_size" in facts["reason"]
    assert facts["message_id"]


def test_a_client_that_hangs_up_is_no_news() -> None:
    scene = Scene([LOGIN], when=-1)
    with all_records() as records:
        scene.session.run()
    assert max(record.levelno for record in records) == logging.DEBUG


@pytest.mark.parametrize("fault", [RuntimeError("bug"), UnicodeEncodeError("ascii", "x", 0, 1, "bug"), KeyError("bug")])
def test_any_fault_costs_the_session_a_421(fault: Exception) -> None:
    scene = Scene([LOGIN, ENVELOPE + b".\r\nNOOP\r\n"], when=-1)
    scene.backend.outcomes.append(fault)
    with all_records() as records:
        scene.session.run()
    assert scene.last.startswith(b"421 4.3.0")
    assert [r.levelno for r in records if r.getMessage() == "session_fault"] == [logging.ERROR]
    assert scene.session.cut_short


class AtItsLimit(MemoryBackend):
    def authenticate(self, credentials: Credentials | None, client: Client) -> Identity:
        raise Reject(replies.TOO_MANY_FAILED_LOGINS)


def test_who_is_cut_off_by_auth_limit_gets_to_read_it() -> None:
    """The client may be sending yet, and closing over that would reset our last reply away."""
    clock = FakeClock()
    sock = SegmentSocket([b"EHLO c\r\nAUTH PLAIN AHgAeQ==\r\n", b"NOOP\r\n"], clock)
    session = Session(LineIO(sock, clock, 60, Deadline(clock, 300)), CLIENT, AtItsLimit(), SETTINGS)
    session.run()
    assert b"\r\n421 4.7.0 " in sock.sent[-1]
    assert session.cut_short


def test_an_implicit_tls_port_that_lost_its_certificate_says_so_and_nothing_in_clear() -> None:
    """A reload may take tls away; the port listens until a restart."""
    clock = FakeClock()
    sock = SegmentSocket([b"\x16\x03\x01"], clock)
    session = Session(
        LineIO(sock, clock, 60, Deadline(clock, 300)), CLIENT, MemoryBackend(), SETTINGS, implicit_tls=True
    )
    with all_records() as records:
        session.run()
    assert sock.sent == []
    assert [(r.getMessage(), "tls.cert_file" in r.__dict__["reason"]) for r in records] == [("tls_failed", True)]


# Whether the reply to a message was heard

MESSAGE = [LOGIN, ENVELOPE + b"text\r\n.\r\n"]


@pytest.mark.parametrize(
    ("segments", "heard"),
    [
        ([*MESSAGE, b"QUIT\r\n"], [True]),
        ([LOGIN, ENVELOPE + b"text\r\n.\r\nQUIT\r\n"], [True]),
        ([LOGIN, ENVELOPE + b"text\r\n.\r\n" + ENVELOPE + b"more\r\n.\r\nQUIT\r\n"], [True, True]),
        (MESSAGE, [False]),
        ([LOGIN, ENVELOPE + b"text\r\n.\r\n\r\nQUIT\r\n"], [True]),
        ([LOGIN, ENVELOPE + b"text\r\n.\r\n\r\n"], [False]),
    ],
    ids=["waits", "pipelined-quit", "pipelined-message", "closed", "empty-line-and-quit", "empty-line-and-closed"],
)
def test_the_backend_learns_whether_its_answer_was_heard(segments: list[bytes], heard: list[bool]) -> None:
    scene = Scene(segments, when=-1)
    scene.session.run()
    assert scene.backend.heard == heard
    assert b"".join(scene.sock.sent).count(b"250 2.0.0 Ok: queued") == len(heard)  # said in any case


@pytest.mark.parametrize("behind", [b"", b"\r\n", b"\n\r\n", b"QU"])
def test_who_waits_behind_the_message_hears_the_answer(behind: bytes) -> None:
    """Also behind an empty line, which some devices send: the same message from them again is another one."""
    clock = FakeClock()
    sock = SegmentSocket([LOGIN, ENVELOPE + b"text\r\n.\r\n" + behind], clock, TimeoutError)
    backend = MemoryBackend()
    Session(LineIO(sock, clock, 60, Deadline(clock, 300)), CLIENT, backend, SETTINGS).run()
    assert backend.heard == [True]


def test_a_reply_that_cannot_be_written_was_not_heard() -> None:
    scene = Scene([*MESSAGE, b"QUIT\r\n"], when=0)

    def broken(data: bytes, /) -> None:
        raise BrokenPipeError

    scene.hook = lambda: setattr(scene.sock, "sendall", broken)
    scene.session.run()
    assert scene.backend.heard == [False]


def test_a_fault_of_the_backend_was_not_heard() -> None:
    scene = Scene([*MESSAGE, b"QUIT\r\n"], when=-1)
    scene.backend.outcomes.append(RuntimeError("a bug"))
    scene.session.run()
    assert scene.backend.heard == [False]


def test_bdat_too() -> None:
    chunk = ENVELOPE.replace(b"DATA\r\n", b"BDAT 6 LAST\r\ntext\r\n")
    scene = Scene([LOGIN, chunk], when=-1)
    scene.session.run()
    assert scene.backend.heard == [False]
