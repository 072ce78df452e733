# SPDX-License-Identifier: MIT
"""The backend behind the SMTP session, in memory: it knows a few logins and keeps what is submitted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from relay.credentials import Secret
from relay.identity import Client, Credentials, Identity
from relay.smtp import reply as replies
from relay.smtp.envelope import Envelope
from relay.smtp.reply import Reject, Reply

USER, PASSWORD = "scanner", "Pr0ject-Schlüssel"
UPSTREAM_DOWN = "unreachable"  # a user name for which Entra ID cannot be asked
CLIENT = Client("192.0.2.7", "SESSION1")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one submit() got."""

    envelope: Envelope
    content: bytes
    identity: Identity
    client: Client

    @property
    def paths(self) -> list[str]:
        """Reverse-path, then forward-paths."""
        return [self.envelope.reverse_path, *self.envelope.forward_paths]


class MemoryBackend:
    """outcomes: replies to the next messages; when there are none left, 250. allowed_…: of every identity."""

    def __init__(
        self,
        *,
        anonymous: bool = False,
        allowed_from: tuple[str, ...] = (),
        allowed_recipients: tuple[str, ...] = (),
    ) -> None:
        self.anonymous = anonymous
        self._allowed = {"allowed_from": allowed_from, "allowed_recipients": allowed_recipients}
        self.logins: list[Credentials | None] = []
        self.outcomes: deque[Reply | Exception] = deque()
        self.deliveries: list[Delivery] = []
        self.heard: list[bool] = []  # of each reply to a message: whether the client was there to take it

    def authenticate(self, credentials: Credentials | None, client: Client) -> Identity:
        self.logins.append(credentials)
        if credentials is None:
            if not self.anonymous:
                raise Reject(replies.AUTH_REQUIRED)
            login = Credentials("fallback", Secret("x"))
            return Identity("fallback", "fallback@example.com", login, fallback=True, **self._allowed)
        if credentials.user == UPSTREAM_DOWN:
            raise Reject(replies.AUTH_UNAVAILABLE)
        if (credentials.user, credentials.password.reveal()) != (USER, PASSWORD):
            raise Reject(replies.AUTH_REFUSED)
        return Identity(credentials.user, "scanner@example.com", credentials, **self._allowed)

    def answered(self, envelope: Envelope, client: Client, *, heard: bool) -> None:
        assert client is self.deliveries[-1].client
        self.heard.append(heard)

    def submit(
        self, envelope: Envelope, content: bytes, identity: Identity, client: Client, gone: Callable[[], bool]
    ) -> Reply:
        self.deliveries.append(Delivery(envelope, content, identity, client))
        outcome = self.outcomes.popleft() if self.outcomes else replies.queued("MESSAGE1")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
