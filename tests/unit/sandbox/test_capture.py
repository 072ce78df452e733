# SPDX-License-Identifier: MIT
"""What is shown and kept of a captured message."""

from __future__ import annotations

import base64
import json
from email.message import EmailMessage
from pathlib import Path

import pytest

from relay.sandbox.capture import as_json, header_text, printable, save, summary
from relay.sandbox.mails import mails
from tests.unit.sandbox.tenant import USER, Tenant, payload, recipient


def with_attachment(tenant: Tenant, name: str = "scan.pdf") -> None:
    item = {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": name,
        "contentType": "application/pdf",
        "contentBytes": base64.b64encode(b"12345").decode(),
    }
    content = payload(
        ccRecipients=[recipient("c@example.com")],
        bccRecipients=[recipient(f"b{i}@example.com") for i in range(12)],
        body={"contentType": "HTML", "content": "\n".join(f"line {i}" for i in range(30))},
        attachments=[item],
    )
    assert tenant.send(content) == (202, "")


def test_summary_of_json(tenant: Tenant) -> None:
    with_attachment(tenant)
    text = summary(tenant.captured[0])
    assert f"From:    {USER}" in text
    assert "To:      a@example.com" in text
    assert "Cc:      c@example.com" in text
    assert "b9@example.com and 2 more" in text
    assert "Subject: Scan" in text
    assert "Body:    html, " in text
    assert "  | line 9\n  | (20 more lines)" in text
    assert "Attached: scan.pdf (application/pdf, 5 bytes)" in text


def test_summary_of_mime(tenant: Tenant) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "other@example.com", "a@example.com", "Grüße"
    message.set_content("Füße\n")
    message.add_alternative("<p>Füße</p>", subtype="html")
    message.add_attachment(b"\0\1\2", maintype="image", subtype="png", filename="ü.png")
    tenant.post(base64.b64encode(message.as_bytes()), content_type="text/plain")
    text = summary(tenant.captured[0])
    assert f"From:    other@example.com\nMailbox: {USER}" in text
    assert "Body:    text/plain" in text
    assert "  | Füße" in text
    assert "Attached: ü.png (image/png, 3 bytes)" in text


def test_summary_of_mime_without_text_and_with_an_unknown_charset(tenant: Tenant) -> None:
    for head in (b"Content-Type: image/png\r\n", b"Content-Type: text/plain; charset=x-none\r\n"):
        tenant.post(base64.b64encode(b"To: a@example.com\r\n" + head + b"\r\nabc"), content_type="text/plain")
    assert "Body:    none" in summary(tenant.captured[0])
    assert "  | abc" in summary(tenant.captured[1])


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined", "a\0b", "rot13"])
def test_a_charset_that_is_none_is_no_fault_of_the_sandbox(tenant: Tenant, charset: str) -> None:
    """Python knows codecs of such names, and they fail in ways of their own."""
    head = f'To: a@example.com\r\nContent-Type: text/plain; charset="{charset}"\r\n\r\n'
    tenant.post(base64.b64encode(head.encode() + b"abc \xff"), content_type="text/plain")
    assert "  | abc \ufffd" in summary(tenant.captured[0])
    assert mails(1, tenant.captured)[0]["text"] == "abc \ufffd"


def test_nothing_can_steer_the_terminal(tenant: Tenant) -> None:
    tenant.send(payload(subject="\x1b[2J\u202e\nFrom: x", body={"content": "a\x1b]0;b\x07\r\x9b"}))
    with_attachment(tenant, "a\x1b[2J\npdf")
    for captured in tenant.captured:
        assert all(line.isprintable() for line in summary(captured).split("\n"))
    assert "\nFrom: x" not in summary(tenant.captured[0])


def test_printable() -> None:
    assert printable("Grüße\t\x1b\u202e 😀") == "Grüße\\t\\x1b\\u202e 😀"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?b?w7w=?=", "ü"),
        ("=?x-none?q?a?=", "=?x-none?q?a?="),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),
    ],
)
def test_header_text(value: str, text: str) -> None:
    assert header_text(value) == text


def test_saved_files(tenant: Tenant, tmp_path: Path) -> None:
    with_attachment(tenant)
    mime = b"To: a@example.com\r\n\r\nHello\r\n"
    tenant.post(base64.b64encode(mime), content_type="text/plain")
    first, second = (save(item, tmp_path, number) for number, item in enumerate(tenant.captured, 1))
    assert (first.name, second.name) == ("20260301T120000Z-000001.json", "20260301T120000Z-000002.eml")
    assert json.loads(first.read_text("utf-8")) == as_json(tenant.captured[0])
    assert second.read_bytes() == mime
    assert as_json(tenant.captured[1])["mime"] == base64.b64encode(mime).decode()
