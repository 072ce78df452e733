# SPDX-License-Identifier: MIT
"""A message as Graph's JSON form needs it: decoded text, decoded attachments, addresses (RFC 5322, RFC 2045)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from relay.spool import Octets


class ContentError(Exception):
    """What was sent must be refused for what it says. The text is ours and holds nothing of the message."""


class MessageError(ContentError):
    """The message itself is at fault."""


class SenderNotAllowed(ContentError):
    """The From header names somebody as whom this client may not write."""


class Address(NamedTuple):
    """One mailbox (RFC 5322 §3.4). name: decoded display name, may be empty. addr: local-part@domain."""

    name: str
    addr: str


class Recipients(NamedTuple):
    """The envelope's recipients by where they are shown; nobody stands in two places."""

    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()


class Body(NamedTuple):
    kind: Literal["text", "html"]
    content: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is not the body. name is never empty; content_id: without angle brackets, empty for none."""

    name: str
    media_type: str  # type/subtype, lower case, with no parameters
    content: Octets = field(repr=False)
    inline: bool = False
    content_id: str = ""


class Message(NamedTuple):
    """What was sent, decoded. Every str is free of lone surrogates and NUL and can be written as UTF-8."""

    subject: str | None = None  # None: no Subject header at all
    from_: tuple[Address, ...] = ()
    sender: Address | None = None
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    has_to_or_cc: bool = False  # a To or Cc header stood there, even one that names nobody
    body: Body = Body("text", "")
    attachments: tuple[Attachment, ...] = ()
    importance: Literal["low", "normal", "high"] | None = None
    read_receipt: bool = False
    delivery_receipt: bool = False
    message_id: str = ""  # with angle brackets, as it stood
    in_reply_to: str = ""
    references: str = ""
    x_headers: tuple[tuple[str, str], ...] = ()  # name as written, decoded value, in order
    other_headers: tuple[str, ...] = ()  # names of header fields that the JSON form has no place for
    not_carried: tuple[str, ...] = ()  # what of the body this form leaves out, by name: "text alternative"
    warnings: tuple[str, ...] = ()  # faults that were mended, by name and without contents
    header_charset: str = ""  # of raw 8-bit in the header, where it has some
