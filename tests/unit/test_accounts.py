# SPDX-License-Identifier: MIT
"""Who may connect, who may send without a login, and whose mailbox it is."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from relay.accounts import Accounts, LoginRefused, LoginRequired
from relay.config import AccessConfig, Config, Network
from relay.credentials import Secret
from relay.identity import Client, Credentials

FALLBACK: dict[str, Any] = {"fallback_user": "relay@example.com", "fallback_password": Secret("Fa11back")}
INSIDE, OUTSIDE = "192.168.1.20", "203.0.113.5"


def accounts(**settings: Any) -> Accounts:
    return Accounts(Config(access=AccessConfig(**settings)))


def networks(*blocks: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(block) for block in blocks)


def client(address: str = INSIDE) -> Client:
    return Client(address, "S1")


def login(user: str, password: str) -> Credentials:
    return Credentials(user, Secret(password))


# Admission


@pytest.mark.parametrize("address", [INSIDE, OUTSIDE, "::1", "2001:db8::1"])
def test_no_allowed_networks_means_everybody(address: str) -> None:
    assert accounts().admits(address)


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("10.0.5.1", True),
        ("10.0.6.1", False),
        ("192.0.2.9", True),
        ("192.0.2.8", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("::1", False),
    ],
)
def test_allowed_networks(address: str, admitted: bool) -> None:
    allowed = networks("10.0.5.0/24", "192.0.2.9", "2001:db8::/32")
    assert accounts(allowed_networks=allowed).admits(address) is admitted


def test_a_network_of_one_family_says_nothing_of_the_other() -> None:
    assert not accounts(allowed_networks=networks("0.0.0.0/0")).admits("::1")
    assert not accounts(allowed_networks=networks("::/0")).admits("127.0.0.1")


# Without a login


def test_anonymous() -> None:
    identity = accounts(allow_anonymous=True, **FALLBACK).anonymous(client())
    assert (identity.user, identity.mailbox, identity.fallback) == ("relay@example.com", "relay@example.com", True)
    assert identity.login.password.reveal() == "Fa11back"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"]
)
def test_anonymous_from_every_private_address_by_default(address: str) -> None:
    assert accounts(allow_anonymous=True, **FALLBACK).anonymous(client(address)).fallback


@pytest.mark.parametrize(
    ("settings", "address", "words"),
    [
        ({**FALLBACK}, INSIDE, "allow_anonymous is off"),
        ({"allow_anonymous": True}, INSIDE, "fallback_smtp_user"),
        ({"allow_anonymous": True, "fallback_user": "relay@example.com"}, INSIDE, "fallback_smtp_pass"),
        ({"allow_anonymous": True, "fallback_password": Secret("x")}, INSIDE, "fallback_smtp_user"),
        ({"allow_anonymous": True, **FALLBACK}, OUTSIDE, "anonymous_networks"),
        ({"allow_anonymous": True, **FALLBACK}, "172.32.0.1", "anonymous_networks"),
        ({"allow_anonymous": True, **FALLBACK, "anonymous_networks": ()}, "127.0.0.1", "anonymous_networks"),
        (
            {"allow_anonymous": True, **FALLBACK, "anonymous_networks": networks("10.0.0.0/8")},
            INSIDE,
            "anonymous_networks",
        ),
    ],
)
def test_login_required(settings: dict[str, Any], address: str, words: str) -> None:
    """And the log says which key it depends on."""
    with pytest.raises(LoginRequired, match=words):
        accounts(**settings).anonymous(client(address))


# With one


def test_logged_in() -> None:
    credentials = login("scanner@example.com", "x")
    identity = accounts().logged_in(credentials, client(OUTSIDE))
    assert (identity.user, identity.mailbox) == ("scanner@example.com", "scanner@example.com")
    assert identity.login is credentials
    assert not identity.fallback


@pytest.mark.parametrize("allow_anonymous", [False, True])
def test_an_empty_login_is_the_fallback(allow_anonymous: bool) -> None:
    """Contract §2: when both are set, whatever allow_anonymous says."""
    identity = accounts(allow_anonymous=allow_anonymous, **FALLBACK).logged_in(login("", ""), client())
    assert (identity.user, identity.fallback) == ("relay@example.com", True)


@pytest.mark.parametrize(
    ("settings", "user", "password", "address"),
    [
        ({}, "", "", INSIDE),
        ({"fallback_user": "relay@example.com"}, "", "", INSIDE),
        ({"fallback_password": Secret("x")}, "", "", INSIDE),
        (FALLBACK, "", "", OUTSIDE),
        ({**FALLBACK, "anonymous_networks": ()}, "", "", INSIDE),
        (FALLBACK, "scanner", "", INSIDE),
        (FALLBACK, "relay@example.com", "", INSIDE),
        (FALLBACK, "", "x", INSIDE),
        (FALLBACK, "", "Fa11back", INSIDE),
    ],
)
def test_login_refused(settings: dict[str, Any], user: str, password: str, address: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        accounts(**settings).logged_in(login(user, password), client(address))
    assert "Fa11back" not in str(caught.value)
