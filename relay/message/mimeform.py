# SPDX-License-Identifier: MIT
"""Octets of mail data → the octets that Graph gets in MIME form: the header edited, the body as it came.

Knows which fields Exchange takes recipients and originators from, and which text it breaks. Does not know the envelope
(recipients.py has read it), nor Graph. The body is never parsed and written again: what changes is cut out by the
ranges that mime.py finds. Recipients and From are written anew, always, so that no other reading of an odd address list
can make a recipient of somebody whom the envelope does not name. Source: RFC 5322, RFC 2045; Graph,
"outlook-send-mime-message"; Exchange strips Bcc (users report it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import NamedTuple

from relay.base64text import encoded
from relay.message.address import canonical, with_ascii_domain
from relay.message.charset import find_codec, is_windows_1252
from relay.message.headerform import address_field, is_sound, mended_value, with_parameters
from relay.message.headers import Fields, field_text, in_utf8, parse_parameters, split_fields
from relay.message.mime import Leaf, Structure, decode_octets, split_parts
from relay.message.model import Address, Message, Recipients
from relay.message.parse import charset_of

# To programs that read recipients out of headers, these are some.
_NO_RESENT = {"resent-to": b"", "resent-cc": b"", "resent-bcc": b""}
_UNSAID = {"bcc", "resent-bcc"}  # left out without a word: a Bcc field reaches nobody
_ONCE = {  # RFC 5322 §3.6 and RFC 2045 §3: the first is taken, as parse.py does
    *("subject", "date", "message-id", "mime-version", "in-reply-to", "references", "sender"),
    *("content-type", "content-transfer-encoding", "content-disposition", "content-id"),
}
_MAX_MENDED = 1_000_000  # octets of a header; a longer one is an attack, and its other fields go as they stand
_ASCII_ENCODINGS = {"base64", "x-uuencode", "uuencode", "x-uue", "uue"}  # 8-bit octets in these are no text
_BASE64_LINE = re.compile(rb"(?s).{1,76}")


class Stamp(NamedTuple):
    """What a message gets that does not have it. message_id: unique; its domain is the mailbox's, never a host's."""

    mailbox: str
    now: datetime
    message_id: str


def mime_form(
    content: bytes, message: Message, recipients: Recipients, from_: Address, stamp: Stamp
) -> tuple[bytes, tuple[str, ...]]:
    """The message in MIME, and the names of the fields that are left out.

    content: with CR LF everywhere. message: what parse() made of it, perhaps with another Reply-To. from_ and
    recipients: who it is from and who gets it, whatever its header says.
    """
    header = split_fields(content)
    if message.header_charset:
        header = in_utf8(header, message.header_charset)
    body, written = _body(content, header, message)
    written |= {
        "from": address_field("From", (from_,)),
        "to": address_field("To", recipients.to),
        "cc": address_field("Cc", recipients.cc),
        "bcc": address_field("Bcc", recipients.bcc),
        **_NO_RESENT,
    }
    if message.reply_to and not any(name.lower() == "reply-to" and _is_list(raw) for name, raw in header.fields):
        written["reply-to"] = address_field("Reply-To", message.reply_to)
    sender = message.sender
    if sender is None or canonical(sender.addr) not in (canonical(from_.addr), canonical(stamp.mailbox)):
        written["sender"] = b""  # somebody else's Exchange refuses; it writes its own where one is needed
    too_long = header.body_start > _MAX_MENDED
    sound = too_long or (not header.mended and is_sound(content[: header.body_start].rstrip(b"\r\n")))
    fields, left_out = _edited(header, written, _missing(header, from_, stamp), sound=sound)
    if len(message.from_) > 1:
        left_out.append("From after the first address")
    return b"".join([*fields, b"\r\n", *body]), tuple(dict.fromkeys(left_out))


def _is_list(raw: bytes) -> bool:
    """Whether a field names addresses, and as Exchange can read them: see address.py on commas as encoded words."""
    return raw.find(b"@") >= 0 and raw.upper().find(b"?=2C?=") < 0


def _edited(
    header: Fields, written: Mapping[str, bytes], missing: Mapping[str, bytes], *, sound: bool
) -> tuple[list[bytes], list[str]]:
    """The fields of a header as octets, and the names of those that went.

    written: fields that stand for all of their name, by lower-case name; empty for none. missing: likewise, for names
    of which none can be used. sound: no value needs mending.
    """
    pieces: list[bytes] = []
    left_out: list[str] = []
    seen: set[str] = set()
    for name, raw in header.fields:
        key = name.lower()
        if key in written:
            if key not in seen:
                pieces.append(written[key])
            if not written[key] and key not in _UNSAID and key not in ("to", "cc"):
                left_out.append(name)
        elif key not in missing and not (key in _ONCE and key in seen):
            pieces += (name.encode("ascii"), b":", raw if sound else mended_value(name, raw), b"\r\n")
        seen.add(key)
    pieces += [field for key, field in written.items() if key not in seen]
    pieces += missing.values()
    return pieces, left_out


def _missing(header: Fields, from_: Address, stamp: Stamp) -> dict[str, bytes]:
    present = {name.lower() for name, raw in header.fields if raw.strip()}
    missing: dict[str, bytes] = {}
    if "date" not in present:
        missing["date"] = f"Date: {format_datetime(stamp.now)}\r\n".encode("ascii")
    if "message-id" not in present:
        domain = with_ascii_domain(stamp.mailbox if "@" in stamp.mailbox else from_.addr).rpartition("@")[2]
        missing["message-id"] = f"Message-ID: <{stamp.message_id}@{domain}>\r\n".encode("ascii", "replace")
    if "mime-version" not in present:
        missing["mime-version"] = b"MIME-Version: 1.0\r\n"
    return missing


def _body(content: bytes, header: Fields, message: Message) -> tuple[list[bytes], dict[str, bytes]]:
    """The body in pieces, and the fields that the message's own header needs for it."""
    if not header.fields and content.isascii():
        return [content[header.body_start :]], {"content-type": b"Content-Type: text/plain; charset=us-ascii\r\n"}
    if content.isascii() and not message.warnings:
        return [content[header.body_start :]], {}
    structure = split_parts(content, header)
    fields = _mended_top(header, structure)
    pieces: list[bytes] = []
    at = header.body_start
    if not any(name.lower() == "dkim-signature" for name, _ in header.fields):  # it covers the body
        for leaf in filter(_breaks, structure.leaves):
            text = _octets_of(leaf)
            needed = _base64_fields(leaf, text)
            if leaf.containers:
                part_header = split_fields(content, leaf.start, leaf.end, is_message=False)
                pieces += (content[at : leaf.start], *_edited(part_header, needed, {}, sound=True)[0], b"\r\n")
            else:
                fields |= needed
            pieces.append(_base64_lines(text))
            at = leaf.end
    pieces.append(content[at:])
    if at == len(content) > header.body_start:
        pieces.append(b"\r\n")
    return pieces, fields


def _breaks(leaf: Leaf) -> bool:
    """Whether this is text that Exchange breaks: 8-bit, and not under a signature (users report it of Graph)."""
    return (
        leaf.media_type.startswith("text/")
        and leaf.encoding not in _ASCII_ENCODINGS
        and not leaf.octets.isascii()
        and not any(container.subtype in ("signed", "encrypted") for container in leaf.containers)
    )


def _octets_of(leaf: Leaf) -> bytes:
    """The text's octets; as they stand where nobody knows the encoding that is named."""
    decoded = decode_octets(leaf.octets, leaf.encoding)
    return leaf.octets if decoded is None else decoded


def _base64_fields(leaf: Leaf, octets: bytes) -> dict[str, bytes]:
    fields = {"content-transfer-encoding": b"Content-Transfer-Encoding: base64\r\n"}
    if charset := _missing_charset(leaf, octets):
        fields["content-type"] = _content_type(leaf.media_type, {**leaf.parameters, "charset": charset})
    return fields


def _content_type(media_type: str, parameters: Mapping[str, str]) -> bytes:
    return b"Content-Type: %s\r\n" % with_parameters(media_type, parameters)


def _missing_charset(leaf: Leaf, octets: bytes) -> str | None:
    """The charset of 8-bit text that names none, or one that cannot be true; None where the named one stays."""
    named = charset_of(leaf, octets)  # of HTML also what stands in a meta element
    codec = find_codec(named)
    if codec not in (None, "ascii") and not (codec == "utf_8" and is_windows_1252(octets)):
        return None if leaf.parameters.get("charset") else named
    try:
        octets.decode("utf-8")
        return "utf-8"
    except UnicodeError:
        unknown = bool(named) and codec is None
        return None if unknown or leaf.media_type not in ("text/plain", "text/html") else "windows-1252"


def _base64_lines(octets: bytes) -> bytes:
    return b"\r\n".join(_BASE64_LINE.findall(encoded(octets)))


def _mended_top(header: Fields, structure: Structure) -> dict[str, bytes]:
    """A Content-Type for the message where its own leads nowhere: Exchange would show nothing of such a body."""
    raw = next((raw for name, raw in header.fields if name.lower() == "content-type"), b"")
    value, parameters = parse_parameters(field_text(raw))
    top = structure.leaves[0]
    if not top.containers:
        return {"content-type": _content_type(top.media_type, top.parameters)} if value.startswith("multipart/") else {}
    boundary = top.containers[0].boundary
    if not boundary.isascii() or parameters.get("boundary", "").rstrip().encode() == boundary:
        return {}
    return {"content-type": _content_type(value, {**parameters, "boundary": boundary.decode("ascii")})}
