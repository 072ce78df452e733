# SPDX-License-Identifier: MIT
"""The pooled HTTP sessions to Entra ID and Graph: TLS verified, proxy settled once, no request without timeouts."""

from __future__ import annotations

import http.client
import math
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

from relay.graph.direct import DirectConnections
from relay.graph.errors import FEDERATED, TokenUnavailable

CONNECT_TIMEOUT_S = 10.0
ENTRA_READ_TIMEOUT_S = 20.0
PROVIDER_FAILED = "the identity provider of this user's domain cannot be reached, or has failed"
_ENTRAS_OWN = ("/oauth2/", "/.well-known/")  # what its own addresses hold, on whatever host a cloud has them


# A firewall forgets a connection that rests, and says nothing: the next request would run into its timeout, and the
# message might have gone. Probes keep it in memory, or end the connection, which the pool then sees and drops.
_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 45), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)  # by the system
]
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # urllib3's own default, which ours replace


Observe = Callable[[int, float], None]


def http_session(
    url: str, connections: int, https_proxy: str, ca_bundle: str, observe: Observe = lambda status, seconds: None
) -> requests.Session:
    """A Session for one service at this url, with as many kept connections as may be in use at a time.

    What requests would look up for every call (environment, proxies, netrc) is looked up here, once. A proxy is for
    https alone: what is asked without TLS is on this machine (an identity endpoint of Azure, a stand-in on loopback).
    observe: told the status of each request's answer, 0 for none, and how long it took to come.
    """
    session = _Session()
    proxy = https_proxy or requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if proxy and url.startswith("https:"):
        session.proxies["https"] = proxy
    session.trust_env = False  # else netrc, and REQUESTS_CA_BUNDLE over verify
    session.verify = ca_bundle or True
    # A plain dict, which is copied for each request in a twentieth of the time.
    session.headers = {"User-Agent": "graph-smtp-relay", "Accept": "application/json"}
    adapter = _ObservedAdapter(observe, ca_bundle, pool_connections=4, pool_maxsize=connections, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def retry_after(value: str | None) -> float | None:
    """The seconds of a Retry-After field: a number or a date (RFC 9110 §10.2.3). None for anything else."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            # The oldest of the three forms (RFC 9110 §5.6.7) names no zone; all of them are UTC.
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


class _Session(requests.Session):
    """Without what requests does around each request, which took as long as a tenth of a message.

    Proxies are settled, and nothing here has hooks. No cookie is kept, since one user's are none of the next one's; and
    no redirect is followed, since a token goes to nobody else.
    """

    def send(
        self,
        request: requests.PreparedRequest,
        *,
        stream: bool | None = False,
        timeout: Any = None,
        verify: Any = None,
        proxies: Any = None,
        **options: Any,
    ) -> requests.Response:
        if verify is None:
            verify = self.verify
        response = self.get_adapter(request.url or "").send(
            request,
            stream=bool(stream),
            timeout=timeout,
            verify=verify,
            proxies=self.proxies if proxies is None else proxies,
        )
        if not stream:
            _ = response.content  # reads it to its end
        return response


class _FinalResponse(http.client.HTTPResponse):
    """The answer behind all interim ones (RFC 9110 §15.2): http.client would take a 103 for it, and a 202 be lost."""

    def begin(self) -> None:
        super().begin()
        while self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # by which it knows that nothing was read yet
            super().begin()


class _ProxiedConnection(HTTPSConnection):
    response_class = _FinalResponse


class _ProxiedPool(HTTPSConnectionPool):
    ConnectionCls = _ProxiedConnection


class _ObservedAdapter(HTTPAdapter):
    """Times each request, up to its answer. Connections are probed while they rest (TCP keep-alive).

    Where a proxy stands between, urllib3 does it all; else direct.py.
    """

    def __init__(self, observe: Observe, ca_bundle: str, **settings: Any) -> None:
        self._observe = observe
        self._direct = DirectConnections(ca_bundle, settings["pool_maxsize"], (_NO_DELAY, *_KEEP_ALIVE))
        super().__init__(**settings)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options, socket_options=[_NO_DELAY, *_KEEP_ALIVE])
        if manager.pool_classes_by_scheme["https"] is HTTPSConnectionPool:  # SOCKS has a pool of its own
            manager.pool_classes_by_scheme = {"https": _ProxiedPool}  # nothing else goes through a proxy
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        began = time.perf_counter()
        status = 0
        try:
            if proxies:
                response = super().send(request, stream, timeout, verify, cert, proxies)
            else:
                response = self._direct.send(request, *timeout)
            status = response.status_code
            return response
        finally:
            self._observe(status, time.perf_counter() - began)

    def close(self) -> None:
        self._direct.close()
        super().close()


class EntraHttpClient:
    """What msal asks for as http_client. Adds the timeouts that msal does not set on a session of ours.

    msal asks the user realm on the authority's bare host name and puts the user name into the path as it is; the port
    is put back here, and the name quoted, so that no user name reaches another path. A header field that repeats the
    name, as a hint for routing, is left out where a field cannot hold it (X-AnchorMailbox).
    """

    def __init__(self, session: requests.Session, authority: str) -> None:
        self._session = session
        self._authority = authority
        self._bare_host = f"https://{urlsplit(authority).hostname}/"

    def post(
        self, url: str, params: Any = None, data: Any = None, headers: Any = None, **more: Any
    ) -> requests.Response:
        """A form to the token endpoint."""
        return self._request("POST", url, params, data, headers)

    def get(self, url: str, params: Any = None, headers: Any = None, **more: Any) -> requests.Response:
        """Discovery, and the user realm."""
        return self._request("GET", url, params, None, headers)

    def close(self) -> None:
        """msal may call it; the session is ours and stays open."""

    def _request(
        self, method: str, url: str, params: Any, data: Any, headers: Mapping[str, str] | None
    ) -> requests.Response:
        response = self._session.request(
            method,
            self._with_port(url),
            params=params,
            data=data,
            headers={name: value for name, value in (headers or {}).items() if _is_sendable(value)},
            timeout=(CONNECT_TIMEOUT_S, ENTRA_READ_TIMEOUT_S),
            allow_redirects=False,
        )
        # msal would read the body of a 429 as a refusal, or as an unknown tenant, and some versions fail over a 5xx.
        # That of a federated identity provider is for msal to read: it is how a wrong password is said there.
        if response.status_code == 429 or (response.status_code >= 500 and any(part in url for part in _ENTRAS_OWN)):
            response.raise_for_status()
        return response

    def _with_port(self, url: str) -> str:
        if not url.startswith(self._bare_host):
            return url
        path = url[len(self._bare_host) :]
        if path.startswith("common/userrealm/"):
            user, _, query = path.removeprefix("common/userrealm/").rpartition("?")
            path = f"common/userrealm/{quote(user, safe='@')}?{query}"
        return f"{self._authority}/{path}"


class UsersHttpClient:
    """An http_client for msal that tells Entra ID from what it asks for the users of a federated domain: the domain's
    own identity provider. A fault of that is those users' alone.
    """

    def __init__(self, http_client: Any, authority: str) -> None:
        self._http_client = http_client
        self._host = urlsplit(authority).hostname

    def post(self, url: str, **options: Any) -> Any:
        """A form to the token endpoint; or a password to the provider, whose 5xx is how a wrong one is said."""
        return self._ask(self._http_client.post, url, options)

    def get(self, url: str, **options: Any) -> Any:
        """Discovery and the user realm; or what the provider says of itself."""
        response = self._ask(self._http_client.get, url, options)
        if response.status_code >= 400 and not self._is_entras(url):
            raise TokenUnavailable(PROVIDER_FAILED, FEDERATED)
        return response

    def close(self) -> None:
        """msal may call it; the http_client is not ours."""

    def _ask(self, ask: Callable[..., Any], url: str, options: dict[str, Any]) -> Any:
        try:
            return ask(url, **options)
        except (requests.RequestException, OSError):
            if self._is_entras(url):
                raise
            raise TokenUnavailable(PROVIDER_FAILED, FEDERATED) from None

    def _is_entras(self, url: str) -> bool:
        return urlsplit(url).hostname == self._host or any(part in url for part in _ENTRAS_OWN)


def _is_sendable(value: object) -> bool:
    """Whether it can stand in a header: msal puts the user name, whatever it holds, into one that is a hint only."""
    return not isinstance(value, str) or (value.isascii() and value.isprintable())
