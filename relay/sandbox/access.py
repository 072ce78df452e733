# SPDX-License-Identifier: MIT
"""Whose token a request bears and which mailbox it may touch. Knows permissions, and nothing of mail."""

from __future__ import annotations

from relay.clock import Clock
from relay.sandbox.model import Request, SandboxSettings
from relay.sandbox.schema import GraphError
from relay.sandbox.tokens import Token, Tokens


class Access:
    """The gate of one tenant's Graph."""

    def __init__(self, settings: SandboxSettings, tokens: Tokens, clock: Clock) -> None:
        self._settings = settings
        self._tokens = tokens
        self._clock = clock

    def token_user(self, request: Request) -> str:
        """The login behind a request's token, valid or not any more; empty if none."""
        token = self._tokens.find(_bearer(request) or "")
        return token.user if token else ""

    def authenticated(self, request: Request) -> Token:
        """The valid token that it bears."""
        value = _bearer(request)
        if not value:
            raise GraphError(401, "InvalidAuthenticationToken", "Access token is empty.")
        token = self._tokens.find(value)
        if token is None:
            text = "Access token validation failure. Invalid audience, signature or a revoked grant."
            raise GraphError(401, "InvalidAuthenticationToken", text)
        if self._tokens.is_expired(token):
            text = "Lifetime validation failed, the token is expired."
            raise GraphError(401, "InvalidAuthenticationToken", text)
        return token

    def mailbox(self, request: Request, token: Token, *permissions: str) -> str:
        """The mailbox in the path, if this token has one of these permissions for it.

        A delegated token needs the `.Shared` kind of a permission for any mailbox but the user's own.
        """
        if not token.permissions & {*permissions, *(f"{name}.Shared" for name in permissions)}:
            raise _denied()
        if request.segments[1] == "me":
            if not token.user:
                raise GraphError(400, "BadRequest", "/me request is only valid with delegated authentication flow.")
            mailbox = token.user
        else:
            mailbox = request.segments[2]
        known = self._settings.mailboxes
        is_own = self.is_own(token, mailbox)
        owner = token.user if is_own else mailbox
        if not mailbox or (known is not None and owner.casefold() not in {item.casefold() for item in known}):
            raise GraphError(404, "ErrorInvalidUser", "The requested user is invalid.")
        ending = "" if is_own or not token.user else ".Shared"
        if not token.permissions & {name + ending for name in permissions}:
            raise _denied()
        return mailbox

    def is_own(self, token: Token, mailbox: str) -> bool:
        """Whether it is the mailbox of the user who signed in."""
        return bool(token.user) and mailbox.casefold() in (token.user.casefold(), token.user_id)


def _denied() -> GraphError:
    return GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")


def _bearer(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None
