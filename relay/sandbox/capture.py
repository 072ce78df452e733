# SPDX-License-Identifier: MIT
"""The messages that came through: what was received, for whom, a summary for a terminal, a file each.

Knows the shape of a sendMail payload and the header fields of RFC 5322. Judges nothing: graph.py has done
that. The address parser is our own: email.utils.getaddresses changed its mind between Python 3.11 and 3.13.
"""

from __future__ import annotations

import base64
import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message as MimeMessage
from pathlib import Path
from typing import Any, Literal

JsonObject = dict[str, Any]
_BODY_LINES = 10
_BODY_COLUMNS = 100
_NO_CHARSETS = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape")  # codecs of Python's alone
_NOT_KEPT = frozenset({"authorization"})


@dataclass(frozen=True, slots=True)
class Address:
    name: str
    addr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """One message that was accepted. sender, to, cc and bcc are bare addresses, in the order they came in."""

    form: Literal["json", "mime", "draft"]
    mailbox: str  # the one in the URL; for /me the token's user
    user: str  # the token's user; empty with an application's token
    message: JsonObject | None = field(default=None, repr=False)
    mime: bytes | None = field(default=None, repr=False)
    save_to_sent: bool = True
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the request, without Authorization
    received_at: datetime
    size: int  # octets of the HTTP body
    sender: str
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a captured message has from its request and not from its content."""

    mailbox: str
    user: str
    headers: Mapping[str, str]
    received_at: datetime
    size: int

    def kept_headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name not in _NOT_KEPT}


def capture_json(origin: Origin, message: JsonObject, save_to_sent: bool) -> Captured:
    """The record of a message in Graph's JSON form, already found valid."""
    sender = message.get("from") or message.get("sender") or {}
    return Captured(
        form="json",
        mailbox=origin.mailbox,
        user=origin.user,
        message=message,
        save_to_sent=save_to_sent,
        headers=origin.kept_headers(),
        received_at=origin.received_at,
        size=origin.size,
        sender=sender.get("emailAddress", {}).get("address") or origin.mailbox,
        to=_json_addresses(message, "toRecipients"),
        cc=_json_addresses(message, "ccRecipients"),
        bcc=_json_addresses(message, "bccRecipients"),
        subject=message.get("subject") or "",
    )


def capture_mime(origin: Origin, mime: bytes) -> Captured:
    """The record of a message in MIME form. Such a message always goes to Sent Items."""
    message = message_from_bytes(mime)
    senders = header_addresses(message, "From")
    return Captured(
        form="mime",
        mailbox=origin.mailbox,
        user=origin.user,
        mime=mime,
        headers=origin.kept_headers(),
        received_at=origin.received_at,
        size=origin.size,
        sender=senders[0].addr if senders else origin.mailbox,
        to=tuple(item.addr for item in header_addresses(message, "To")),
        cc=tuple(item.addr for item in header_addresses(message, "Cc")),
        bcc=tuple(item.addr for item in header_addresses(message, "Bcc")),
        subject=header_text(next(iter(header_values(message, "Subject")), "")),
    )


def _json_addresses(message: JsonObject, name: str) -> tuple[str, ...]:
    return tuple(item["emailAddress"]["address"] for item in message.get(name) or ())


def header_text(text: str) -> str:
    """A header's value with its encoded words decoded (RFC 2047); as it stands where they cannot be."""
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def header_values(message: MimeMessage, name: str) -> list[str]:
    """The values of all header fields of this name, unfolded; raw 8-bit octets read as UTF-8 (RFC 6532)."""
    values = [str(value) for field_name, value in message.raw_items() if field_name.lower() == name.lower()]
    octets = [value.encode("utf-8", "surrogateescape") for value in values]
    return [re.sub(r"\r?\n(?=[ \t])", "", item.decode("utf-8", "replace")).strip() for item in octets]


def header_addresses(message: MimeMessage, name: str) -> list[Address]:
    """Every mailbox in the header fields of this name, members of groups included (RFC 5322 §3.4)."""
    return [item for value in header_values(message, name) for item in _mailboxes(value)]


_ADDRESS_TOKEN = re.compile(
    r"""
    "(?P<quoted>(?:[^"\\]|\\.)*)"?
    | \((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)?   # a comment; one inside another is enough
    | <(?P<angle>(?:"(?:[^"\\]|\\.)*"|[^>"])*)>?
    | (?P<special>[,;:])
    | (?P<text>[^"(<,;:]+)
    """,
    re.VERBOSE | re.DOTALL,
)


def _mailboxes(value: str) -> Iterator[Address]:
    """Each mailbox of a list. The address is whatever stands in its place: the caller judges it."""
    name, bare, angle = "", "", ""
    for token in _ADDRESS_TOKEN.finditer(value + ","):
        if token["special"] == ":":
            name, bare = "", ""  # what stood before is the name of a group
        elif token["special"]:
            if angle or bare.strip():
                yield Address(header_text(name.strip()) if angle else "", (angle or bare).strip())
            name, bare, angle = "", "", ""
        elif token["quoted"] is not None:
            name += re.sub(r"\\(.)", r"\1", token["quoted"])
            bare += token[0]
        elif token["angle"] is not None:
            angle = token["angle"].strip()
        elif token["text"]:
            name += token["text"]
            bare += token["text"]


def as_json(captured: Captured) -> JsonObject:
    """The record as the control endpoint and a saved file show it; MIME in base64."""
    return {
        "form": captured.form,
        "mailbox": captured.mailbox,
        "user": captured.user,
        "message": captured.message,
        "mime": None if captured.mime is None else base64.b64encode(captured.mime).decode("ascii"),
        "save_to_sent": captured.save_to_sent,
        "headers": dict(captured.headers),
        "received_at": captured.received_at.isoformat(),
        "size": captured.size,
        "sender": captured.sender,
        "to": list(captured.to),
        "cc": list(captured.cc),
        "bcc": list(captured.bcc),
        "subject": captured.subject,
    }


def save(captured: Captured, directory: Path, number: int) -> Path:
    """Where the message was written: `.eml` for MIME, else `.json` with all that is known of it.

    number: counts the messages of this run; it keeps two of one second apart.
    """
    stem = directory / f"{captured.received_at:%Y%m%dT%H%M%SZ}-{number:06d}"
    if captured.mime is not None:
        path = stem.with_suffix(".eml")
        path.write_bytes(captured.mime)
    else:
        path = stem.with_suffix(".json")
        path.write_text(json.dumps(as_json(captured), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return path


def summary(captured: Captured) -> str:
    """Some lines for a terminal: who, to whom, what. Nothing in them can steer the terminal."""
    rows = [f"From:    {captured.sender}"]
    if captured.mailbox.casefold() != captured.sender.casefold():
        rows.append(f"Mailbox: {captured.mailbox}")
    for label, addresses in (("To:", captured.to), ("Cc:", captured.cc), ("Bcc:", captured.bcc)):
        if addresses:
            rows.append(f"{label:<8} {_some(addresses)}")
    rows.append(f"Subject: {captured.subject}")
    kind, text = _mime_body(captured.mime) if captured.mime is not None else _json_body(captured.message or {})
    lines = [line for line in text.splitlines() if line.strip()]
    rows.append(f"Body:    {kind}, {len(text)} characters")
    rows.extend("  | " + line[:_BODY_COLUMNS] for line in lines[:_BODY_LINES])
    if len(lines) > _BODY_LINES:
        rows.append(f"  | ({len(lines) - _BODY_LINES} more lines)")
    attachments = mime_attachments(captured.mime) if captured.mime is not None else json_attachments(captured)
    rows.extend(f"Attached: {name} ({media_type}, {size} bytes)" for name, media_type, size in attachments)
    return "\n".join(printable(row) for row in rows)


def printable(text: str) -> str:
    """The text on one line, with what could steer a terminal written as an escape (\\x1b, \\u202e)."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _some(addresses: tuple[str, ...]) -> str:
    more = len(addresses) - 10
    return ", ".join(addresses[:10]) + (f" and {more} more" if more > 0 else "")


def _json_body(message: JsonObject) -> tuple[str, str]:
    body = message.get("body") or {}
    return (body.get("contentType") or "text").lower(), body.get("content") or ""


def json_attachments(captured: Captured) -> Iterator[tuple[str, str, int]]:
    """Name, media type and size of each."""
    for item in (captured.message or {}).get("attachments") or ():
        octets = item.get("contentBytes") or ""
        kind = item.get("contentType") or ("message" if "item" in item else "unknown type")
        yield item.get("name") or "", kind, len(octets) * 3 // 4 - octets[-2:].count("=")


def _mime_body(mime: bytes) -> tuple[str, str]:
    """(kind, text) of the first text part that is no attachment."""
    for part in message_from_bytes(mime).walk():
        if part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment":
            return part.get_content_type(), part_text(part)
    return "none", ""


def part_text(part: MimeMessage) -> str:
    """The text of a part that holds no parts, in the charset that it names where there is such a one."""
    octets = part.get_payload(decode=True)
    if not isinstance(octets, bytes):
        return ""
    charset = part.get_content_charset("utf-8")
    try:
        if codecs.lookup(charset).name.replace("_", "-") not in _NO_CHARSETS:
            return octets.decode(charset, "replace")
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        pass
    return octets.decode("utf-8", "replace")


def mime_attachments(mime: bytes) -> Iterator[tuple[str, str, int]]:
    """The same of a message in MIME form."""
    for part in message_from_bytes(mime).walk():
        disposition = part.get_content_disposition()
        if part.is_multipart() and part.get_content_type() != "message/rfc822":
            continue
        if disposition != "attachment" and not part.get_filename():
            continue
        octets = part.get_payload(decode=True)
        size = len(octets) if isinstance(octets, bytes) else len(part.as_bytes())
        yield header_text(part.get_filename() or "(no name)"), part.get_content_type(), size
