# SPDX-License-Identifier: MIT
"""The waist: who gets in, what the client is told, and the one line a message, against fakes on both sides."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from relay.accounts import Accounts
from relay.authentication import Authenticator
from relay.clock import Deadline
from relay.config import AccessConfig, AuthLimit, Config, GraphConfig
from relay.credentials import Secret
from relay.delivery import Delivery
from relay.graph import errors
from relay.graph.body import Content
from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable, UpstreamError
from relay.graph.mail import Receipt
from relay.graph.sentitems import SentCopy
from relay.identity import Client, Credentials, Identity
from relay.loginlimit import LoginLimit
from relay.resends import Resends
from relay.smtp.envelope import Envelope
from relay.smtp.reply import Reject
from relay.submission import Submission
from tests.support.clock import FakeClock
from tests.support.dialog import all_records, check_records
from tests.support.graph_api import no_large_mail

CLIENT = Client("192.168.1.20", "S1")
ENVELOPE = Envelope("M1", "scanner@example.com", ("b@example.com",))
LOGIN = Credentials("scanner@example.com", Secret("Passw0rd"))
IDENTITY = Identity("scanner@example.com", "scanner@example.com", LOGIN)
CONTENT = b"From: scanner@example.com\r\nTo: b@example.com\r\nSubject: Confidential\r\n\r\nbody text\r\n"


class FakeTokens:
    def __init__(self) -> None:
        self.fault: TokenError | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        self.asked: list[str] = []

    def get(self, login: Credentials, deadline: Deadline) -> Secret:
        self.asked.append(login.user)
        self.meanwhile()
        if self.fault is not None:
            raise self.fault
        return Secret("T0KEN")


class FakeMailer:
    """Takes what is to be sent, a second long, or fails."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.fault: BaseException | None = None
        self.receipt = Receipt("graph-1", 2, False)
        self.sent: list[dict[str, Any]] = []
        self.remaining: list[float] = []
        self.copies: list[SentCopy | None] = []
        self.asks = False  # Graph, before it fails
        self.looked_for: list[SentCopy] = []
        self.holds: bool | UpstreamError = False  # Sent Items

    def send(
        self,
        mailbox: str,
        content: Content,
        content_type: str,
        login: Credentials,
        deadline: Deadline,
        message_id: str,
        *,
        copy: SentCopy | None,
    ) -> Receipt:
        self.copies.append(copy)
        self.remaining.append(deadline.remaining())
        self._clock.advance(1)
        if self.fault is not None:
            with deadline.spending("graph" if self.asks else "token"):
                raise self.fault
        assert content_type == "application/json"
        self.sent.append({"mailbox": mailbox, "login": login, "id": message_id, **json.loads(bytes(content))})
        return self.receipt

    def was_sent(self, mailbox: str, copy: SentCopy, login: Credentials, deadline: Deadline, message_id: str) -> bool:
        self.looked_for.append(copy)
        if isinstance(self.holds, UpstreamError):
            raise self.holds
        return self.holds


class Scene:
    def __init__(self, access: AccessConfig | None = None, **settings: Any) -> None:
        self.clock = FakeClock()
        self.tokens = FakeTokens()
        self.mailer = FakeMailer(self.clock)
        config = GraphConfig(**settings)
        self.limit = LoginLimit(AuthLimit(), self.clock)
        self.submission = Submission(
            Authenticator(
                Accounts(Config(access=access or AccessConfig())),
                self.limit,
                self.tokens,  # type: ignore[arg-type]
                self.clock,
            ),
            Delivery(self.mailer, no_large_mail(config, self.clock), config, self.clock),  # type: ignore[arg-type]
            Resends(self.clock),
            GraphConfig(**settings).submit_timeout_s,
            self.clock,
        )

    def submit(self, content: bytes = CONTENT, identity: Identity = IDENTITY) -> tuple[str, list[dict[str, Any]]]:
        """Code and enhanced code, and the facts of each record."""
        with all_records() as records:
            reply = self.submission.submit(ENVELOPE, content, identity, CLIENT, lambda: False)
        check(records)
        return str(reply), [{"event": r.getMessage(), "level": r.levelno, **r.__dict__} for r in records]

    def authenticate(self, credentials: Credentials | None) -> tuple[Identity | str, list[dict[str, Any]]]:
        with all_records() as records:
            try:
                outcome: Identity | str = self.submission.authenticate(credentials, CLIENT)
            except Reject as refusal:
                outcome = str(refusal.reply)
        check(records)
        return outcome, [{"event": r.getMessage(), "level": r.levelno, **r.__dict__} for r in records]


def check(records: list[logging.LogRecord]) -> None:
    check_records(records)
    for record in records:
        shown = str(record.__dict__)
        for secret in ("Passw0rd", "T0KEN", "body text", "Fa11back"):
            assert secret not in shown, record.getMessage()
        assert "Confidential" not in shown or record.levelno == logging.DEBUG


def event(facts: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [record for record in facts if record["event"] == name]
    return found


# Messages


def test_delivered() -> None:
    scene = Scene()
    reply, facts = scene.submit()
    assert reply == "250 2.0.0"
    (sent,) = scene.mailer.sent
    assert (sent["mailbox"], sent["login"], sent["id"]) == ("scanner@example.com", LOGIN, "M1")
    assert sent["saveToSentItems"] is False
    assert scene.mailer.remaining == [110]
    line = event(facts, "delivered")
    assert line["level"] == logging.INFO
    wanted = {
        "message_id": "M1",
        "session": "S1",
        "client": "192.168.1.20",
        "user": "scanner@example.com",
        "mailbox": "scanner@example.com",
        "sender": "scanner@example.com",
        "recipients": 1,
        "size_bytes": len(CONTENT),
        "form": "json",
        "attempts": 2,
        "duration_ms": 1000,
        "graph_request_id": "graph-1",
        "reply": "250 2.0.0",
    }
    assert {name: line[name] for name in wanted} == wanted


OUTCOMES = [
    (errors.Throttled(status=429, code="ApplicationThrottled", request_id="g"), "451 4.4.5", "deferred"),
    (errors.Unreachable(), "451 4.4.1", "deferred"),
    (errors.NotAuthorized(status=401), "451 4.7.0", "deferred"),
    (errors.SendAsDenied(status=403), "550 5.7.60", "rejected"),
    (errors.AccessDenied(status=403), "550 5.7.1", "rejected"),
    (errors.TooLarge(status=413), "552 5.3.4", "rejected"),
    (errors.MailboxFull(status=507), "452 4.2.2", "deferred"),
    (CredentialsRefused("changed", "AADSTS50126"), "451 4.7.0", "deferred"),
    (AppMisconfigured("secret expired", "AADSTS7000222"), "451 4.7.0", "deferred"),
    (RuntimeError("bug"), "451 4.3.0", "deferred"),
]


@pytest.mark.parametrize(("fault", "status", "name"), OUTCOMES, ids=lambda value: type(value).__name__)
def test_not_delivered(fault: Exception, status: str, name: str) -> None:
    """One line at info, whatever happens; what an administrator must mend is an error besides."""
    scene = Scene()
    scene.mailer.fault = fault
    reply, facts = scene.submit()
    assert reply == status
    line = event(facts, name)
    assert (line["level"], line["reply"], line["message_id"], line["session"]) == (logging.INFO, status, "M1", "S1")
    assert line["reason"]
    if isinstance(fault, TokenError):
        assert line["entra_code"] == fault.entra_code
    assert len([r for r in facts if r["event"] in ("delivered", "deferred", "rejected")]) == 1


@pytest.mark.parametrize(
    "fault", [AppMisconfigured("x"), errors.AccessDenied(), errors.MailboxFull(), errors.SubmissionBlocked()]
)
def test_what_an_administrator_must_mend_is_an_error(fault: UpstreamError) -> None:
    """And the ids tie it to its message (contract §8)."""
    scene = Scene()
    scene.mailer.fault = fault
    _, facts = scene.submit()
    line = event(facts, "action_needed")
    assert (line["level"], line["mailbox"]) == (logging.ERROR, "scanner@example.com")
    assert (line["message_id"], line["session"]) == ("M1", "S1")
    assert line["reason"] == fault.advice


def test_a_bug_has_its_trace() -> None:
    scene = Scene()
    scene.mailer.fault = RuntimeError("bug")
    _, facts = scene.submit()
    assert event(facts, "submission_fault")["exc_info"]


def test_a_bug_before_the_delivery_is_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()

    def begin(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(Resends, "begin", begin)
    reply, facts = scene.submit()
    assert (reply, event(facts, "deferred")["reply"]) == ("451 4.3.0", "451 4.3.0")
    assert event(facts, "submission_fault")["exc_info"]
    assert not scene.mailer.sent


def test_a_possible_duplicate_is_said() -> None:
    scene = Scene()
    scene.mailer.receipt = Receipt("graph-1", 2, True)
    assert event(scene.submit()[1], "delivered")["possible_duplicate"] is True
    fault = errors.OutcomeUnknown()
    fault.possible_duplicate = True
    for scene.mailer.fault, said in ((fault, True), (errors.Unreachable(), None)):
        assert event(scene.submit()[1], "deferred")["possible_duplicate"] is said


def test_subjects_only_at_debug() -> None:
    _, facts = Scene().submit()
    assert event(facts, "subject")["level"] == logging.DEBUG


def test_what_one_request_cannot_hold() -> None:
    scene = Scene(single_request_limit_bytes=65536)
    reply, _ = scene.submit(CONTENT + b"x" * 70_000)
    assert reply == "552 5.3.4"
    assert scene.mailer.sent == []


def test_save_to_sent_and_submit_timeout_are_the_configurations() -> None:
    scene = Scene(save_to_sent=True, format="json", submit_timeout_s=7)
    scene.submit()
    assert scene.mailer.sent[0]["saveToSentItems"] is True
    assert scene.mailer.remaining == [7]


@pytest.mark.parametrize(("asked", "doubt"), [(False, None), (True, True)])
def test_a_message_that_is_cut_off_at_the_stop_has_its_line_too(asked: bool, doubt: bool | None) -> None:
    class Killed(BaseException):
        """As gevent ends a greenlet."""

    scene = Scene()
    scene.mailer.fault = Killed()
    scene.mailer.asks = asked
    with all_records() as records, pytest.raises(Killed):
        scene.submission.submit(ENVELOPE, CONTENT, IDENTITY, CLIENT, lambda: False)
    check(records)
    (line,) = [record.__dict__ for record in records if record.getMessage() == "deferred"]
    assert (line["reply"], line["possible_duplicate"], line["message_id"]) == ("421 4.3.2", doubt, "M1")
    assert line["attempts"] == int(asked)
    assert "stop" in line["reason"]


@pytest.mark.parametrize("content", [b"", b"\0", b"\r\n", b"\xff" * 1000, b"Content-Type: multipart/mixed\r\n\r\n--"])
def test_odd_messages_are_delivered(content: bytes) -> None:
    assert Scene().submit(content)[0] == "250 2.0.0"


# Logins


FALLBACK = AccessConfig(fallback_user="relay@example.com", fallback_password=Secret("Fa11back"), allow_anonymous=True)


def test_a_login_is_checked_with_a_token() -> None:
    scene = Scene()
    outcome, facts = scene.authenticate(LOGIN)
    assert isinstance(outcome, Identity)
    assert scene.tokens.asked == ["scanner@example.com"]
    assert max(record["level"] for record in facts) == logging.DEBUG


def test_no_login_asks_for_no_token() -> None:
    scene = Scene(FALLBACK)
    outcome, _ = scene.authenticate(None)
    assert isinstance(outcome, Identity)
    assert outcome.fallback
    assert scene.tokens.asked == []


def test_login_required() -> None:
    outcome, facts = Scene().authenticate(None)
    assert outcome == "530 5.7.0"
    assert event(facts, "login_required")["level"] == logging.INFO


@pytest.mark.parametrize(
    ("fault", "status", "name", "level"),
    [
        (CredentialsRefused("wrong", "AADSTS50126"), "535 5.7.8", "auth_failed", logging.WARNING),
        (TokenUnavailable("busy"), "454 4.7.0", "auth_unavailable", logging.ERROR),
        (AppMisconfigured("expired", "AADSTS7000222"), "454 4.7.0", "auth_unavailable", logging.ERROR),
    ],
)
def test_refused_logins(fault: TokenError, status: str, name: str, level: int) -> None:
    scene = Scene()
    scene.tokens.fault = fault
    outcome, facts = scene.authenticate(LOGIN)
    assert outcome == status
    line = event(facts, name)
    assert (line["level"], line["reply"], line["user"]) == (level, status, "scanner@example.com")
    assert (line["session"], line["client"], line["reason"]) == ("S1", "192.168.1.20", fault.advice)


@pytest.mark.parametrize("fault", [None, CredentialsRefused("wrong", "AADSTS50126")], ids=["right", "wrong"])
def test_a_burst_learns_nothing_beyond_auth_limit(fault: TokenError | None) -> None:
    """Whether a password is right is not told, if the others of the same moment have used up the limit."""
    scene = Scene()
    scene.tokens.fault = fault

    def others_fail() -> None:
        for _ in range(AuthLimit().failures):
            scene.limit.failed(CLIENT.address)

    scene.tokens.meanwhile = others_fail
    outcome, facts = scene.authenticate(LOGIN)
    assert outcome == "421 4.7.0"
    assert "auth_limit" in event(facts, "auth_limit")["reason"]
    assert not [record for record in facts if record["event"] in ("auth_failed", "authenticated")]


def test_auth_failed_reads_as_fail2ban_expects() -> None:
    """packaging/fail2ban reads event and client; both forms of the log."""
    from relay.logs import JsonLines, TextLines

    scene = Scene()
    scene.tokens.fault = CredentialsRefused("wrong", "AADSTS50126")
    with all_records() as records, pytest.raises(Reject):
        scene.submission.authenticate(LOGIN, CLIENT)
    (record,) = [record for record in records if record.getMessage() == "auth_failed"]
    assert " WARNING auth_failed session=S1 client=192.168.1.20 user=scanner@example.com " in TextLines().format(record)
    found = json.loads(JsonLines().format(record))
    assert (found["event"], found["client"]) == ("auth_failed", "192.168.1.20")


def test_the_fallbacks_own_password_is_not_the_devices_fault() -> None:
    scene = Scene(FALLBACK)
    scene.tokens.fault = CredentialsRefused("wrong", "AADSTS50126")
    outcome, facts = scene.authenticate(Credentials("", Secret("")))
    assert outcome == "454 4.7.0"
    assert event(facts, "auth_unavailable")["level"] == logging.ERROR


def test_an_empty_login_is_said() -> None:
    outcome, facts = Scene(FALLBACK).authenticate(Credentials("", Secret("")))
    assert isinstance(outcome, Identity)
    assert event(facts, "fallback_login")["user"] == "relay@example.com"


def test_a_user_without_a_password() -> None:
    scene = Scene(FALLBACK)
    outcome, facts = scene.authenticate(Credentials("relay@example.com", Secret("")))
    assert outcome == "535 5.7.8"
    assert event(facts, "auth_failed")["reason"]
    assert scene.tokens.asked == []


def test_a_bug_in_an_anonymous_message_is_nobodys_login() -> None:
    scene = Scene(FALLBACK)
    identity, _ = scene.authenticate(None)
    assert isinstance(identity, Identity)
    scene.mailer.fault = CredentialsRefused("the fallback's password is wrong", "AADSTS50126")
    reply, facts = scene.submit(identity=identity)
    assert reply == "451 4.7.0"
    assert event(facts, "action_needed")["level"] == logging.ERROR


# What is remembered of a message


def test_a_message_without_an_id_gets_one_that_stays() -> None:
    scene = Scene(save_to_sent=True, format="json")
    scene.submit()
    (sent,), (copy,) = scene.mailer.sent, scene.mailer.copies
    assert sent["message"]["singleValueExtendedProperties"] == [{"id": "String 0x1035", "value": "<M1@example.com>"}]
    handed_in = scene.clock.now() - timedelta(seconds=1)
    until = handed_in + timedelta(seconds=110)
    assert copy == SentCopy("<M1@example.com>", frozenset({"b@example.com"}), handed_in, until)


def test_a_message_id_of_the_clients_own_is_kept() -> None:
    scene = Scene(save_to_sent=True)
    scene.submit(b"Message-ID: <own@example.com>\r\n" + CONTENT)
    (copy,) = scene.mailer.copies
    assert copy is not None
    assert copy.internet_message_id == "<own@example.com>"


def test_where_no_copy_is_kept_none_is_looked_for() -> None:
    scene = Scene()
    scene.submit()
    assert scene.mailer.copies == [None]


@pytest.mark.parametrize(("heard", "deliveries"), [(True, 2), (False, 1)])
def test_a_resend(heard: bool, deliveries: int) -> None:
    scene = Scene()
    with all_records() as records:
        for message_id in ("M1", "M2"):
            envelope = Envelope(message_id, ENVELOPE.reverse_path, ENVELOPE.forward_paths)
            reply = scene.submission.submit(envelope, CONTENT, IDENTITY, CLIENT, lambda: not heard)
            scene.submission.answered(envelope, CLIENT, heard=heard)
            assert reply.lines == (f"Ok: queued as {message_id}",)
    check(records)
    assert len(scene.mailer.sent) == deliveries
    lines = [record.__dict__ for record in records if record.getMessage() == "delivered"]
    assert [line.get("resend_of") for line in lines] == [None, None if heard else "M1"]


class Doubtful(Scene):
    """A client sends the same message until it gets 250; each try a minute behind the one before."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(save_to_sent=True, format="json", **settings)
        self.tries = 0

    def come(self, fault: UpstreamError | None = None, holds: bool | UpstreamError = False) -> str:
        self.tries += 1
        self.mailer.fault, self.mailer.holds = fault, holds
        envelope = Envelope(f"M{self.tries}", ENVELOPE.reverse_path, ENVELOPE.forward_paths)
        with all_records() as records:
            reply = self.submission.submit(envelope, CONTENT, IDENTITY, CLIENT, lambda: False)
            self.submission.answered(envelope, CLIENT, heard=True)
        check(records)
        self.facts = [{"event": record.getMessage(), **record.__dict__} for record in records]
        self.clock.advance(60)
        return str(reply)


def unclear() -> UpstreamError:
    fault = errors.OutcomeUnknown(status=504)
    fault.possible_duplicate = True
    return fault


def test_what_is_in_doubt_is_looked_for_when_it_comes_again() -> None:
    scene = Doubtful()
    handed_in = scene.clock.now()
    assert scene.come(unclear()) == "451 4.4.1"
    assert scene.come(holds=True) == "250 2.0.0"
    assert scene.mailer.sent == []
    (copy,) = scene.mailer.looked_for
    assert copy.internet_message_id == "<M1@example.com>"
    assert copy.not_before == handed_in
    line = event(scene.facts, "delivered")
    assert (line["found_in_sent_items"], line["resend_of"]) == (True, "M1")
    assert scene.come() == "250 2.0.0", "the next one is meant"
    assert len(scene.mailer.sent) == len(scene.mailer.looked_for) == 1


def test_what_has_not_gone_is_sent_under_the_same_message_id() -> None:
    scene = Doubtful()
    assert scene.come(unclear()) == "451 4.4.1"
    assert scene.come() == "250 2.0.0"
    (sent,) = scene.mailer.sent
    assert sent["message"]["singleValueExtendedProperties"] == [{"id": "String 0x1035", "value": "<M1@example.com>"}]
    assert event(scene.facts, "delivered")["resend_of"] is None


def test_doubt_lasts_until_somebody_could_look() -> None:
    scene = Doubtful()
    handed_in = scene.clock.now()
    assert scene.come(unclear()) == "451 4.4.1"
    assert scene.come(holds=errors.ServerBusy(status=503)) == "451 4.4.1"
    assert scene.come(errors.Throttled(status=429)) == "451 4.4.5"
    assert scene.come(holds=True) == "250 2.0.0"
    assert [copy.not_before for copy in scene.mailer.looked_for] == [handed_in] * 3


def test_new_doubt_is_looked_for_in_its_own_time() -> None:
    """The earlier try was looked for and had not gone; what bears its Message-ID since then may be another mail."""
    scene = Doubtful()
    scene.come(unclear())
    again = scene.clock.now()
    scene.come(unclear())
    scene.come(holds=True)
    assert scene.mailer.looked_for[-1].not_before == again


def test_without_a_copy_nothing_is_looked_for_in_doubt() -> None:
    scene = Scene()
    scene.mailer.fault = unclear()
    scene.submit()
    scene.mailer.fault = None
    scene.submit()
    assert scene.mailer.looked_for == []
    assert len(scene.mailer.sent) == 1


def test_where_the_time_went() -> None:
    line = event(Scene().submit()[1], "delivered")
    assert line["waited_ms"] == 0
    assert line["duration_ms"] == 1000
