# SPDX-License-Identifier: MIT
"""Who may log in, with which mailbox, and write as whom: decisions from the configuration. Knows no SMTP, no Graph."""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Callable

from relay.config import ClientConfig, Config, Network, UserConfig
from relay.credentials import verify_password
from relay.identity import APP_LOGIN, Client, Credentials, Identity, parse_client_login


class LoginRequired(Exception):
    """A client without a login may not send. The text says why, for the log."""


class LoginRefused(Exception):
    """These credentials are none. The text says why, for the log."""


class Accounts:
    """Turns what a client says of itself into an Identity."""

    def __init__(self, config: Config, verify: Callable[[str, str], bool] = verify_password) -> None:
        """verify: password and hash → whether they fit; slow by design, so the caller may run it in a thread."""
        self._access = config.access
        self._accounts = config.accounts
        self._flow = config.entra.flow
        self._fallback = Credentials(config.access.fallback_user, config.access.fallback_password)
        self._users = LocalUsers(config.accounts.users, verify)

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
        if not _inside(client.address, self._access.anonymous_networks):
            raise LoginRequired("the client sends without a login and is not in anonymous_networks")
        policy = self._policy_for(client)
        if self._flow == "password":
            return self._fallback_identity(policy)
        if self._flow == "client_login":
            raise LoginRequired("flow client_login needs a login of every client")
        policy = policy or ClientConfig(mailbox=self._accounts.default_mailbox)
        return Identity(
            "",
            policy.mailbox or self._accounts.default_mailbox,
            APP_LOGIN,
            allowed_from=policy.allowed_from,
            allowed_recipients=policy.allowed_recipients,
        )

    def logged_in(self, credentials: Credentials, client: Client) -> Identity:
        """For AUTH. Unless there are local users, the password is for Entra ID to check. Raises LoginRefused."""
        if not credentials.user and not credentials.password and self._flow == "password":
            if not _inside(client.address, self._access.anonymous_networks):
                raise LoginRefused("empty login from a client that is not in anonymous_networks")
            try:
                return self._fallback_identity(self._policy_for(client))
            except LoginRequired:
                raise LoginRefused("empty login, and no fallback_smtp_user and fallback_smtp_pass") from None
        # Blanks around a name come from the menus of devices; whoever they reach would have to strip them alike.
        credentials = Credentials(credentials.user.strip(), credentials.password)
        if not credentials.user or not credentials.password:
            raise LoginRefused("the user name or the password is empty")
        if any(character < " " or character == "\x7f" for character in credentials.user):
            # With flow password it is the mailbox, and may stand in a From header.
            raise LoginRefused("the user name holds a line end or another control character")
        if self._flow == "password":
            return Identity(credentials.user, credentials.user, credentials)
        if self._flow == "client_login":
            return self._client_login(credentials)
        user = self._users.log_in(credentials)
        return Identity(user.username, user.mailbox, APP_LOGIN, allowed_from=user.allowed_from)

    def _policy_for(self, client: Client) -> ClientConfig | None:
        return next((entry for entry in self._accounts.clients if _inside(client.address, entry.network)), None)

    def _client_login(self, credentials: Credentials) -> Identity:
        """In one spelling, however the device writes the two IDs: their base64url form tells upper from lower case."""
        named = parse_client_login(credentials.user)
        if named is None:
            raise LoginRefused("the user name is not tenant_id@client_id")
        return Identity(credentials.user, "", Credentials("@".join(named), credentials.password))

    def _fallback_identity(self, policy: ClientConfig | None) -> Identity:
        if not self._fallback.user or not self._fallback.password:
            raise LoginRequired("allow_anonymous needs fallback_smtp_user and fallback_smtp_pass")
        return Identity(
            self._fallback.user,
            self._fallback.user,
            self._fallback,
            fallback=True,
            allowed_from=policy.allowed_from if policy else (),
            allowed_recipients=policy.allowed_recipients if policy else (),
        )


class LocalUsers:
    """The users of the configuration, with a small memory of good logins, since scrypt is slow by design."""

    def __init__(self, users: tuple[UserConfig, ...], verify: Callable[[str, str], bool]) -> None:
        self._users = {user.username.casefold(): user for user in users}
        self._verify = verify
        self._key = os.urandom(32)
        self._good: dict[str, bytes] = {}

    def log_in(self, credentials: Credentials) -> UserConfig:
        """The user with this name and password. Raises LoginRefused."""
        name = credentials.user.casefold()
        password = credentials.password.reveal()
        digest = hmac.digest(self._key, password.encode("utf-8", "surrogatepass"), "sha256")
        user = self._users.get(name)
        if not self._users:
            raise LoginRefused("there are no users")
        if user is not None and hmac.compare_digest(self._good.get(name, b""), digest):
            return user
        # A name that nobody has takes as long as a wrong password: it is checked against somebody's hash.
        somebody = user or next(iter(self._users.values()))
        fits = self._verify(password, somebody.password_hash.reveal())
        if user is None:
            raise LoginRefused("no such user in users")
        if not fits:
            raise LoginRefused("the password is wrong")
        self._good[name] = digest
        return user


def _inside(address: str, networks: tuple[Network, ...]) -> bool:
    if not networks:
        return False
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in networks if network.version == ip.version)
