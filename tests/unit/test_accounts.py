# SPDX-License-Identifier: MIT
"""Who may connect, who may send without a login, and whose mailbox it is."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from relay.accounts import Accounts, LoginRefused, LoginRequired
from relay.config import AccessConfig, AccountsConfig, ClientConfig, Config, EntraConfig, Network, UserConfig
from relay.credentials import Secret, hash_password
from relay.identity import APP_LOGIN, Client, Credentials

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
    assert identity.login == credentials
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
        ({}, "scanner\r\nBcc: x@example.com\r\n@example.com", "x", INSIDE),
        ({}, "scanner\x00@example.com", "x", INSIDE),
        ({}, "scanner\x7f@example.com", "x", INSIDE),
    ],
)
def test_login_refused(settings: dict[str, Any], user: str, password: str, address: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        accounts(**settings).logged_in(login(user, password), client(address))
    assert "Fa11back" not in str(caught.value)


# The flows of the app: local users


class Verifier:
    """Stands for scrypt: a hash is "hash of PASSWORD". Counts, since each check takes a while."""

    def __init__(self) -> None:
        self.checked: list[tuple[str, str]] = []

    def __call__(self, password: str, encoded: str) -> bool:
        self.checked.append((password, encoded))
        return encoded == f"hash of {password}"


SCANNER = UserConfig(
    username="Scanner",
    password_hash=Secret("hash of right"),
    mailbox="scanner@example.com",
    allowed_from=("*@example.com",),
)
FAX = UserConfig(username="fax", password_hash=Secret("hash of other"), mailbox="fax@example.com")


def of_app(
    verifier: Verifier | None = None,
    *,
    flow: str = "client_credentials",
    users: tuple[UserConfig, ...] = (SCANNER, FAX),
    clients: tuple[ClientConfig, ...] = (),
    default_mailbox: str = "",
    **access: Any,
) -> Accounts:
    config = Config(
        access=AccessConfig(**access),
        entra=EntraConfig(flow=flow),
        accounts=AccountsConfig(users=users, clients=clients, default_mailbox=default_mailbox),
    )
    return Accounts(config, verifier or Verifier())


def test_a_local_user() -> None:
    identity = of_app().logged_in(login("Scanner", "right"), client(OUTSIDE))
    assert (identity.user, identity.mailbox) == ("Scanner", "scanner@example.com")
    assert identity.allowed_from == ("*@example.com",)
    assert identity.login is APP_LOGIN
    assert not identity.fallback


@pytest.mark.parametrize("name", ["scanner", "SCANNER", " Scanner "])
def test_the_case_of_a_name_and_blanks_do_not_count(name: str) -> None:
    assert of_app().logged_in(login(name, "right"), client()).user == "Scanner"


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("Scanner", "Right"),
        ("Scanner", "right "),
        ("Scanner", "other"),
        ("Scanner", "hash of right"),
        ("fax", "right"),
        ("nobody", "right"),
        ("Scanner", ""),
        ("", "right"),
        ("", ""),
    ],
)
def test_a_local_user_is_refused(user: str, password: str) -> None:
    with pytest.raises(LoginRefused):
        of_app().logged_in(login(user, password), client())


def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    verifier = Verifier()
    accounts = of_app(verifier)
    for user in ("Scanner", "nobody"):
        with pytest.raises(LoginRefused):
            accounts.logged_in(login(user, "wrong"), client())
    assert verifier.checked == [("wrong", "hash of right")] * 2


def test_an_unknown_user_is_none_with_anybodys_password() -> None:
    """The hash that is checked instead is somebody's, so the password may even fit."""
    for _ in range(2):
        with pytest.raises(LoginRefused, match="no such user"):
            of_app().logged_in(login("nobody", "right"), client())


def test_a_good_login_is_remembered_and_a_bad_one_is_not() -> None:
    verifier = Verifier()
    accounts = of_app(verifier)
    for _ in range(3):
        accounts.logged_in(login("scanner", "right"), client())
    assert len(verifier.checked) == 1
    for _ in range(2):
        with pytest.raises(LoginRefused):
            accounts.logged_in(login("scanner", "wrong"), client())
    assert len(verifier.checked) == 3
    accounts.logged_in(login("SCANNER", "right"), client())
    assert len(verifier.checked) == 3, "a wrong password costs the right one nothing"
    with pytest.raises(LoginRefused):
        accounts.logged_in(login("fax", "right"), client())
    assert len(verifier.checked) == 4, "what is remembered is one user's"


def test_no_users_means_that_nobody_is_checked() -> None:
    verifier = Verifier()
    with pytest.raises(LoginRefused, match="there are no users"):
        of_app(verifier, users=()).logged_in(login("scanner", "right"), client())
    assert verifier.checked == []


@pytest.mark.parametrize("password", ["ü€😀", "\0", "\ud800", "x" * 10_000])
def test_any_characters_in_a_local_password(password: str) -> None:
    user = UserConfig(username="s", password_hash=Secret(hash_password(password)), mailbox="s@example.com")
    config = Config(entra=EntraConfig(flow="client_credentials"), accounts=AccountsConfig(users=(user,)))
    accounts = Accounts(config)
    for _ in range(2):
        assert accounts.logged_in(login("s", password), client()).user == "s"
    with pytest.raises(LoginRefused):
        accounts.logged_in(login("s", password + "x"), client())


# The flows of the app: without a login

PRINTERS = ClientConfig(
    network=networks("192.168.1.0/24"),
    mailbox="printers@example.com",
    allowed_from=("*@example.com",),
    allowed_recipients=("it@example.com",),
)
OFFICE = ClientConfig(network=networks("192.168.0.0/16", "fd00::/8"))


@pytest.mark.parametrize("flow", ["client_credentials", "managed_identity"])
@pytest.mark.parametrize(
    ("address", "mailbox", "recipients"),
    [
        ("192.168.1.20", "printers@example.com", ("it@example.com",)),
        ("192.168.2.20", "default@example.com", ()),
        ("fd00::1", "default@example.com", ()),
        ("10.0.0.1", "default@example.com", ()),
    ],
    ids=["first match", "entry without a mailbox", "IPv6", "no entry"],
)
def test_whose_mailbox_sends(flow: str, address: str, mailbox: str, recipients: tuple[str, ...]) -> None:
    accounts = of_app(
        flow=flow, clients=(PRINTERS, OFFICE), default_mailbox="default@example.com", allow_anonymous=True
    )
    identity = accounts.anonymous(client(address))
    assert (identity.user, identity.mailbox, identity.allowed_recipients) == ("", mailbox, recipients)
    assert identity.login is APP_LOGIN


def test_the_first_of_clients_wins() -> None:
    accounts = of_app(clients=(OFFICE, PRINTERS), default_mailbox="default@example.com", allow_anonymous=True)
    assert accounts.anonymous(client("192.168.1.20")).mailbox == "default@example.com"


def test_without_a_default_mailbox_the_from_address_decides() -> None:
    assert of_app(allow_anonymous=True).anonymous(client()).mailbox == ""


def test_clients_lets_nobody_in_by_itself() -> None:
    with pytest.raises(LoginRequired, match="allow_anonymous is off"):
        of_app(clients=(PRINTERS,)).anonymous(client())
    abroad = ClientConfig(network=networks("203.0.113.0/24"), mailbox="a@example.com")
    with pytest.raises(LoginRequired, match="anonymous_networks"):
        of_app(clients=(abroad,), allow_anonymous=True).anonymous(client(OUTSIDE))


def test_an_empty_login_is_none_with_the_flows_of_the_app() -> None:
    with pytest.raises(LoginRefused):
        of_app(allow_anonymous=True, **FALLBACK).logged_in(login("", ""), client())


# Policy by network with flow password


@pytest.mark.parametrize("login_is_empty", [False, True], ids=["no AUTH", "empty AUTH"])
def test_clients_restricts_the_fallback(login_is_empty: bool) -> None:
    """An empty login is as anonymous as none: it must not be the way around the policy."""
    accounts = of_app(flow="password", clients=(PRINTERS,), users=(), allow_anonymous=True, **FALLBACK)
    identity = accounts.logged_in(login("", ""), client()) if login_is_empty else accounts.anonymous(client())
    assert identity.mailbox == "relay@example.com"
    assert identity.allowed_from == ("*@example.com",)
    assert identity.allowed_recipients == ("it@example.com",)


def test_clients_does_not_restrict_who_logs_in() -> None:
    accounts = of_app(flow="password", clients=(PRINTERS,), users=())
    assert accounts.logged_in(login("a@example.com", "x"), client()).allowed_recipients == ()


# Login as tenant and client

TENANT, APP = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"


def test_client_login() -> None:
    """The log shows the name as the device wrote it; the token's cache knows one spelling."""
    name = f"{TENANT.upper()}:{APP}.example"
    identity = of_app(flow="client_login").logged_in(login(name, "D3vice"), client())
    assert (identity.user, identity.mailbox) == (name, "")
    assert identity.login == login(f"{TENANT}@{APP}", "D3vice")


def test_client_login_refuses_other_names() -> None:
    for name in ("scanner@example.com", "Scanner", f"{TENANT}@"):
        with pytest.raises(LoginRefused, match="tenant_id@client_id"):
            of_app(flow="client_login").logged_in(login(name, "right"), client())


def test_client_login_needs_a_login() -> None:
    with pytest.raises(LoginRequired, match="client_login"):
        of_app(flow="client_login", allow_anonymous=True, default_mailbox="a@example.com").anonymous(client())
