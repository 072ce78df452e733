# SPDX-License-Identifier: MIT
"""One message read twice: as it went over the wire, with Python's own email package, and as the sandbox got it.

Knows SMTP dialogues, MIME by way of the standard library, and Graph's message. Nothing of the relay is used here: a
reading of ours would agree with our own mistakes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

Named = tuple[str, str]  # display name, address


@dataclass(frozen=True)
class Transaction:
    """One mail transaction as the client said it; content without dot-stuffing."""

    reverse_path: str
    forward_paths: tuple[str, ...]
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Part:
    """Whatever is not the body."""

    name: str
    media_type: str
    content: bytes = field(repr=False)
    inline: bool
    content_id: str


@dataclass(frozen=True)
class Reading:
    """What people get to see of a message, and who. Line ends are LF."""

    subject: str
    sender: Named
    reply_to: tuple[Named, ...]
    to: tuple[Named, ...]
    cc: tuple[Named, ...]
    bcc: tuple[str, ...]
    kind: str
    body: str
    parts: tuple[Part, ...]
    x_headers: tuple[tuple[str, str], ...]
    message_id: str


def transactions(recording: bytes) -> list[Transaction]:
    """The mail transactions in what a client sent on one connection, those with message data."""
    found: list[Transaction] = []
    reverse_path, forward_paths = "", []
    while recording:
        line, _, recording = recording.partition(b"\r\n")
        verb = line[:5].upper()
        if verb == b"MAIL ":
            reverse_path, forward_paths = _path(line), []
        elif verb == b"RCPT ":
            forward_paths.append(_path(line))
        elif line.upper() == b"DATA":
            content, _, recording = (b"\r\n" + recording).partition(b"\r\n.\r\n")
            content = content.replace(b"\r\n.", b"\r\n")[2:] + b"\r\n"
            found.append(Transaction(reverse_path, tuple(forward_paths), content))
    return found


def _path(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode("ascii")


def read_sent(transaction: Transaction) -> Reading:
    """The message that a client sent, as Graph's JSON form has to show it: one body, HTML before text."""
    message = message_from_bytes(transaction.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("html", "plain"))
    waiting = dict.fromkeys(transaction.forward_paths)
    to, cc = (tuple(one for one in _named(message, name) if waiting.pop(one[1], "") is None) for name in ("To", "Cc"))
    return Reading(
        subject=str(message.get("Subject", "")),
        sender=_named(message, "From")[0],
        reply_to=_named(message, "Reply-To"),
        to=to,
        cc=cc,
        bcc=tuple(waiting),
        kind="html" if body is not None and body.get_content_subtype() == "html" else "text",
        body="" if body is None else body.get_content().replace("\r\n", "\n"),
        parts=tuple(_parts(message, in_related=False)),
        x_headers=tuple((name, str(value)) for name, value in message.items() if name.lower().startswith("x-")),
        message_id=str(message.get("Message-ID", "")),
    )


def _named(message: EmailMessage, name: str) -> tuple[Named, ...]:
    # Not by .addresses: it keeps the blank between two encoded words of a name (RFC 2047 §6.2 drops it).
    values = [str(value) for field_name, value in message.raw_items() if field_name.lower() == name.lower()]
    return tuple((str(make_header(decode_header(shown))), addr) for shown, addr in getaddresses(values))


def _parts(entity: Any, in_related: bool) -> Iterator[Part]:
    """What has a file name. Shown inside the HTML: what has a Content-ID, by disposition or by its place (RFC 2387)."""
    if entity.is_multipart():
        for part in entity.iter_parts():
            yield from _parts(part, in_related=entity.get_content_subtype() == "related")
    elif entity.get_filename():
        content_id = str(entity.get("Content-ID", "")).strip("<>")
        yield Part(
            name=entity.get_filename(),
            media_type=entity.get_content_type(),
            content=entity.get_payload(decode=True),
            inline=bool(content_id) and (in_related or entity.get_content_disposition() == "inline"),
            content_id=content_id,
        )


def read_received(captured: dict[str, Any]) -> Reading:
    """The message that the sandbox got."""
    message = captured["message"]
    properties = {one["id"]: one["value"] for one in message.get("singleValueExtendedProperties", ())}
    return Reading(
        subject=message.get("subject", ""),
        sender=_received((message["from"],))[0],
        reply_to=_received(message.get("replyTo", ())),
        to=_received(message.get("toRecipients", ())),
        cc=_received(message.get("ccRecipients", ())),
        bcc=tuple(addr for _, addr in _received(message.get("bccRecipients", ()))),
        kind=message["body"]["contentType"],
        body=message["body"]["content"].replace("\r\n", "\n"),
        parts=tuple(_received_part(one) for one in message.get("attachments", ())),
        x_headers=tuple((one["name"], one["value"]) for one in message.get("internetMessageHeaders", ())),
        message_id=properties.get("String 0x1035", ""),
    )


def _received(recipients: Any) -> tuple[Named, ...]:
    return tuple((one["emailAddress"].get("name", ""), one["emailAddress"]["address"]) for one in recipients)


def _received_part(attachment: dict[str, Any]) -> Part:
    return Part(
        name=attachment["name"],
        media_type=attachment["contentType"],
        content=base64.b64decode(attachment["contentBytes"], validate=True),
        inline=attachment.get("isInline", False),
        content_id=attachment.get("contentId", ""),
    )
