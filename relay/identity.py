# SPDX-License-Identifier: MIT
"""Who is at the other end of a connection, and who sends on their behalf. Shared by the SMTP and the Graph side."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from relay.credentials import Secret


@dataclass(frozen=True, slots=True)
class Client:
    """One connection. address: the client's IP address as text, IPv4-mapped IPv6 already unwrapped."""

    address: str
    session: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client sent in AUTH (RFC 4616 §2: authcid and passwd; authzid is not used)."""

    user: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Identity:
    """A client that may send. user: the name in the log; mailbox: the one that sends; login: what Entra ID is asked."""

    user: str
    mailbox: str
    login: Credentials = field(repr=False)
    fallback: bool = False  # the login is the relay's own, not the client's


def new_id() -> str:
    """A name for a session or a message, unlikely ever to come again: 16 hexadecimal digits."""
    return secrets.token_hex(8).upper()
