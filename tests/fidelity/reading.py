# SPDX-License-Identifier: MIT
"""An independent reading of messages, by the standard library alone: their parts, one by one.

Shares no code with relay/message. What the library reads differently by its version is not compared.
"""

from __future__ import annotations

import email
import email.errors
import email.header
import email.message
import email.utils
from typing import NamedTuple


class Part(NamedTuple):
    """A part that holds no parts; an attached message is one part. text: None where it is not certain."""

    kind: str
    content: bytes
    name: str
    text: str | None
    content_id: str
    disposition: str


def parts_of(octets: bytes) -> list[Part]:
    """The leaf parts in order."""
    return _parts(email.message_from_bytes(octets))


def _parts(message: email.message.Message) -> list[Part]:
    inner = message.get_payload()
    if message.is_multipart() and message.get_content_maintype() == "multipart":
        assert isinstance(inner, list)
        return [part for item in inner for part in _parts(item)]  # type: ignore[arg-type]
    if message.is_multipart():
        assert isinstance(inner, list)
        content = b"".join(item.as_bytes() for item in inner)  # type: ignore[union-attr]
    else:
        payload = message.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
    return [
        Part(
            message.get_content_type(),
            content,
            _name(message),
            _text(message, content),
            str(message.get("Content-ID", "")).strip("<> "),
            message.get_content_disposition() or "",
        )
    ]


def _name(message: email.message.Message) -> str:
    """The file name, encoded words in it decoded as mail programs do."""
    return header_text(message.get_filename() or "")


def header_text(value: object) -> str:
    """A header's value decoded; raw 8-bit octets as UTF-8."""
    text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        return str(email.header.make_header(email.header.decode_header(text)))
    except (email.errors.HeaderParseError, LookupError, ValueError):
        return text


def _text(message: email.message.Message, content: bytes) -> str | None:
    if message.get_content_maintype() != "text":
        return None
    charset = message.get_content_charset("us-ascii")
    if charset == "us-ascii" and b"\x1b$B" in content:
        charset = "iso-2022-jp"  # it names itself
    if message.get_content_subtype() == "html" and not message.get_content_charset():
        return None  # it may say so itself
    try:
        return content.decode(charset)
    except (LookupError, UnicodeError):
        return None
