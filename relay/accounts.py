# SPDX-License-Identifier: MIT
"""Who may log in, with which mailbox. Pure decisions from the configuration: knows no SMTP and no Graph."""

from __future__ import annotations

import ipaddress

from relay.config import AccessConfig, Network
from relay.identity import Client, Credentials, Identity


class LoginRequired(Exception):
    """A client without a login may not send. The text says why, for the log."""


class LoginRefused(Exception):
    """These credentials are none, whatever Entra ID would say. The text says why, for the log."""


class Accounts:
    """Turns what a client says of itself into an Identity."""

    def __init__(self, access: AccessConfig) -> None:
        self._access = access
        self._fallback = Credentials(access.fallback_user, access.fallback_password)

    def admits(self, address: str) -> bool:
        """Whether a client of this address may connect (allowed_networks)."""
        return not self._access.allowed_networks or _inside(address, self._access.allowed_networks)

    def speaks_proxy(self, address: str) -> bool:
        """Whether connections from there begin with a PROXY header (proxy_protocol_networks)."""
        return _inside(address, self._access.proxy_protocol_networks)

    def ends_lines_with_lf(self, address: str) -> bool:
        """Whether this client may end lines of its mail data with a bare LF (bare_lf_networks)."""
        return _inside(address, self._access.bare_lf_networks)

    def anonymous(self, client: Client) -> Identity:
        """For MAIL without AUTH. Raises LoginRequired."""
        if not self._access.allow_anonymous:
            raise LoginRequired("the client sends without a login; allow_anonymous is off")
        if not self._has_fallback():
            raise LoginRequired("allow_anonymous needs fallback_smtp_user and fallback_smtp_pass")
        if not _inside(client.address, self._access.anonymous_networks):
            raise LoginRequired("the client sends without a login and is not in anonymous_networks")
        return self._fallback_identity()

    def logged_in(self, credentials: Credentials, client: Client) -> Identity:
        """For AUTH; whether the password is right is for the token to tell. Raises LoginRefused."""
        if not credentials.user and not credentials.password:
            if not self._has_fallback():
                raise LoginRefused("empty login, and no fallback_smtp_user and fallback_smtp_pass")
            if not _inside(client.address, self._access.anonymous_networks):
                raise LoginRefused("empty login from a client that is not in anonymous_networks")
            return self._fallback_identity()
        if not credentials.user or not credentials.password:
            raise LoginRefused("the user name or the password is empty")
        return Identity(credentials.user, credentials.user, credentials)

    def _has_fallback(self) -> bool:
        return bool(self._fallback.user and self._fallback.password)

    def _fallback_identity(self) -> Identity:
        return Identity(self._fallback.user, self._fallback.user, self._fallback, fallback=True)


def _inside(address: str, networks: tuple[Network, ...]) -> bool:
    if not networks:
        return False
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in networks if network.version == ip.version)
