# SPDX-License-Identifier: MIT
"""What a session is given: the backend that stands behind the protocol, and its share of the configuration."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from relay.identity import Client, Credentials, Identity
from relay.smtp import reply as replies
from relay.smtp.budget import Budget
from relay.smtp.envelope import Envelope
from relay.smtp.reply import Reply
from relay.spool import Octets
from relay.stats import Result


class Backend(Protocol):
    """What stands behind the protocol."""

    def authenticate(self, credentials: Credentials | None, client: Client) -> Identity:
        """Who this is; None asks for a client that did not log in. Raises Reject (530, 535, 454)."""
        ...

    def submit(
        self, envelope: Envelope, content: Octets, identity: Identity, client: Client, gone: Callable[[], bool]
    ) -> Reply:
        """Deliver, and say how it went. Never raises for what can happen. gone: has the client hung up by now?"""
        ...

    def answered(self, envelope: Envelope, client: Client, *, heard: bool) -> None:
        """Follows each submit(). heard: the client was there to take the reply."""
        ...


@dataclass(frozen=True)
class SessionSettings:
    """What one session needs to know of the configuration."""

    hostname: str
    max_message_bytes: int
    max_recipients: int
    tls: ssl.SSLContext | None = None
    budget: Budget = field(default_factory=lambda: Budget(sys.maxsize))
    tls_for_auth: bool = True  # where there is TLS: offer and accept AUTH only inside of it
    # Told of each message that is refused here, with the facts of its log line and its forward-paths.
    refused: Callable[[Result, Mapping[str, object], tuple[str, ...]], None] = lambda result, facts, paths: None

    def tls_missing(self, *, in_tls: bool) -> bool:
        """Whether AUTH has to wait for TLS."""
        return self.tls is not None and self.tls_for_auth and not in_tls

    # The same for every session, so each is made once.

    @cached_property
    def greeting(self) -> Reply:
        return replies.greeting(self.hostname)

    @cached_property
    def helo(self) -> Reply:
        return replies.helo(self.hostname)

    @cached_property
    def ehlo(self) -> Reply:
        return replies.ehlo(self.hostname, self._extensions(in_tls=False))

    @cached_property
    def ehlo_in_tls(self) -> Reply:
        return replies.ehlo(self.hostname, self._extensions(in_tls=True))

    def _extensions(self, *, in_tls: bool) -> tuple[str, ...]:
        extensions = [
            "PIPELINING",
            f"SIZE {self.max_message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            "ENHANCEDSTATUSCODES",
        ]
        if self.tls is not None and not in_tls:
            extensions.append("STARTTLS")
        if not self.tls_missing(in_tls=in_tls):
            # The second form is what clients from before RFC 2554 look for.
            extensions += ("AUTH PLAIN LOGIN", "AUTH=PLAIN LOGIN")
        return tuple(extensions)
