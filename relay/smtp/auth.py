# SPDX-License-Identifier: MIT
"""The AUTH exchange (RFC 4954): PLAIN (RFC 4616) and LOGIN → Credentials. Decides nothing about them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from relay.credentials import Secret
from relay.identity import Credentials
from relay.smtp import reply as replies
from relay.smtp.reply import Reject, Reply

Ask = Callable[[Reply], bytes]
"""Sends a challenge and gives back the client's line, which is never logged."""


def exchange(argument: str, ask: Ask) -> Credentials:
    """Play the exchange to its end. argument: what stood behind AUTH. Raises Reject (501, 504)."""
    mechanism, _, initial = argument.partition(" ")
    initial_response = initial.strip().encode("utf-8", "surrogateescape") or None
    match mechanism.upper():
        case "PLAIN":
            return _plain(initial_response, ask)
        case "LOGIN":
            return _login(initial_response, ask)
        case "":
            raise Reject(replies.SYNTAX)
        case _:
            raise Reject(replies.AUTH_UNKNOWN_MECHANISM)


def _plain(response: bytes | None, ask: Ask) -> Credentials:
    octets = _decode(ask(replies.ASK_PLAIN) if response is None else response)
    parts = octets.split(b"\0")
    if len(parts) != 3:
        raise Reject(replies.AUTH_MALFORMED)
    return Credentials(_text(parts[1]), Secret(_text(parts[2])))


def _login(response: bytes | None, ask: Ask) -> Credentials:
    user = _decode(ask(replies.ASK_USER) if response is None else response)
    password = _decode(ask(replies.ASK_PASSWORD))
    return Credentials(_text(user), Secret(_text(password)))


def _decode(line: bytes) -> bytes:
    """Base64 with or without its padding; `*` cancels, `=` is the empty response (RFC 4954 §4)."""
    line = line.strip(b" \t")
    if line == b"*":
        raise Reject(replies.AUTH_CANCELLED)
    line = line.rstrip(b"=")
    try:
        return base64.b64decode(line + b"=" * (-len(line) % 4), validate=True)
    except binascii.Error:
        raise Reject(replies.AUTH_MALFORMED) from None


def _text(octets: bytes) -> str:
    """UTF-8 by RFC 4616 §2; old devices send Latin-1."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
