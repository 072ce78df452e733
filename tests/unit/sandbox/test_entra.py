# SPDX-License-Identifier: MIT
"""Entra's side: discovery, the realm, and for each fault of a token request the error that Entra gives."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from relay.sandbox.entra import requested_user
from relay.sandbox.entra_errors import ERRORS
from relay.sandbox.model import Request
from tests.unit.sandbox.tenant import FORM, URL, USER, Tenant


def get(*segments: str, query: str = "") -> Request:
    return Request(method="GET", segments=segments, query=query, request_id="r-1")


def decode_part(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_openid_configuration_points_back_here_with_the_port(tenant: Tenant) -> None:
    answer = tenant.entra.openid(get("sandbox", "v2.0", ".well-known", "openid-configuration"))
    content = json.loads(answer.body)
    assert answer.status == 200
    assert content["token_endpoint"] == f"{URL}/sandbox/oauth2/v2.0/token"
    assert content["authorization_endpoint"].startswith(URL)


def test_openid_configuration_of_an_unknown_tenant(tenant: Tenant) -> None:
    answer = tenant.entra.openid(get("nobody", "v2.0", ".well-known", "openid-configuration"))
    content = json.loads(answer.body)
    assert answer.status == 400
    assert (content["error"], content["error_codes"]) == ("invalid_tenant", [90002])


def test_instance_discovery_names_the_tenants_configuration(tenant: Tenant) -> None:
    query = f"api-version=1.0&authorization_endpoint={URL}/sandbox/oauth2/v2.0/authorize"
    content = json.loads(tenant.entra.instance(get("common", "discovery", "instance", query=query)).body)
    assert content["tenant_discovery_endpoint"] == f"{URL}/sandbox/v2.0/.well-known/openid-configuration"


def test_realm_managed_and_federated(tenant: Tenant) -> None:
    managed = json.loads(tenant.entra.realm(get("common", "userrealm", USER)).body)
    federated = json.loads(tenant.entra.realm(get("common", "userrealm", "x@Federated.example")).body)
    assert managed["account_type"] == "Managed"
    assert federated["account_type"] == "Federated"
    assert federated["federation_active_auth_url"].startswith(f"{URL}/")
    assert "federation_metadata_url" not in federated


def test_ws_trust_always_fails(tenant: Tenant) -> None:
    answer = tenant.entra.ws_trust(get("adfs", "services", "trust", "2005", "usernamemixed"))
    assert answer.status == 500
    assert b"FailedAuthentication" in answer.body


def test_password_grant(tenant: Tenant) -> None:
    status, content = tenant.ask_token()
    assert status == 200
    assert (content["token_type"], content["expires_in"]) == ("Bearer", 3600)
    assert f"{URL}/Mail.Send" in content["scope"].split()
    claims = decode_part(content["id_token"].split(".")[1])
    assert (claims["aud"], claims["preferred_username"]) == (tenant.settings.client_id, USER)
    assert set(decode_part(content["client_info"])) == {"uid", "utid"}
    token = tenant.tokens.find(content["access_token"])
    assert token is not None
    assert token.user == USER
    assert not tenant.tokens.is_expired(token)
    tenant.clock.elapsed = 3600
    assert tenant.tokens.is_expired(token)


def test_password_grant_for_the_public_graph(tenant: Tenant) -> None:
    status, content = tenant.ask_token(scope="https://graph.microsoft.com/.default")
    assert status == 200
    assert "https://graph.microsoft.com/.default" in content["scope"]
    assert "id_token" not in content


def test_client_credentials_grant(tenant: Tenant) -> None:
    token = tenant.tokens.find(tenant.app_token())
    assert token is not None
    assert (token.user, token.permissions) == ("", frozenset({"Mail.Send"}))


def test_client_in_the_basic_header(tenant: Tenant) -> None:
    pair = base64.b64encode(f"{tenant.settings.client_id}:sandbox%2Dsecret".encode()).decode()
    headers = {"authorization": f"Basic {pair}"}
    assert tenant.ask_token(client_id=None, client_secret=None, headers=headers)[0] == 200
    wrong = base64.b64encode(f"{tenant.settings.client_id}:other".encode()).decode()
    status, content = tenant.ask_token(headers={"authorization": f"Basic {wrong}"})
    assert (status, content["error_codes"]) == (401, [7000215])


@pytest.mark.parametrize(
    ("fields", "status", "error", "code"),
    [
        ({"tenant": "nobody"}, 400, "invalid_request", 90002),
        ({"client_id": "11111111-0000-0000-0000-000000000001"}, 400, "unauthorized_client", 700016),
        ({"client_id": None}, 400, "invalid_request", 900144),
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": None}, 401, "invalid_client", 7000218),
        ({"scope": "https://graph.microsoft.us/.default"}, 400, "invalid_scope", 70011),
        ({"scope": f"{URL}/.default User.Read"}, 400, "invalid_scope", 70011),
        ({"scope": None}, 400, "invalid_scope", 70011),
        ({"username": "other@example.com"}, 400, "invalid_grant", 50034),
        ({"password": "wrong"}, 400, "invalid_grant", 50126),
        ({"password": ""}, 400, "invalid_grant", 50056),
        ({"password": None}, 400, "invalid_request", 900144),
        ({"tenant": "common"}, 400, "invalid_request", 9001023),
        ({"grant_type": "device_code"}, 400, "unsupported_grant_type", 70003),
        ({"grant_type": None}, 400, "invalid_request", 900144),
        ({"headers": {"content-type": "application/json"}}, 400, "invalid_request", 900144),
        ({"headers": {"authorization": "Basic %%%"}}, 401, "invalid_client", 7000215),
        ({"grant_type": "client_credentials"}, 400, "invalid_scope", 70011),
        ({"grant_type": "client_credentials", "tenant": "organizations"}, 400, "invalid_request", 50059),
    ],
)
def test_refused(fields: dict[str, Any], status: int, error: str, code: int) -> None:
    tenant = Tenant(users={USER: "secret"})
    found, content = tenant.ask_token(**fields)
    assert (found, content["error"], content["error_codes"]) == (status, error, [code])


def test_first_fault_first() -> None:
    tenant = Tenant(users={})
    assert tenant.ask_token("nobody", client_id="x", client_secret="x")[1]["error_codes"] == [90002]
    assert tenant.ask_token(client_id="x", client_secret="x")[1]["error_codes"] == [700016]
    assert tenant.ask_token(client_secret="x", scope="x")[1]["error_codes"] == [7000215]
    assert tenant.ask_token(scope="x")[1]["error_codes"] == [70011]


def test_the_login_is_compared_without_case() -> None:
    assert Tenant(users={USER: "secret"}).ask_token(username=USER.upper())[0] == 200


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_special_users_fail_with_their_own_code(code: int) -> None:
    status, content = Tenant(users={}).ask_token(username=f"AADSTS{code}@example.com")
    error, wanted, _ = ERRORS[code]
    assert (status, content["error"], content["error_codes"]) == (wanted, error, [code])
    assert content["error_description"].startswith(f"AADSTS{code}: ")


def test_unlisted_code_is_an_invalid_grant(tenant: Tenant) -> None:
    status, content = tenant.ask_token(username="aadsts123456@example.com")
    assert (status, content["error"], content["error_codes"]) == (400, "invalid_grant", [123456])


def test_the_error_body_has_entras_fields() -> None:
    tenant = Tenant(users={USER: "secret"})
    content = tenant.ask_token(password="wrong", headers={"client-request-id": "c-7"})[1]
    marks = "Trace ID: r-1 Correlation ID: c-7 Timestamp: 2026-03-01 12:00:00Z"
    assert content["error_description"].endswith(marks)
    assert content["timestamp"] == "2026-03-01 12:00:00Z"
    assert (content["trace_id"], content["correlation_id"]) == ("r-1", "c-7")
    assert content["error_uri"].endswith("code=50126")


def test_a_repeated_field_is_refused(tenant: Tenant) -> None:
    request = Request(
        method="POST",
        segments=("sandbox", "oauth2", "v2.0", "token"),
        headers=FORM,
        body=b"grant_type=password&grant_type=password",
    )
    assert json.loads(tenant.entra.token(request).body)["error_codes"] == [9000411]
    assert requested_user(request) == ""


def test_no_secret_shows_in_a_repr() -> None:
    settings = Tenant(users={USER: "hunter2"}, client_secret="s3cret").settings
    request = Request(method="POST", segments=("a",), headers={"authorization": "Bearer abc"}, body=b"pw")
    shown = repr(settings) + repr(request)
    assert not [word for word in ("hunter2", "s3cret", "abc", "pw") if word in shown]
