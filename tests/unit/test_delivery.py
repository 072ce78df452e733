# SPDX-License-Identifier: MIT
"""In which form a message goes, from whom, and what the log is told of it (contract §5)."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes, policy
from typing import Any

import pytest

from relay.clock import Deadline
from relay.config import GraphConfig
from relay.delivery import Account, Delivery
from relay.graph.errors import (
    GraphError,
    MailboxUnknown,
    Refused,
    SendAsDenied,
    ServerBusy,
    TokenUnavailable,
    TooLarge,
    UpstreamError,
)
from relay.graph.mail import Receipt
from relay.identity import Identity
from relay.message.model import MessageError, SenderNotAllowed
from relay.sandbox.capture import Captured
from relay.smtp.envelope import Envelope
from relay.spool import spooled
from tests.support.clock import FakeClock
from tests.support.graph_api import LOGIN, MAILBOX, deliver, no_large_mail

PLAIN = b"From: Erp <erp@example.com>\r\nTo: A <a@example.com>, c@example.com\r\nSubject: x\r\n\r\nhello\r\n"
SIGNED = (
    b"From: scanner@example.com\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\ntext\r\n--s\r\n"
    b"Content-Type: application/pgp-signature\r\n\r\nx\r\n--s--\r\n"
)
COPY = "; a copy stays in Sent Items"


@pytest.mark.parametrize(
    ("content", "config", "form", "reason"),
    [
        (PLAIN, {}, "json", "save_to_sent is off"),
        (PLAIN, {"save_to_sent": True}, "mime", "save_to_sent"),
        (PLAIN, {"save_to_sent": True, "format": "json"}, "json", "graph_format"),
        (PLAIN, {"format": "mime"}, "mime", f"graph_format{COPY}"),
        (SIGNED, {}, "mime", f"signature{COPY}"),
        (SIGNED, {"save_to_sent": True}, "mime", "signature"),
        (SIGNED, {"format": "json"}, "json", "graph_format"),
    ],
)
def test_form(content: bytes, config: dict[str, object], form: str, reason: str) -> None:
    captured, account = deliver(content, **config)
    assert (captured.form, account.form, account.form_reason) == (form, form, reason)
    assert captured.save_to_sent == (form == "mime" or "save_to_sent" in config)
    assert ("signature" in account.not_carried) == (content == SIGNED and form == "json")


def test_recipients_in_mime() -> None:
    captured, account = deliver(PLAIN, "a@example.com", "b@example.com", format="mime")
    assert (captured.to, captured.cc, captured.bcc) == (("a@example.com",), (), ("b@example.com",))
    assert (captured.sender, captured.mailbox, account.not_carried) == ("erp@example.com", MAILBOX, ())
    assert captured.mime is not None
    assert b"Message-ID: <0123456789ABCDEF@example.com>\r\n" in captured.mime
    assert b"Date: Sun, 01 Mar 2026 12:00:00 +0000\r\n" in captured.mime


def test_all_addresses_hidden_in_mime() -> None:
    captured, _ = deliver(b"Subject: x\r\n\r\n", "a@example.com", "b@example.com", format="mime")
    assert (captured.to, captured.cc, captured.bcc) == ((), (), ("a@example.com", "b@example.com"))


@pytest.mark.parametrize("form", ["json", "mime"])
def test_mailbox_in_from(form: str) -> None:
    denied = PLAIN.replace(b"erp@", b"denied@")
    with pytest.raises(SendAsDenied):
        deliver(denied, format=form)
    for rewrite in ("on_denied", "always"):
        captured, account = deliver(denied, format=form, sender_rewrite=rewrite)
        assert (captured.sender, account.rewritten_from) == (MAILBOX, "denied@example.com")
        if captured.mime is not None:
            assert b"\r\nReply-To: Erp <denied@example.com>\r\n" in captured.mime
            assert captured.mime.startswith(b"From: Erp <scanner@example.com>\r\n")
        else:
            assert captured.message is not None
            assert captured.message["replyTo"][0]["emailAddress"]["address"] == "denied@example.com"
    captured, account = deliver(PLAIN, format=form, sender_rewrite="on_denied")
    assert (captured.sender, account.rewritten_from) == ("erp@example.com", "")


@pytest.mark.parametrize("form", ["json", "mime"])
def test_refusals_do_not_depend_on_the_form(form: str) -> None:
    broken = b"Content-Type: a/b; name=c\r\nContent-Transfer-Encoding: base64\r\n\r\n!!"
    with pytest.raises(MessageError, match="cannot be decoded"):
        deliver(broken, format=form, strict_attachments=True)
    captured, account = deliver(broken, format=form)
    assert account.warnings
    if captured.mime is not None:
        assert captured.mime.endswith(b"\r\n\r\n!!")
    with pytest.raises(SenderNotAllowed):
        deliver(PLAIN, format=form, allowed_from=["*@example.org"])


def test_too_large_for_mime_but_not_for_json() -> None:
    attached = b"A" * 76 + b"\r\n"
    content = b"From: s@example.com\r\nContent-Type: a/b; name=c\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    content += attached * 800
    captured, account = deliver(content, save_to_sent=True, single_request_limit_bytes=65_536)
    assert (captured.form, captured.save_to_sent) == ("json", True)
    assert account.form_reason == "too large for MIME in one request"
    captured, _ = deliver(content, save_to_sent=True, single_request_limit_bytes=100_000)
    assert captured.form == "mime"
    captured, account = deliver(content, format="mime", single_request_limit_bytes=65_536)
    assert (captured.form, account.form, account.form_reason) == ("draft", "draft", f"too large for one request{COPY}")


def test_an_invitation_too_large_for_mime_goes_as_json_and_not_as_a_draft_which_is_json_too() -> None:
    content = b"From: s@example.com\r\nContent-Type: text/calendar; method=REQUEST\r\n"
    content += b"Content-Transfer-Encoding: base64\r\n\r\n" + (b"A" * 76 + b"\r\n") * 800
    captured, account = deliver(content, single_request_limit_bytes=65_536)
    assert (captured.form, captured.save_to_sent) == ("json", False)
    assert account.form_reason == "too large for MIME in one request"
    assert account.not_carried == ("calendar invitation",)


@pytest.mark.parametrize("config", [{}, {"save_to_sent": True}])
def test_a_signature_does_not_become_json_for_its_size(config: dict[str, bool]) -> None:
    content = SIGNED.replace(b"text", b"text\r\n" * 10_000)
    account = Account()
    with pytest.raises(TooLarge):
        deliver(content, single_request_limit_bytes=65_536, account=account, **config)
    assert account.form == "mime"


def test_the_limit_counts_base64() -> None:
    content = PLAIN + b"x" * 60_000
    captured, account = deliver(content, format="mime", single_request_limit_bytes=65_536)
    assert (captured.form, account.form) == ("draft", "draft")


class TooSmall:
    """A mailer and the large path behind it: sendMail refuses the size, and making a draft ends with this failure."""

    def __init__(self, failure: GraphError) -> None:
        self._failures = [TooLarge(status=413), failure]
        self.limit_bytes = 4_000_000
        self.lowered = False

    def send(self, *_: object, **__: object) -> Receipt:
        raise self._failures.pop(0)

    def lower_limit(self, *_: object) -> None:
        self.lowered = True


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (MailboxUnknown(status=404), TooLarge),
        (Refused(status=405), TooLarge),
        (TooLarge(status=403), TooLarge),
        (SendAsDenied(status=403), SendAsDenied),
        (ServerBusy(status=503), ServerBusy),
    ],
)
def test_what_sendmail_finds_too_large_stays_so_where_no_draft_can_be_made(
    failure: GraphError, told: type[GraphError]
) -> None:
    scene, clock = TooSmall(failure), FakeClock()
    content = b"From: s@example.com\r\nContent-Type: a/b; name=c\r\n\r\nx"
    with pytest.raises(GraphError) as caught:
        Delivery(scene, scene, GraphConfig(), clock).deliver(  # type: ignore[arg-type]
            Envelope("0123456789ABCDEF", MAILBOX, ("a@example.com",)),
            content,
            Identity(MAILBOX, MAILBOX, LOGIN),
            Deadline(clock, 60),
            Account(),
        )
    assert type(caught.value) is told
    assert caught.value.status == failure.status, "the log names the last answer"
    assert not scene.lowered


def test_what_went_before_a_token_that_was_refused_is_not_forgotten() -> None:
    """Behind a sender that was denied, and behind a size: the log counts all tries, and doubt stays."""

    class Mailbox(DenyingMailer):
        limit_bytes = 4_000_000

        def __init__(self, first: GraphError) -> None:
            super().__init__()
            first.attempts, first.possible_duplicate = 2, True
            self._faults: list[UpstreamError] = [first, TokenUnavailable("Entra ID is out of reach")]

        def send(self, mailbox: str, *_: object, **__: object) -> Receipt:
            raise self._faults.pop(0)

    content = b"From: erp@example.com\r\nContent-Type: a/b; name=c\r\n\r\nx"
    for first in (SendAsDenied(status=403), TooLarge(status=413)):
        scene, clock = Mailbox(first), FakeClock()
        with pytest.raises(TokenUnavailable) as caught:
            Delivery(scene, scene, GraphConfig(sender_rewrite="on_denied"), clock).deliver(  # type: ignore[arg-type]
                Envelope("M1", MAILBOX, ("a@example.com",)),
                content,
                Identity(MAILBOX, MAILBOX, LOGIN),
                Deadline(clock, 60),
                Account(),
            )
        assert (caught.value.attempts, caught.value.possible_duplicate) == (2, True), first


# Who it is from, and whose mailbox sends

FORMS = pytest.mark.parametrize("form", ["json", "mime"])


def senders(captured: Captured) -> tuple[str, list[str]]:
    """From with its display name, and the addresses of Reply-To, whatever the form."""
    if captured.mime is not None:
        header = message_from_bytes(captured.mime, policy=policy.default)
        replies = header["Reply-To"].addresses if header["Reply-To"] else ()
        return str(header["From"]), [one.addr_spec for one in replies]
    assert captured.message is not None
    author = captured.message["from"]["emailAddress"]
    shown = f"{author['name']} <{author['address']}>" if author.get("name") else author["address"]
    return shown, [one["emailAddress"]["address"] for one in captured.message.get("replyTo", [])]


@FORMS
def test_rewrite_always_keeps_name_and_reply_to(form: str) -> None:
    captured, account = deliver(PLAIN, format=form, sender_rewrite="always")
    assert senders(captured) == ("Erp <scanner@example.com>", ["erp@example.com"])
    assert account.rewritten_from == "erp@example.com"
    answered = b"Reply-To: help@example.com, desk@example.com\r\n" + PLAIN
    captured, _ = deliver(answered, format=form, sender_rewrite="always")
    assert senders(captured) == ("Erp <scanner@example.com>", ["help@example.com", "desk@example.com"])


@FORMS
@pytest.mark.parametrize("rewrite", ["never", "on_denied"])
def test_no_rewrite_without_need(form: str, rewrite: str) -> None:
    captured, account = deliver(PLAIN, format=form, sender_rewrite=rewrite)
    assert senders(captured) == ("Erp <erp@example.com>", [])
    assert account.rewritten_from == ""


@FORMS
@pytest.mark.parametrize("author", [b"scanner@example.com", b"Scanner@EXAMPLE.com"])
def test_nothing_to_rewrite(form: str, author: bytes) -> None:
    captured, account = deliver(PLAIN.replace(b"erp@example.com", author), format=form, sender_rewrite="always")
    assert senders(captured) == (f"Erp <{author.decode()}>", [])
    assert account.rewritten_from == ""


@FORMS
def test_without_a_from_header_the_envelopes_sender_is_rewritten(form: str) -> None:
    content = b"Subject: x\r\n\r\nhello\r\n"
    captured, account = deliver(content, reverse_path="root@host.example", format=form, sender_rewrite="always")
    assert senders(captured) == (MAILBOX, ["root@host.example"])
    assert account.rewritten_from == "root@host.example"
    captured, account = deliver(content, reverse_path="", format=form, sender_rewrite="always")
    assert senders(captured) == (MAILBOX, [])
    assert account.rewritten_from == ""


class DenyingMailer:
    """Refuses every sender."""

    def __init__(self) -> None:
        self.mailboxes: list[str] = []

    def send(self, mailbox: str, *_: object, copy: object) -> Receipt:
        self.mailboxes.append(mailbox)
        raise SendAsDenied(status=403)


@pytest.mark.parametrize(
    ("rewrite", "author", "tries"),
    [
        ("never", b"erp@example.com", 1),
        ("on_denied", b"erp@example.com", 2),
        ("on_denied", b"scanner@example.com", 1),
        ("on_denied", b"Scanner@Example.com", 1),
        ("always", b"erp@example.com", 1),
    ],
)
def test_one_more_try_where_something_can_be_rewritten(rewrite: str, author: bytes, tries: int) -> None:
    mailer, clock = DenyingMailer(), FakeClock()
    config = GraphConfig(sender_rewrite=rewrite)
    delivery = Delivery(mailer, no_large_mail(config, clock), config, clock)  # type: ignore[arg-type]
    with pytest.raises(SendAsDenied):
        delivery.deliver(
            Envelope("M1", MAILBOX, ("a@example.com",)),
            PLAIN.replace(b"erp@example.com", author),
            Identity("scanner", MAILBOX, LOGIN),
            Deadline(clock, 60),
            Account(),
        )
    assert mailer.mailboxes == [MAILBOX] * tries


@FORMS
def test_without_a_mailbox_the_from_address_sends(form: str) -> None:
    """client_login, and anonymous clients where default_mailbox is empty."""
    captured, account = deliver(PLAIN, mailbox="", format=form)
    assert (captured.mailbox, account.mailbox) == ("erp@example.com", "erp@example.com")
    captured, _ = deliver(b"Subject: x\r\n\r\n", mailbox="", reverse_path="root@example.com", format=form)
    assert captured.mailbox == "root@example.com"


def test_no_mailbox_at_all() -> None:
    for content in (b"Subject: x\r\n\r\n", b"From: nobody\r\n\r\n", b"From: undisclosed:;\r\n\r\n"):
        with pytest.raises(MailboxUnknown, match="default_mailbox"):
            deliver(content, mailbox="", reverse_path="")


@FORMS
@pytest.mark.parametrize(
    ("author", "allowed"),
    [
        ("erp@example.com", True),
        ("Erp <ERP@Example.COM>", True),
        ('"x@example.com" <erp@example.org>', False),
        ("erp@example.com.evil.example", False),
        ("erp@sub.example.com", False),
        ("erp@example.org, erp@example.com", False),
        ("=?utf-8?q?erp=40example=2Ecom?= <evil@example.org>", False),
        ('"erp@example.com"@example.org', False),
        ("<erp@example.com> <evil@example.org>", False),
        ("erp@example.com, evil@example.org", False),
        ("erp@example.com, boss@example.com", True),
    ],
)
def test_the_from_header_is_held_to_allowed_from(form: str, author: str, allowed: bool) -> None:
    """And what is sent is what was looked at."""
    content = PLAIN.replace(b"Erp <erp@example.com>", author.encode())
    if not allowed:
        with pytest.raises(SenderNotAllowed):
            deliver(content, allowed_from=["*@example.com"], format=form)
        return
    captured, _ = deliver(content, allowed_from=["*@example.com"], format=form)
    assert captured.sender.lower() == "erp@example.com"


@FORMS
def test_a_second_from_field_does_not_get_around_allowed_from(form: str) -> None:
    content = b"From: erp@example.com\r\nFrom: evil@example.org\r\n\r\nx"
    captured, _ = deliver(content, allowed_from=["*@example.com"], format=form)
    assert captured.sender == "erp@example.com"
    assert captured.mime is None or b"evil" not in captured.mime
    with pytest.raises(SenderNotAllowed):
        deliver(
            b"From: evil@example.org\r\nFrom: erp@example.com\r\n\r\nx", allowed_from=["*@example.com"], format=form
        )


def test_allowed_from_lets_the_mailbox_itself_stand_where_no_from_was() -> None:
    """MAIL FROM:<> and no From field: there is nobody else as whom the client could write."""
    captured, _ = deliver(b"Subject: x\r\n\r\n", reverse_path="", allowed_from=["*@example.org"])
    assert captured.sender == MAILBOX


def test_many_attachments_are_written_in_a_thread() -> None:
    """What goes before each of them is written at once, and thousands would stop everybody else."""
    counts = []
    for number in (1, 1000):
        mailer, clock, config, threads = DenyingMailer(), FakeClock(), GraphConfig(), Aside()
        delivery = Delivery(mailer, no_large_mail(config, clock), config, clock, threads)  # type: ignore[arg-type]
        part = b"--b\r\nContent-Type: image/gif; name=x\r\n\r\nGIF8\r\n"
        with pytest.raises(SendAsDenied):
            delivery.deliver(
                Envelope("M1", MAILBOX, ("a@example.com",)),
                b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * number + b"--b--\r\n",
                Identity("scanner", MAILBOX, LOGIN),
                Deadline(clock, 60),
                Account(),
            )
        counts.append(threads.count)
    assert counts == [0, 1]


@pytest.mark.parametrize(("octets", "thread", "process"), [(1000, 0, 0), (300_000, 1, 0), (1_100_000, 0, 1)])
def test_where_a_message_is_read(octets: int, thread: int, process: int) -> None:
    """What lies in a file is read by another process, and its attachment goes out as it is read."""
    clock, config, threads, processes = FakeClock(), GraphConfig(), Aside(), Aside()
    delivery = Delivery(TakingMailer(), no_large_mail(config, clock), config, clock, threads, processes)  # type: ignore[arg-type]
    delivery.deliver(
        Envelope("M1", MAILBOX, ("a@example.com",)),
        spooled(b"Content-Type: image/gif; name=x\r\n\r\n" + b"x" * octets),
        Identity("scanner", MAILBOX, LOGIN),
        Deadline(clock, 60),
        Account(),
    )
    assert (threads.count, processes.count) == (thread, process)


class TakingMailer:
    def send(self, *_: object, copy: object) -> Receipt:
        return Receipt("graph-1", 1, False)


class Aside:
    """Does the work, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, work: Callable[[], Any]) -> Any:
        self.count += 1
        return work()
