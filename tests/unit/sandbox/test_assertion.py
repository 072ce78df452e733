# SPDX-License-Identifier: MIT
"""Client assertions and the managed identity endpoint: what the stand-in takes, and what it must not take."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest

from relay.clientcert import read_client_certificate
from relay.sandbox.assertion import JWT_BEARER
from relay.sandbox.model import Request
from tests.support import pem_files
from tests.unit.sandbox.tenant import URL, Tenant

ENDPOINT = f"{URL}/sandbox/oauth2/v2.0/token"
OURS = read_client_certificate(pem_files.usable(), "")


def tenant() -> Tenant:
    return Tenant(client_certificate=OURS.chain)


def asked(tenant: Tenant, assertion: str, **fields: Any) -> list[int]:
    """Entra's error codes; none for a token."""
    status, content = tenant.ask_token(
        **{
            "grant_type": "client_credentials",
            "username": None,
            "password": None,
            "client_secret": None,
            "scope": f"{URL}/.default",
            "client_assertion": assertion,
            "client_assertion_type": JWT_BEARER,
            **fields,
        }
    )
    return content["error_codes"] if status != 200 else []


def assertion(tenant: Tenant, key: str = OURS.key, algorithm: str = "RS256", **changes: Any) -> str:
    now = tenant.clock.now().timestamp()
    client_id = tenant.settings.client_id
    thumbprint = jwt.utils.base64url_encode(bytes.fromhex(changes.pop("x5t", OURS.thumbprint))).decode()
    claims = {"aud": ENDPOINT, "iss": client_id, "sub": client_id, "exp": now + 600, "jti": "1", **changes}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"x5t": thumbprint})


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_a_good_assertion(algorithm: str) -> None:
    there = tenant()
    assert asked(there, assertion(there, algorithm=algorithm)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": f"{URL}/other/oauth2/v2.0/token"},
        {"iss": "x"},
        {"sub": "x"},
        {"jti": ""},
        {"exp": 0},
        {"exp": 1e12},
        {"x5t": "00" * 20},
        {"algorithm": "RS512"},
        {"key": pem_files.private(pem_files.rsa_key(1)).decode()},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_bad_assertion(changes: dict[str, Any]) -> None:
    there = tenant()
    assert asked(there, assertion(there, **changes)) == [700027]


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "e30.e30.e30", "ü.ü.ü"])
def test_what_is_no_assertion(text: str) -> None:
    assert asked(tenant(), text) == [700027]


def test_an_app_without_a_certificate() -> None:
    there = Tenant()
    assert asked(there, assertion(there)) == [700027]


def test_either_secret_or_assertion() -> None:
    there = tenant()
    good = assertion(there)
    assert asked(there, good, client_secret=there.settings.client_secret) == [900144]
    assert asked(there, good, client_assertion_type=None) == [900144]


def identity(query: str, header: str = "hdr", **settings: Any) -> tuple[int, dict[str, Any]]:
    there = Tenant(identity_header="hdr", **settings)
    request = Request(method="GET", segments=("msi", "token"), query=query, headers={"x-identity-header": header})
    answer = there.entra.managed_identity(request)
    content = json.loads(answer.body)
    if answer.status == 200:
        token = there.tokens.find(content["access_token"])
        assert token is not None
        assert token.user == ""
    return answer.status, content


def test_the_identity_endpoint() -> None:
    good = f"api-version=2019-08-01&resource={URL}"
    status, content = identity(good)
    assert (status, content["expires_on"]) == (200, "1772370000")
    assert identity(good + "&client_id=00000000-0000-0000-0000-000000000001")[0] == 200
    assert identity(good + "&client_id=other")[0] == 400
    assert identity(good, "other")[0] == 401
    assert identity("api-version=2019-08-01&resource=https://other.example")[0] == 400
    assert identity(f"resource={URL}")[0] == 400
