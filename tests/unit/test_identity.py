# SPDX-License-Identifier: MIT
"""Names that do not come again, and identities that do not show their password."""

from __future__ import annotations

import base64
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.credentials import Secret
from relay.identity import Credentials, Identity, is_allowed, new_id, parse_client_login, unmapped


def test_new_id() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[0-9A-F]{16}", name) for name in ids)


def test_no_repr_shows_the_password() -> None:
    credentials = Credentials("scanner", Secret("Passw0rd"))
    identity = Identity("scanner", "scanner@example.com", credentials)
    assert "Passw0rd" not in f"{credentials!r} {credentials} {identity!r} {identity}"


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),  # as Python before 3.13 writes what a PROXY header holds
        ("::FFFF:C000:201", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:0:c000:201", "::ffff:0:c000:201"),
    ],
)
def test_unmapped(address: str, plain: str) -> None:
    assert unmapped(address) == plain


# Logins in the form tenant_id@client_id

TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "fbef8000-0000-4000-8000-fbefbefbefbe"
IDS = (TENANT, CLIENT)


def short(long: str) -> str:
    return base64.urlsafe_b64encode(uuid.UUID(long).bytes).rstrip(b"=").decode("ascii")


@pytest.mark.parametrize("delimiter", ["@", ":", "|"])
@pytest.mark.parametrize("tenant", [TENANT, TENANT.upper(), short(TENANT), f"{short(TENANT)}=="])
@pytest.mark.parametrize("client", [CLIENT, CLIENT.upper(), short(CLIENT), f"{short(CLIENT)}=="])
@pytest.mark.parametrize("suffix", ["", ".", ".example.com", ".a@b:c|d"])
def test_a_client_login(delimiter: str, tenant: str, client: str, suffix: str) -> None:
    assert parse_client_login(f"{tenant}{delimiter}{client}{suffix}") == IDS
    assert parse_client_login(f" {tenant}{delimiter}{client}{suffix}\n") == IDS


@pytest.mark.parametrize(
    "user",
    [
        "",
        "@",
        "scanner@example.com",
        TENANT,
        f"{TENANT}@",
        f"@{CLIENT}",
        f"{TENANT} {CLIENT}",
        f"{TENANT}/{CLIENT}",
        f"{TENANT}@@{CLIENT}",
        f"{TENANT}@{CLIENT}x",
        f"{TENANT}@{CLIENT}@{CLIENT}",
        f"{{{TENANT}}}@{CLIENT}",
        f"{TENANT.replace('-', '')}@{CLIENT}",
        f"{TENANT[:-1]}@{CLIENT}",
        f"{TENANT[:-1]}g@{CLIENT}",
        f"{short(TENANT)}=@{CLIENT}",
        f"{short(TENANT)}===@{CLIENT}",
        f"{TENANT}==@{CLIENT}",
        f"{short(TENANT)[:-1]}+@{CLIENT}",
        f"{short(TENANT)}x@{CLIENT}",
        f"{TENANT}@{CLIENT}.a\nb",
        f"contoso.com@{CLIENT}",
        "x" * 100_000,
    ],
)
def test_what_is_no_client_login(user: str) -> None:
    assert parse_client_login(user) is None


@given(st.uuids(), st.uuids(), st.sampled_from("@:|"), st.booleans(), st.booleans())
def test_no_id_holds_a_delimiter(
    tenant: uuid.UUID, client: uuid.UUID, delimiter: str, short_tenant: bool, short_client: bool
) -> None:
    pairs = ((str(tenant), short_tenant), (str(client), short_client))
    written = delimiter.join(short(one) if is_short else one for one, is_short in pairs)
    assert parse_client_login(written) == (str(tenant), str(client))


@given(st.text(max_size=80))
def test_any_text_is_a_client_login_or_none(user: str) -> None:
    named = parse_client_login(user)
    assert named is None or all(str(uuid.UUID(one)) == one for one in named)


# Who may write


@pytest.mark.parametrize(
    ("pattern", "address", "allowed"),
    [
        ("a@example.com", "A@EXAMPLE.com", True),
        ("a@example.com", "b@example.com", False),
        ("*@Example.com", "b@example.COM", True),
        ("*@example.com", "b@sub.example.com", False),
        ("*@bücher.example", "a@xn--bcher-kva.example", True),
        ("*@xn--bcher-kva.example", "a@BÜCHER.example", True),
        ("ä@bücher.example", "Ä@xn--bcher-kva.example", True),
        ("*@example.com", "*@example.com", True),
        ("a@example.com", "*@example.com", False),
        ("scan-*@example.com", "Scan-2@example.com", True),
        ("scan-*@example.com", "rescan-2@example.com", False),
        ("*.scan@example.com", "b.2.scan@example.com", True),
        ("*@*.example.com", "b@sub.Example.com", True),
        ("*@*.example.com", "b@example.com", False),
        ("*@*.example.com", "b@evilexample.com", False),
        ("*@*.bücher.example", "a@sub.xn--bcher-kva.example", True),
        ("a@*.example", "a@x.example@evil.test", False),
    ],
)
def test_is_allowed(pattern: str, address: str, allowed: bool) -> None:
    assert is_allowed(address, (pattern,)) is allowed
    assert is_allowed(address, ("x@other.example", pattern)) is allowed
    assert is_allowed(address, ())
