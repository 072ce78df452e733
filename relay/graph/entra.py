# SPDX-License-Identifier: MIT
"""The ways to a token: msal behind acquire(login), one class a flow. Keeps nothing: tokens.py is the cache.

What msal raises or answers is turned into graph/errors.py here. Its texts are never passed on, since they can quote.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import msal
import requests

from relay.config import EntraConfig
from relay.credentials import Secret
from relay.graph.aadsts import token_error
from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable
from relay.identity import Credentials

Guard = Callable[[float], AbstractContextManager[Any]]

_BRAKE = "429/5xx/Retry-After"  # how msal's keys for that end
_MOST_APPLICATIONS = 256  # of client_login, each some 100 KiB


class Granted(NamedTuple):
    token: Secret
    expires_in_s: float


class PasswordFlow:
    """A user's own name and password (RFC 6749 §4.3, "ROPC")."""

    def __init__(self, config: EntraConfig, http_client: Any, guard: Guard) -> None:
        """http_client: for msal; see http.py. guard: bounds a call as a whole, raising TimeoutError."""
        self._config = config
        self._application = _Application(config, http_client)
        self._guard = guard

    def acquire(self, login: Credentials, timeout_s: float) -> Granted:
        """Ask Entra ID. Raises TokenError."""

        def ask(application: Any) -> Any:
            return application.acquire_token_by_username_password(
                login.user, login.password.reveal(), scopes=list(self._config.scopes)
            )

        return self._application.acquire(ask, self._guard, timeout_s, by_password=True)


class AppFlow:
    """The app itself, by secret or certificate (RFC 6749 §4.4)."""

    def __init__(self, config: EntraConfig, http_client: Any, guard: Guard) -> None:
        self._config = config
        self._application = _Application(config, http_client)
        self._guard = guard

    def acquire(self, login: Credentials, timeout_s: float) -> Granted:
        """Ask Entra ID; there is one token for whoever logs in. Raises TokenError."""

        def ask(application: Any) -> Any:
            return application.acquire_token_for_client(scopes=list(self._config.scopes))

        return self._application.acquire(ask, self._guard, timeout_s)


class ManagedIdentityFlow:
    """The identity that Azure gives to the machine: system-assigned, or user-assigned by client_id."""

    def __init__(self, config: EntraConfig, http_client: Any, guard: Guard) -> None:
        """Raises AppMisconfigured when the installed msal knows no managed identities (before 1.29)."""
        if not hasattr(msal, "ManagedIdentityClient"):
            raise AppMisconfigured("flow managed_identity needs msal 1.29 or newer")
        self._resource = config.scopes[0].removesuffix("/.default")
        self._guard = guard
        identity = (
            msal.UserAssignedManagedIdentity(client_id=config.client_id)
            if config.client_id
            else msal.SystemAssignedManagedIdentity()
        )
        self._client = msal.ManagedIdentityClient(identity, http_client=http_client, token_cache=_NoCache())

    def acquire(self, login: Credentials, timeout_s: float) -> Granted:
        """Ask the machine's identity endpoint. Raises TokenError."""

        def ask(client: Any) -> Any:
            return client.acquire_token_for_client(resource=self._resource)

        try:
            return _granted(_answer(lambda: ask(self._client), self._guard, timeout_s))
        except CredentialsRefused as fault:  # nobody logged in with anything
            raise AppMisconfigured(
                "the machine's managed identity was refused; assign one, or check client_id", fault.entra_code
            ) from None


class ClientLoginFlow:
    """A login of the form tenant_id@client_id with the client secret as password: many tenants, no secret here."""

    def __init__(self, config: EntraConfig, http_client: Any, guard: Guard) -> None:
        self._config = config
        self._http_client = http_client
        self._guard = guard
        self._applications: OrderedDict[tuple[str, str, str], _Application] = OrderedDict()

    def acquire(self, login: Credentials, timeout_s: float) -> Granted:
        """Ask Entra ID. Raises TokenError; tenant, app and secret are the device's own, so it is told of them."""
        named = parse_client_login(login.user)
        if named is None:
            raise CredentialsRefused("the user name is not tenant_id@client_id")
        application = self._application(*named, login.password)
        try:
            return application.acquire(
                lambda app: app.acquire_token_for_client(scopes=list(self._config.scopes)), self._guard, timeout_s
            )
        except AppMisconfigured as fault:
            raise CredentialsRefused(fault.advice, fault.entra_code) from None

    def _application(self, tenant_id: str, client_id: str, secret: Secret) -> _Application:
        key = (tenant_id, client_id, secret.reveal())
        application = self._applications.pop(key, None)
        if application is None:
            config = EntraConfig(
                client_id=client_id,
                client_secret=secret,
                tenant_id=tenant_id,
                authority=self._config.authority,
                scopes=self._config.scopes,
            )
            application = _Application(config, self._http_client)
        self._applications[key] = application
        while len(self._applications) > _MOST_APPLICATIONS:
            self._applications.popitem(last=False)
        return application


Flow = PasswordFlow | AppFlow | ManagedIdentityFlow | ClientLoginFlow
_FLOWS: Mapping[str, type[Flow]] = {
    "password": PasswordFlow,
    "client_credentials": AppFlow,
    "managed_identity": ManagedIdentityFlow,
    "client_login": ClientLoginFlow,
}


def flow_of(config: EntraConfig, http_client: Any, guard: Guard) -> Flow:
    """The flow that the configuration names. Raises AppMisconfigured."""
    return _FLOWS[config.flow](config, http_client, guard)


_UUID = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}|[A-Za-z0-9_-]{22}"
_CLIENT_LOGIN = re.compile(rf"(?P<tenant>{_UUID})[@:|](?P<client>{_UUID})(?:\..*)?")


def parse_client_login(user: str) -> tuple[str, str] | None:
    """Tenant and client ID of `tenant_id@client_id`, as long UUIDs; None when it is none.

    Both may be base64url of the UUID's 16 octets (22 characters), since the fields of devices are short; `:` and `|`
    also part them, and a `.suffix` is ignored.
    """
    match = _CLIENT_LOGIN.fullmatch(user.strip())
    if match is None:
        return None
    tenant, client = _long_uuid(match["tenant"]), _long_uuid(match["client"])
    return (tenant, client) if tenant and client else None


def _long_uuid(text: str) -> str:
    if len(text) == 36:
        return text.lower()
    try:
        return str(uuid.UUID(bytes=base64.urlsafe_b64decode(text + "==")))
    except (ValueError, binascii.Error):
        return ""


class _Application:
    """msal's application, built at the first use: its constructor asks the network, which may be down before."""

    def __init__(self, config: EntraConfig, http_client: Any) -> None:
        self._config = config
        self._http_client = http_client
        self._lock = threading.Lock()
        self._built: Any = None

    def acquire(
        self, ask: Callable[[Any], Any], guard: Guard, timeout_s: float, *, by_password: bool = False
    ) -> Granted:
        """What ask gets from the application. Raises TokenError."""
        try:
            return _granted(_answer(lambda: ask(self._application()), guard, timeout_s, by_password=by_password))
        except AppMisconfigured:
            self._built = None  # it is built anew once the fault is mended
            raise

    def _application(self) -> Any:
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    def _build(self) -> Any:
        config = self._config
        try:
            return msal.ConfidentialClientApplication(
                config.client_id,
                client_credential=_client_credential(config),
                authority=f"{config.authority}/{config.tenant_id}",
                instance_discovery=None if _is_microsofts(config.authority) else False,
                http_client=self._http_client,
                http_cache=_HttpCache(),
                token_cache=_NoCache(),
            )
        except ValueError:
            raise AppMisconfigured(
                "Entra ID knows no such tenant; check oauth2_config.tenant_id and authority"
            ) from None


class _HttpCache(dict[str, Any]):
    """msal's memory of answers, without its brake: that holds one user's 429 or 5xx against every user of the app."""

    def __setitem__(self, key: str, value: Any) -> None:
        if not key.endswith(_BRAKE):
            super().__setitem__(key, value)


class _NoCache(msal.TokenCache):  # type: ignore[misc]
    """Keeps nothing: msal would hand out tokens without looking at the password, and grow with every user."""

    def add(self, event: dict[str, Any], now: float | None = None) -> None:
        """Forget it."""


def _client_credential(config: EntraConfig) -> Any:
    """What msal wants: the secret, or key, thumbprint and chain of the certificate (x5c)."""
    if not config.client_certificate:
        return config.client_secret.reveal()
    return certificate_credential(
        Path(config.client_certificate).read_bytes(), config.client_secret.reveal() if config.client_secret else ""
    )


def certificate_credential(pem: bytes, pass_phrase: str) -> dict[str, str]:
    """msal's client_credential from a PEM file with key and certificate. Raises ValueError, without contents."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    try:
        key = serialization.load_pem_private_key(pem, pass_phrase.encode() or None)
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError):
        raise ValueError("no private key and certificate in PEM form, or the pass phrase is wrong") from None
    plain_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "private_key": plain_key.decode("ascii"),
        "thumbprint": certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - a name, not a signature (x5t)
        "public_certificate": certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
    }


def _answer(ask: Callable[[], Any], guard: Guard, timeout_s: float, *, by_password: bool = False) -> Any:
    try:
        with guard(timeout_s):
            return ask()
    except (requests.RequestException, OSError) as fault:
        raise _unreachable(fault) from None
    except TokenError:
        raise
    except Exception as fault:  # msal raises many kinds: federated users, odd answers
        raise _msal_fault(fault, by_password) from None


def _granted(answer: Any) -> Granted:
    if not isinstance(answer, dict):
        raise TokenUnavailable("Entra ID gave no usable answer")
    token = answer.get("access_token")
    if not token:
        raise token_error(answer)
    try:
        lifetime_s = float(answer.get("expires_in", 0))
    except (TypeError, ValueError):
        lifetime_s = 0.0
    return Granted(Secret(str(token)), lifetime_s)


def _msal_fault(fault: Exception, by_password: bool) -> TokenError:
    kind = type(fault).__name__
    unreadable = isinstance(fault, json.JSONDecodeError)
    if by_password and isinstance(fault, ValueError | RuntimeError) and not unreadable:
        return CredentialsRefused(
            "the sign-in failed at a federated identity provider; flow password works with cloud accounts only", kind
        )
    if kind == "MsalServiceError":  # an HTTP status that is no OAuth answer
        return TokenUnavailable("Entra ID is busy or has failed; it recovers by itself", kind)
    return TokenUnavailable("Entra ID gave no usable answer; a proxy or firewall may stand in between", kind)


def _is_microsofts(authority: str) -> bool:
    return authority.removeprefix("https://") in msal.authority.WELL_KNOWN_AUTHORITY_HOSTS


def _unreachable(fault: Exception) -> TokenUnavailable:
    if isinstance(fault, requests.exceptions.SSLError):
        advice = "Entra ID's certificate is not trusted; if a proxy inspects TLS, put its CA into ca_bundle"
    elif isinstance(fault, requests.exceptions.ProxyError):
        advice = "the proxy refused or failed; check https_proxy"
    elif isinstance(fault, requests.Timeout | TimeoutError):
        advice = "Entra ID did not answer in time; check the network and https_proxy"
    else:
        advice = "Entra ID cannot be reached; check DNS, firewall and https_proxy"
    return TokenUnavailable(advice, type(fault).__name__)
