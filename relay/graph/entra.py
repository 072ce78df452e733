# SPDX-License-Identifier: MIT
"""The ways to a token: msal behind acquire(login), one class a flow. Keeps nothing: tokens.py is the cache.

What msal raises or answers is turned into graph/errors.py here. Its texts are never passed on, since they can quote.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

import msal
import requests

from relay.clientcert import BadCertificate, read_client_certificate
from relay.config import EntraConfig
from relay.credentials import Secret
from relay.graph.aadsts import SECRET_REFUSED, token_error
from relay.graph.errors import FEDERATED, AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable
from relay.graph.http import PROVIDER_FAILED, UsersHttpClient, retry_after
from relay.identity import Credentials, parse_client_login

log = logging.getLogger(__name__)

Guard = Callable[[float], AbstractContextManager[Any]]

_BRAKES = ("429/5xx/Retry-After", " 400")  # how msal's keys for refusals end
_NO_IDENTITY = (
    "the machine has no such managed identity; assign one in Azure, and check oauth2_config.client_id and scopes"
)
_NO_ENDPOINT = (
    "the machine's identity endpoint gave no usable answer; flow managed_identity works in Azure and on Azure Arc only"
)
_BOTH_REFUSED = (
    "both client secrets are refused (wrong or expired); make a new one and put it into oauth2_config.client_secret"
)
_ORDINALS = ("first", "second")
_BUSY = "Entra ID is busy or has failed; it recovers by itself"
_UNREADABLE = "Entra ID gave no usable answer; a proxy or firewall may stand in between"
_NO_TENANT = "Entra ID knows no tenant with the ID that the user name begins with"
# What a device says wrong in flow client_login: tenant, app, secret. Consent, scopes and cloud are not its matter.
_LOGINS_FAULT: Mapping[str, str] = {
    "": _NO_TENANT,  # msal looks for it first, and says no more
    "AADSTS90002": _NO_TENANT,
    "AADSTS50059": _NO_TENANT,
    "AADSTS50128": _NO_TENANT,
    "AADSTS700016": "the tenant has no app with the ID in the user name",
    "AADSTS7000112": "the app in the user name is disabled; enable it in Entra ID",
    "AADSTS7000215": "the password is no client secret of that app; it has to be the secret's value, not its ID",
    "AADSTS7000222": "the password is a client secret that has expired; make a new one and enter it in the device",
    "invalid_client": "Entra ID refused the app in the user name with this password",
}
_MOST_APPLICATIONS = 256  # of client_login, each some 100 KiB


class Granted(NamedTuple):
    token: Secret
    expires_in_s: float


class PasswordFlow:
    """A user's own name and password (RFC 6749 §4.3, "ROPC")."""

    def __init__(self, config: EntraConfig, http_client: Any, guard: Guard) -> None:
        """http_client: for msal; see http.py. guard: bounds a call as a whole, raising TimeoutError."""
        self._config = config
        self._application = _Application(config, UsersHttpClient(http_client, config.authority))
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
        """Ask Entra ID; there is one token for whoever logs in. Raises AppMisconfigured, TokenUnavailable."""

        def ask(application: Any) -> Any:
            return application.acquire_token_for_client(scopes=list(self._config.scopes))

        try:
            return self._application.acquire(ask, self._guard, timeout_s)
        except CredentialsRefused as fault:  # conditional access holds for apps too, and no device is at fault
            raise AppMisconfigured(fault.advice, fault.entra_code) from None


class ManagedIdentityFlow:
    """The identity that Azure gives to the machine: system-assigned, or user-assigned by client_id."""

    def __init__(self, config: EntraConfig, http_client: Any, guard: Guard) -> None:
        """Raises AppMisconfigured when the installed msal knows no managed identities (before 1.29)."""
        if not hasattr(msal, "ManagedIdentityClient"):
            raise AppMisconfigured("flow managed_identity needs the Python package msal in version 1.29 or newer")
        self._resource = config.scopes[0].removesuffix("/.default")
        self._guard = guard
        identity = (
            msal.UserAssignedManagedIdentity(client_id=config.client_id)
            if config.client_id
            else msal.SystemAssignedManagedIdentity()
        )
        self._client = msal.ManagedIdentityClient(identity, http_client=http_client, token_cache=_NoCache())

    def acquire(self, login: Credentials, timeout_s: float) -> Granted:
        """Ask the machine's identity endpoint. Raises AppMisconfigured, TokenUnavailable."""

        def ask() -> Any:
            return self._client.acquire_token_for_client(resource=self._resource)

        try:
            return _granted(_answer(ask, self._guard, timeout_s))
        except (AppMisconfigured, CredentialsRefused) as fault:
            raise AppMisconfigured(_NO_IDENTITY, fault.entra_code) from None
        except TokenUnavailable as fault:
            raise TokenUnavailable(_NO_ENDPOINT, fault.entra_code, fault.retry_after_s) from None


class ClientLoginFlow:
    """A login of the form tenant_id@client_id with the client secret as password: many tenants, no secret here."""

    def __init__(self, config: EntraConfig, http_client: Any, guard: Guard) -> None:
        self._config = config
        self._http_client = http_client
        self._guard = guard
        self._applications: OrderedDict[tuple[str, str, str], _Application] = OrderedDict()

    def acquire(self, login: Credentials, timeout_s: float) -> Granted:
        """Ask Entra ID. Raises TokenError; CredentialsRefused where the device's own login is at fault."""
        named = parse_client_login(login.user)
        if named is None:
            raise CredentialsRefused("the user name is not tenant_id@client_id")
        application = self._application(*named, login.password)
        try:
            return application.acquire(
                lambda app: app.acquire_token_for_client(scopes=list(self._config.scopes)), self._guard, timeout_s
            )
        except AppMisconfigured as fault:
            if fault.entra_code not in _LOGINS_FAULT:
                raise
            raise CredentialsRefused(_LOGINS_FAULT[fault.entra_code], fault.entra_code) from None

    def _application(self, tenant_id: str, client_id: str, secret: Secret) -> _Application:
        key = (tenant_id, client_id, secret.reveal())
        application = self._applications.pop(key, None)
        if application is None:
            config = EntraConfig(
                client_id=client_id,
                client_secrets=(secret,),
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


class _Application:
    """msal's application, built at the first use: its constructor asks the network, which may be down before.

    Of two secrets each has its own; the one that works stays in use until Entra ID refuses it.
    """

    def __init__(self, config: EntraConfig, http_client: Any) -> None:
        self._config = config
        self._http_client = http_client
        self._lock = threading.Lock()
        self._built: dict[int, Any] = {}  # by the secret's place in the list
        self._has_two = len(config.client_secrets) > 1 and not config.client_certificate
        self._used = 0

    def acquire(
        self, ask: Callable[[Any], Any], guard: Guard, timeout_s: float, *, by_password: bool = False
    ) -> Granted:
        """What ask gets from the application. Raises TokenError."""
        try:
            return _granted(_answer(lambda: self._ask(ask), guard, timeout_s, by_password=by_password))
        except TokenError as fault:
            if isinstance(fault, AppMisconfigured) or not fault.entra_code.startswith("AADSTS"):
                self._built = {}  # it remembers tenant, certificate and user realm: a proxy's page, or mended by now
            raise

    def _ask(self, ask: Callable[[Any], Any]) -> Any:
        """The answer by the secret in use or, where Entra ID refuses that, by the other one."""
        used = self._used
        answer = ask(self._application(used))
        if not (self._has_two and _refuses_secret(answer)):
            return answer
        other = 1 - used
        second = ask(self._application(other))
        if _refuses_secret(second):
            raise AppMisconfigured(_BOTH_REFUSED, token_error(second).entra_code)
        if self._used == used and isinstance(second, dict) and second.get("access_token"):
            self._used = other
            reason = (
                f"the {_ORDINALS[used]} client_secret is refused (expired or wrong); the {_ORDINALS[other]} works: "
                f"renew the {_ORDINALS[used]} in oauth2_config.client_secret"
            )
            log.warning("client_secret_refused", extra={"entra_code": token_error(answer).entra_code, "reason": reason})
        return second

    def _application(self, number: int) -> Any:
        with self._lock:
            if number not in self._built:
                self._built[number] = self._build(number)
            return self._built[number]

    def _build(self, number: int) -> Any:
        config = self._config
        credential = _client_credential(config, number)
        try:
            return msal.ConfidentialClientApplication(
                config.client_id,
                client_credential=credential,
                authority=f"{config.authority}/{config.tenant_id}",
                instance_discovery=None if _is_microsofts(config.authority) else False,
                http_client=self._http_client,
                http_cache=_HttpCache(),
                token_cache=_NoCache(),
            )
        except RuntimeError as fault:  # neither a page nor a refusal, such as a redirect to a portal
            raise TokenUnavailable(_UNREADABLE, type(fault).__name__) from None
        except ValueError as fault:
            cause = fault.__context__
            if isinstance(cause, json.JSONDecodeError):  # a proxy's page, and no tenant's fault
                raise TokenUnavailable(_UNREADABLE) from None
            if isinstance(cause, requests.RequestException):  # some of them are ValueErrors: nobody was asked
                raise _unreachable(cause) from None
            raise AppMisconfigured(
                "Entra ID knows no such tenant; check oauth2_config.tenant_id and authority"
            ) from None


class _HttpCache(dict[str, Any]):
    """msal's memory of answers, without its brakes: for whom and how long a refusal holds is tokens.py's matter.

    msal's own would hold one user's 429 or 5xx against every user of the app, and any 400 for a minute, although most
    of them pass by themselves or can be mended.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if not key.endswith(_BRAKES):
            super().__setitem__(key, value)


class _NoCache(msal.TokenCache):  # type: ignore[misc]
    """Keeps nothing: msal would hand out tokens without looking at the password, and grow with every user."""

    def add(self, event: dict[str, Any], now: float | None = None) -> None:
        """Forget it."""


def _client_credential(config: EntraConfig, number: int) -> Any:
    """What msal wants: a secret, or key, thumbprint and chain of the certificate (x5c). Raises AppMisconfigured."""
    secret = config.client_secrets[number].reveal() if config.client_secrets else ""
    if not config.client_certificate:
        return secret
    try:
        pem = Path(config.client_certificate).read_bytes()
        found = read_client_certificate(pem, secret)
    except OSError as fault:
        raise AppMisconfigured(f"oauth2_config.client_certificate cannot be read: {fault.strerror}") from None
    except BadCertificate as fault:
        raise AppMisconfigured(f"oauth2_config.client_certificate: {fault}") from None
    return {"private_key": found.key, "thumbprint": found.thumbprint, "public_certificate": found.chain}


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
    return Granted(Secret(str(token)), lifetime_s if math.isfinite(lifetime_s) else 0.0)


def _refuses_secret(answer: Any) -> bool:
    if not isinstance(answer, dict) or answer.get("access_token"):
        return False
    return token_error(answer).entra_code in SECRET_REFUSED


def _msal_fault(fault: Exception, by_password: bool) -> TokenError:
    kind = type(fault).__name__
    unreadable = isinstance(fault, json.JSONDecodeError | RecursionError)
    if by_password and isinstance(fault, ValueError | RuntimeError) and not unreadable:
        return CredentialsRefused(
            "the sign-in failed at a federated identity provider; flow password works with cloud accounts only", kind
        )
    if isinstance(fault, ParseError):  # of XML, which only a federated domain's identity provider speaks
        return TokenUnavailable(PROVIDER_FAILED, FEDERATED)
    if kind == "MsalServiceError":  # an HTTP status that is no OAuth answer
        return TokenUnavailable(_BUSY, kind)
    return TokenUnavailable(_UNREADABLE, kind)


def _is_microsofts(authority: str) -> bool:
    return authority.removeprefix("https://") in msal.authority.WELL_KNOWN_AUTHORITY_HOSTS


def _unreachable(fault: Exception) -> TokenUnavailable:
    retry_after_s = None
    if isinstance(fault, requests.HTTPError):
        advice = _BUSY
        if fault.response is not None:
            retry_after_s = retry_after(fault.response.headers.get("Retry-After"))
    elif isinstance(fault, requests.exceptions.SSLError):
        advice = "Entra ID's certificate is not trusted; if a proxy inspects TLS, put its CA into ca_bundle"
    elif isinstance(fault, requests.exceptions.ProxyError):
        advice = "the proxy refused or failed; check https_proxy"
    elif isinstance(fault, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        advice = "the proxy's address cannot be used; https_proxy, or HTTPS_PROXY of the environment, must be http://HOST:PORT"
    elif isinstance(fault, requests.Timeout | TimeoutError):
        advice = "Entra ID did not answer in time; check the network and https_proxy"
    else:
        advice = "Entra ID cannot be reached; check DNS, firewall and https_proxy"
    return TokenUnavailable(advice, type(fault).__name__, retry_after_s)
