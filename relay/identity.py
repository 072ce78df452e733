# SPDX-License-Identifier: MIT
"""Who is at the other end of a connection, and who sends on their behalf. Shared by the SMTP and the Graph side."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import uuid
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.credentials import Secret
from relay.idn import comparable_domain


class Client(NamedTuple):
    """One connection. address: the client's IP address as text, IPv4-mapped IPv6 already unwrapped."""

    address: str
    session: str


class Credentials(NamedTuple):
    """What a client sent in AUTH (RFC 4616 §2: authcid and passwd; authzid is not used)."""

    user: str
    password: Secret


APP_LOGIN = Credentials("", Secret(""))
"""Stands for the app itself, where the app's token serves everybody."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A client that may send.

    user: the name in the log. mailbox: the one that sends; empty: that of the From address. login: what Entra ID is
    asked with. allowed_from, allowed_recipients: addresses, in which * is any text; empty allows any.
    """

    user: str
    mailbox: str
    login: Credentials = field(repr=False)
    fallback: bool = False  # the login is the relay's own, not the client's
    allowed_from: tuple[str, ...] = ()
    allowed_recipients: tuple[str, ...] = ()


def is_allowed(address: str, patterns: tuple[str, ...]) -> bool:
    """Whether an address is one of the patterns: addresses, in which * is any text; no patterns allow any.

    Case does not count, and an IDN domain may stand in either form on either side. No * reaches over the @.
    """
    if not patterns:
        return True
    wanted = _comparable(address)
    return any(all(map(_matches, wanted, _comparable(pattern))) for pattern in patterns)


def _comparable(address: str) -> tuple[str, str]:
    local, _, domain = address.rpartition("@")
    if "*" in domain:  # a pattern: what stands beside a * is no IDN
        return local.casefold(), ".".join(map(comparable_domain, domain.split(".")))
    return local.casefold(), comparable_domain(domain)


def _matches(text: str, pattern: str) -> bool:
    if "*" not in pattern:
        return text == pattern
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


_UUID = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}|[A-Za-z0-9_-]{22}(?:==)?"
_CLIENT_LOGIN = re.compile(rf"(?P<tenant>{_UUID})[@:|](?P<client>{_UUID})(?:\..*)?")


def parse_client_login(user: str) -> tuple[str, str] | None:
    """Tenant and client ID of `tenant_id@client_id`, as long UUIDs in lower case; None when it is none.

    Both may be base64url of the UUID's 16 octets (22 characters, and its padding or not: RFC 4648 §5), since the fields
    of devices are short; `:` and `|` also part them, and a `.suffix` is ignored.
    """
    match = _CLIENT_LOGIN.fullmatch(user.strip())
    return (_long_uuid(match["tenant"]), _long_uuid(match["client"])) if match else None


def _long_uuid(text: str) -> str:
    if len(text) == 36:
        return text.lower()
    return str(uuid.UUID(bytes=base64.urlsafe_b64decode(text[:22] + "==")))


def new_id() -> str:
    """A name for a session or a message, unlikely ever to come again: 16 hexadecimal digits."""
    return os.urandom(8).hex().upper()


def new_uuid() -> str:
    """A random UUID (RFC 9562 §5.4). uuid.uuid4() makes a number of it and that a text, which takes far longer."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def unmapped(address: str) -> str:
    """The IPv4 address inside an IPv4-mapped IPv6 one, however written; anything else as it is, but for a zone."""
    address = address.partition("%")[0]
    if not address.lower().startswith("::ffff:"):
        return address
    mapped = ipaddress.IPv6Address(address).ipv4_mapped
    return address if mapped is None else str(mapped)
