# SPDX-License-Identifier: MIT
"""The HTTP sessions, and msal itself on top of our http_client: ports, quoting, timeouts, what is kept."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import nullcontext
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from relay.clock import Deadline
from relay.config import EntraConfig
from relay.credentials import Secret
from relay.graph.client import GraphClient
from relay.graph.entra import PasswordFlow
from relay.graph.errors import (
    FEDERATED,
    AppMisconfigured,
    CredentialsRefused,
    GraphError,
    TokenError,
    TokenUnavailable,
)
from relay.graph.http import EntraHttpClient, http_session
from relay.graph.tokens import TokenSource
from relay.identity import Credentials
from tests.support.clock import FakeClock

AUTHORITY = "https://entra.example:8443"
PROVIDER = "https://adfs.example/"
PASSWORD = "Passw0rd ü&="


class FakeEntraSession:
    """A requests.Session whose other end is Entra ID: discovery, user realm, token endpoint."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.forms: list[dict[str, Any]] = []
        self.fields: list[dict[str, str]] = []
        self.realm: dict[str, Any] | requests.Response = {"account_type": "Managed"}
        self.token: tuple[int, Any] = (200, {"access_token": "T0KEN", "expires_in": 3600, "token_type": "Bearer"})
        self.discovery: tuple[int, Any] | None = None
        self.provider: requests.Response | Exception = requests.ConnectionError("S3CRET")

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        self.urls.append(f"{method} {url}")
        self.fields.append(options["headers"])
        for text in options["headers"].values():
            text.encode("latin-1")  # as http.client does
        connect, read = options["timeout"]
        assert 0 < connect <= 10
        assert 0 < read <= 30
        assert options["allow_redirects"] is False
        assert all(value is None or (value.isascii() and value.isprintable()) for value in options["headers"].values())
        if url.startswith(PROVIDER):
            if isinstance(self.provider, Exception):
                raise self.provider
            return self.provider
        if url.endswith("openid-configuration"):
            return _response(*(self.discovery or (200, self._discovery(url))))
        if "/userrealm/" in url:
            return self.realm if isinstance(self.realm, requests.Response) else _response(200, self.realm)
        self.forms.append(dict(options["data"]))
        return _response(*self.token)

    def _discovery(self, url: str) -> dict[str, Any]:
        base = url.partition("/v2.0")[0]
        return {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        }


def _response(status: int, content: Any) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps(content).encode() if not isinstance(content, bytes) else content
    response.headers["Content-Type"] = "application/json"
    return response


def source_of(session: FakeEntraSession, authority: str = AUTHORITY) -> TokenSource:
    config = EntraConfig(
        client_id="app",
        client_secrets=(Secret("S3CRET"),),
        tenant_id="tenant",
        authority=authority,
        scopes=("scope/.default",),
    )
    flow = PasswordFlow(config, EntraHttpClient(session, authority), lambda _: nullcontext())  # type: ignore[arg-type]
    return TokenSource(flow.acquire, FakeClock())


def get(source: TokenSource, user: str = "a@example.com") -> str:
    return source.get(Credentials(user, Secret(PASSWORD)), Deadline(FakeClock(), 30)).reveal()


def token_of(session: FakeEntraSession, user: str = "a@example.com", authority: str = AUTHORITY) -> str:
    return get(source_of(session, authority), user)


def test_msal_over_an_authority_with_a_port() -> None:
    """Each request keeps the port, the user realm too, for which msal takes the bare host (contract §7)."""
    session = FakeEntraSession()
    assert token_of(session) == "T0KEN"
    assert session.urls
    assert all(f" {AUTHORITY}/" in url for url in session.urls), session.urls
    assert any("/userrealm/a@example.com?" in url or "/userrealm/a%40example.com?" in url for url in session.urls)
    (form,) = session.forms
    assert form["grant_type"] == "password"
    assert (form["username"], form["password"], form["client_secret"]) == ("a@example.com", PASSWORD, "S3CRET")
    assert "scope/.default" in form["scope"]


@pytest.mark.parametrize(
    "user",
    [
        "../../tenant/oauth2/v2.0/token",
        "a/b@example.com",
        "a?b#c@example.com",
        "ü@example.com",
        "ł日@example.com",
        "a\nb@example.com",
        "a\r\nX: b",
    ],
)
def test_a_user_name_stays_in_its_place(user: str) -> None:
    """And whatever it is, Entra ID is asked: what it cannot be is for Entra ID to say."""
    session = FakeEntraSession()
    token_of(session, user)
    (realm,) = [url for url in session.urls if "userrealm" in url]
    path = realm.partition("/userrealm/")[2].partition("?")[0]
    assert "/" not in path
    assert "#" not in realm
    assert session.forms[0]["username"] == user


@pytest.mark.parametrize("user", ["日本@example.com", "a\nX-Other: b@example.com", "a\rb@example.com"])
def test_a_user_name_that_no_header_field_can_hold_is_for_entra_to_judge(user: str) -> None:
    session = FakeEntraSession()
    session.token = (400, {"error": "invalid_grant", "error_codes": [50034]})
    with pytest.raises(CredentialsRefused) as caught:
        token_of(session, user)
    assert caught.value.entra_code == "AADSTS50034"
    assert session.forms[0]["username"] == user
    assert not any("X-AnchorMailbox" in fields for fields in session.fields)


@pytest.mark.parametrize(
    ("status", "error", "codes", "kind"),
    [
        (400, "invalid_grant", [50126], CredentialsRefused),
        (400, "invalid_grant", [50076], CredentialsRefused),
        (401, "invalid_client", [7000222], AppMisconfigured),
        (400, "unauthorized_client", [700016], AppMisconfigured),
    ],
)
def test_entras_errors_through_msal(status: int, error: str, codes: list[int], kind: type[TokenError]) -> None:
    session = FakeEntraSession()
    session.token = (status, {"error": error, "error_codes": codes, "error_description": f"AADSTS{codes[0]}: T0KEN"})
    with pytest.raises(TokenError) as caught:
        token_of(session)
    assert type(caught.value) is kind
    assert caught.value.entra_code == f"AADSTS{codes[0]}"
    assert "T0KEN" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 429, 500, 503])
@pytest.mark.parametrize("content", [b"<html>a portal</html>", b"", b"[]", b'"x"', b"null", b"[" * 100_000])
def test_what_is_no_answer_of_entra(status: int, content: bytes) -> None:
    session = FakeEntraSession()
    session.token = (status, content)
    with pytest.raises(TokenError) as caught:
        token_of(session)
    assert not isinstance(caught.value, CredentialsRefused), "the device is not at fault"


@pytest.mark.parametrize("content", [b"", b"<html>busy</html>", {"error": "invalid_grant", "error_codes": [50126]}])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_throttling_is_no_refusal_whatever_its_body_says(status: int, content: Any) -> None:
    session = FakeEntraSession()
    session.token = (status, content)
    with pytest.raises(TokenUnavailable, match="busy"):
        token_of(session)
    session.discovery = (status, content)
    with pytest.raises(TokenUnavailable, match="busy"):
        token_of(session)


@pytest.mark.parametrize("status", [429, 503])
def test_entras_retry_after(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    session = FakeEntraSession()
    answer = session.request

    def request(method: str, url: str, **options: Any) -> requests.Response:
        response = answer(method, url, **options)
        response.headers["Retry-After"] = "17"
        return response

    monkeypatch.setattr(session, "request", request)
    session.token = (status, b"")
    with pytest.raises(TokenUnavailable) as caught:
        token_of(session)
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize("status", [301, 302, 304])
def test_a_redirect_is_nobodys_wrong_password(status: int) -> None:
    """A portal's, for instance. msal raises for it what it raises for federated users too."""
    session = FakeEntraSession()
    session.discovery = (status, b"")
    with pytest.raises(TokenUnavailable):
        token_of(session)


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "http:///"])
def test_a_proxy_that_cannot_be_used_is_no_fault_of_the_tenant(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """The environment's is not checked at the start. What requests raises then is a ValueError too."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    session = http_session(AUTHORITY, 1, "", "")
    with pytest.raises(TokenUnavailable, match="HTTPS_PROXY"):
        token_of(session)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer",
    [
        (400, {"error": "temporarily_unavailable", "error_codes": [90033]}),
        (400, {"error": "invalid_grant", "error_codes": [65001]}),
        (400, b"<html>a portal</html>"),
        (401, {"error": "invalid_client", "error_codes": [7000222]}),
        (429, b""),
        (500, b""),
    ],
    ids=lambda answer: f"{answer[0]}-{answer[1]}",
)
def test_what_has_passed_has_passed(answer: tuple[int, Any]) -> None:
    """msal would give the same answer again for a minute, without asking."""
    session = FakeEntraSession()
    source = source_of(session)
    good, session.token = session.token, answer
    with pytest.raises(TokenError):
        get(source)
    session.token = good
    assert get(source) == "T0KEN"


@pytest.mark.parametrize("content", [b"<html>a portal</html>", b"", b"[]"])
def test_a_portals_page_for_the_user_realm_is_not_kept(content: bytes) -> None:
    """msal keeps any 200 to that for a day."""
    session = FakeEntraSession()
    source = source_of(session)
    session.realm = _response(200, content)
    with pytest.raises(TokenUnavailable):
        get(source)
    session.realm = {"account_type": "Managed"}
    assert get(source) == "T0KEN"


@pytest.mark.parametrize("status", [404, 429, 500])
def test_no_user_realm(status: int) -> None:
    """404: an authority that has none; msal goes on without."""
    session = FakeEntraSession()
    session.realm = _response(status, b"")
    if status == 404:
        assert token_of(session, authority="https://no-realm.example:1") == "T0KEN"
    else:
        with pytest.raises(TokenUnavailable):
            token_of(session)


def test_a_federated_user_is_told_so() -> None:
    """msal raises instead of returning an error."""
    session = FakeEntraSession()
    session.realm = {
        "account_type": "Federated",
        "federation_protocol": "WSTrust",
        "federation_metadata_url": f"{AUTHORITY}/mex/userrealm/",
        "federation_active_auth_url": f"{AUTHORITY}/adfs",
        "cloud_audience_urn": "urn:federation:MicrosoftOnline",
    }
    with pytest.raises(TokenError) as caught:
        token_of(session)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize(
    "answer",
    [requests.ConnectionError("S3CRET"), TimeoutError(), (404, b""), (429, b"busy"), (503, b"busy"), (200, b"{")],
    ids=repr,
)
def test_one_domains_identity_provider_says_nothing_of_entra(answer: Any, metadata: bool) -> None:
    """Else anybody who names a user of such a domain would have the relay say that it is not ready."""
    session = FakeEntraSession()
    session.realm = {
        "account_type": "Federated",
        "federation_protocol": "WSTrust",
        "federation_active_auth_url": f"{PROVIDER}adfs/services/trust/2005/usernamemixed",
        "cloud_audience_urn": "urn:federation:MicrosoftOnline",
    }
    if metadata:
        session.realm["federation_metadata_url"] = f"{PROVIDER}adfs/services/trust/mex"
    session.provider = _response(*answer) if isinstance(answer, tuple) else answer
    with pytest.raises(TokenUnavailable) as caught:
        token_of(session)
    assert caught.value.entra_code == FEDERATED
    assert PASSWORD not in str(caught.value)


def test_each_session_is_sized_and_verified_and_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    session = http_session("https://graph.example", 37, "", "")
    assert session.verify is True
    assert session.trust_env is False
    assert not session.proxies
    assert session.max_redirects
    assert set(session.headers) == {"User-Agent", "Accept"}
    assert http_session("https://graph.example", 1, "http://proxy:3128", "").proxies["https"] == "http://proxy:3128"
    assert http_session("https://graph.example", 1, "", "/ca.pem").verify == "/ca.pem"
    monkeypatch.setenv("HTTPS_PROXY", "http://environment:3128")
    assert http_session("https://graph.example", 1, "", "").proxies["https"] == "http://environment:3128"
    monkeypatch.setenv("NO_PROXY", "graph.example")
    assert "https" not in http_session("https://graph.example", 1, "", "").proxies


def test_plain_http_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity endpoint of Azure is on the machine itself, and its answer is a token."""
    for name in (f"{what}_proxy" for what in ("http", "https", "all", "no")):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://environment:3128")
    assert not http_session("https://graph.example", 1, "", "").proxies
    monkeypatch.setenv("all_proxy", "http://environment:3128")
    assert dict(http_session("https://graph.example", 1, "", "").proxies) == {"https": "http://environment:3128"}
    assert not http_session("http://127.0.0.1:1", 1, "http://proxy:3128", "").proxies


def test_a_prepared_request_goes_through_the_proxy_too() -> None:
    """As GraphClient sends its own: Session.request() would have named the proxy for it."""
    asked: list[bytes] = []

    def refuse() -> None:
        sock, _ = listener.accept()
        with sock:
            asked.append(sock.recv(4096))
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        thread = threading.Thread(target=refuse)
        thread.start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        request = requests.Request("GET", "https://graph.invalid/").prepare()
        session = http_session("https://graph.invalid", 1, proxy, "")
        with pytest.raises(requests.exceptions.ProxyError):
            session.send(request, timeout=(60, 60), stream=True, allow_redirects=False)
        session.close()
        thread.join()
    assert asked[0].startswith(b"CONNECT graph.invalid:443 ")


class Answers(requests.adapters.BaseAdapter):
    """Gives one answer to every request."""

    def __init__(self, status: int, **headers: str) -> None:
        self._answer = status, headers
        self.requests: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        self.requests.append(request)
        response = _response(self._answer[0], b"")
        response.headers.update(self._answer[1])
        response.request, response.url = request, request.url or ""
        return response

    def close(self) -> None:
        pass


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://elsewhere.example/", "/", "", "http://[", "\xff"])
def test_no_redirect_is_followed(status: int, location: str) -> None:
    session = http_session("https://graph.example", 1, "", "")
    answers = Answers(status, Location=location)
    session.mount("https://", answers)
    client = GraphClient(session, "https://graph.example", lambda _: nullcontext())
    with pytest.raises(GraphError) as caught:
        client.send_mail("a@example.com", b"{}", "application/json", Secret("T0KEN"), 5)
    assert caught.value.status == status
    entra = EntraHttpClient(session, "https://graph.example")
    assert entra.get("https://graph.example/x").status_code == status
    assert len(answers.requests) == 2


def test_no_cookie_is_kept() -> None:
    """Entra ID sets some with each token; they belong to one user."""
    head = Message()
    head["Set-Cookie"] = "fpc=x; path=/; secure; HttpOnly"

    class Setting(Answers):
        def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
            response = super().send(request, *arguments, **options)
            response.raw = SimpleNamespace(_original_response=SimpleNamespace(msg=head))
            return response

    for session, kept in ((requests.Session(), 1), (http_session("https://graph.example", 1, "", ""), 0)):
        session.mount("https://", Setting(200))
        session.get("https://graph.example/")
        assert len(session.cookies) == kept
