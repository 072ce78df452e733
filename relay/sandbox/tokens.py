# SPDX-License-Identifier: MIT
"""The access tokens that were given out: what Entra ID's side and Graph's side share. Knows neither of them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

from relay.clock import Clock

_TIDY_FROM = 10_000


@dataclass(frozen=True, slots=True)
class Token:
    """What an access token stands for. user is empty in an application's own token."""

    user: str
    permissions: frozenset[str]
    expires_at: float  # on the monotonic clock
    user_id: str = ""


class Tokens:
    """The access tokens that are out there. Written by Entra's side, read by Graph's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: dict[str, Token] = {}

    def add(self, value: str, token: Token) -> None:
        now = self._clock.monotonic()
        if len(self._tokens) >= _TIDY_FROM:
            self._tokens = {key: item for key, item in self._tokens.items() if item.expires_at > now}
        self._tokens[value] = token

    def find(self, value: str) -> Token | None:
        """What it stands for; None for one that was never given out, or was revoked."""
        return self._tokens.get(value)

    def is_expired(self, token: Token) -> bool:
        return token.expires_at <= self._clock.monotonic()

    def revoke_all(self) -> None:
        self._tokens.clear()


def object_id(user: str) -> str:
    """The directory's id of a user: always the same for the same login."""
    return str(uuid5(NAMESPACE_URL, "user:" + user.casefold()))
