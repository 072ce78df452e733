# SPDX-License-Identifier: MIT
"""The HTTP sessions, and msal itself on top of our http_client: ports, quoting, timeouts, what is kept."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest
import requests

from relay.clock import Deadline
from relay.config import EntraConfig
from relay.credentials import Secret
from relay.graph.entra import PasswordFlow
from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError
from relay.graph.http import EntraHttpClient, http_session
from relay.graph.tokens import TokenSource
from relay.identity import Credentials
from tests.support.clock import FakeClock

AUTHORITY = "https://entra.example:8443"
PASSWORD = "Passw0rd ü&="


class FakeEntraSession:
    """A requests.Session whose other end is Entra ID: discovery, user realm, token endpoint."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.forms: list[dict[str, Any]] = []
        self.realm: dict[str, Any] = {"account_type": "Managed"}
        self.token: tuple[int, Any] = (200, {"access_token": "T0KEN", "expires_in": 3600, "token_type": "Bearer"})

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        self.urls.append(f"{method} {url}")
        connect, read = options["timeout"]
        assert 0 < connect <= 10
        assert 0 < read <= 30
        assert options["allow_redirects"] is False
        if url.endswith("openid-configuration"):
            return _response(200, self._discovery(url))
        if "/userrealm/" in url:
            return _response(200, self.realm)
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


def token_of(session: FakeEntraSession, user: str = "a@example.com", authority: str = AUTHORITY) -> str:
    config = EntraConfig(
        client_id="app",
        client_secret=Secret("S3CRET"),
        tenant_id="tenant",
        authority=authority,
        scopes=("scope/.default",),
    )
    clock = FakeClock()
    flow = PasswordFlow(config, EntraHttpClient(session, authority), lambda _: nullcontext())  # type: ignore[arg-type]
    source = TokenSource(flow.acquire, clock)
    return source.get(Credentials(user, Secret(PASSWORD)), Deadline(clock, 30)).reveal()


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
    "user", ["../../tenant/oauth2/v2.0/token", "a/b@example.com", "a?b#c@example.com", "ü@example.com"]
)
def test_a_user_name_stays_in_its_place(user: str) -> None:
    session = FakeEntraSession()
    token_of(session, user)
    (realm,) = [url for url in session.urls if "userrealm" in url]
    path = realm.partition("/userrealm/")[2].partition("?")[0]
    assert "/" not in path
    assert "#" not in realm
    assert session.forms[0]["username"] == user


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
@pytest.mark.parametrize("content", [b"<html>a portal</html>", b"", b"[]", b'"x"', b"null"])
def test_what_is_no_answer_of_entra(status: int, content: bytes) -> None:
    session = FakeEntraSession()
    session.token = (status, content)
    with pytest.raises(TokenError) as caught:
        token_of(session)
    assert not isinstance(caught.value, CredentialsRefused), "the device is not at fault"


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
