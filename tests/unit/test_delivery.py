# SPDX-License-Identifier: MIT
"""In which form a message goes, from whom, and what the log is told of it (contract §5)."""

from __future__ import annotations

import pytest

from relay.delivery import Account
from relay.graph.errors import SendAsDenied, TooLarge
from relay.message.model import MessageError, SenderNotAllowed
from tests.support.graph_api import MAILBOX, deliver

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
