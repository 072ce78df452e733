# SPDX-License-Identifier: MIT
"""Who may send, as whom, with which token: every flow from SMTP to the sandbox's Graph, over real TLS."""

from __future__ import annotations

import resource
import smtplib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import msal
import pytest
import yaml

from relay.clientcert import read_client_certificate
from relay.credentials import hash_password
from tests.support import pem_files
from tests.support.relay_process import CLIENT_ID, CLIENT_SECRET, RelayProcess, config_for, run_once
from tests.support.sandbox_client import Upstream

TENANT = str(uuid5(NAMESPACE_URL, "tenant:sandbox"))  # as the sandbox names its own
PASSWORD = "Passwort für Gerät"
HASH = hash_password(PASSWORD)
IDENTITY_HEADER = "identity-header-1"
USERS = [
    {"username": "scanner", "password_hash": HASH, "mailbox": "scanner@example.com"},
    {"username": "erp", "password_hash": HASH, "mailbox": "erp@example.com", "allowed_from": ["*@shop.example"]},
]
PAIR = pem_files.usable()


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, Any]:
    return {"client_certificate": read_client_certificate(PAIR, "").chain, "identity_header": IDENTITY_HEADER}


def app_config(upstream: Upstream, entra: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """Flow client_credentials with a secret and two users. entra: what differs there; None leaves a key out."""
    config = config_for(upstream, **{"users": USERS, **keys})
    together = {**config["oauth2_config"], "flow": "client_credentials", **(entra or {})}
    config["oauth2_config"] = {name: value for name, value in together.items() if value is not None}
    return config


@pytest.fixture(scope="module")
def module_relay(directory: Path, module_upstream: Upstream) -> Iterator[RelayProcess]:
    clients = [
        {
            "network": "127.0.0.0/8",
            "mailbox": "printers@example.com",
            "allowed_from": ["*@example.com"],
            "allowed_recipients": ["*@example.org"],
        }
    ]
    keys = {"allow_anonymous": True, "clients": clients, "default_mailbox": "other@example.com"}
    with RelayProcess(directory / "relay", app_config(module_upstream, **keys)) as running:
        yield running


def plain(user: str, password: str) -> str:
    return "PLAIN " + b64encode(f"\0{user}\0{password}".encode()).decode("ascii")


def log_in(client: smtplib.SMTP, user: str, password: str = PASSWORD) -> str:
    code, text = client.docmd("AUTH", plain(user, password))
    return f"{code} {text.decode('ascii').split()[0]}"


def send(client: smtplib.SMTP, author: str = "device@example.com", to: str = "you@example.org") -> str:
    """Code and enhanced code of the first reply that is no success, or of the last."""
    client.mail(author)
    client.rcpt(to)
    code, text = client.data(f"From: Device <{author}>\r\nTo: {to}\r\nSubject: x\r\n\r\nhello\r\n".encode())
    client.rset()
    return f"{code} {text.decode('ascii').split()[0]}"


def token_requests(upstream: Upstream) -> int:
    return sum(upstream.stats()["requests"].get("token", {}).values())


@contextmanager
def relay_with(
    tmp_path: Path, config: dict[str, Any], env: dict[str, str] | None = None
) -> Iterator[tuple[RelayProcess, smtplib.SMTP]]:
    """A relay of the test's own, and a client that is connected."""
    with RelayProcess(tmp_path / "relay", config, env=env) as relay:
        with relay.smtp() as client:
            yield relay, client
        relay.assert_sound()


# Client credentials


def test_a_local_user_sends_by_the_apps_token(relay: RelayProcess, upstream: Upstream) -> None:
    with relay.smtp() as client:
        assert log_in(client, "SCANNER") == "235 2.7.0"
        assert send(client) == "250 2.0.0"
        assert send(client) == "250 2.0.0"
    messages = upstream.messages()
    assert [(message["mailbox"], message["user"]) for message in messages] == [("scanner@example.com", "")] * 2
    assert messages[0]["sender"] == "device@example.com"
    line = relay.wait_for("delivered")
    assert (line["user"], line["mailbox"]) == ("scanner", "scanner@example.com")


@pytest.mark.parametrize("pass_phrase", ["", pem_files.PASS_PHRASE], ids=["plain", "pass phrase"])
def test_a_certificate(tmp_path: Path, upstream: Upstream, pass_phrase: str) -> None:
    path = tmp_path / "app.pem"
    path.write_bytes(pem_files.usable(pass_phrase)[: -len(pem_files.certificate(pem_files.rsa_key()))] + certificate())
    entra = {"client_certificate": str(path), "client_secret": pass_phrase or None}
    with relay_with(tmp_path, app_config(upstream, entra)) as (_, client):
        log_in(client, "scanner")
        assert send(client) == "250 2.0.0"


def certificate() -> bytes:
    """The one that the sandbox was told of: each call of pem_files makes another, with a number of its own."""
    return read_client_certificate(PAIR, "").chain.encode()


def test_a_certificate_that_entra_does_not_know(tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "app.pem"
    path.write_bytes(pem_files.private(pem_files.rsa_key(1)) + pem_files.certificate(pem_files.rsa_key(1)))
    entra = {"client_certificate": str(path), "client_secret": None}
    with relay_with(tmp_path, app_config(upstream, entra)) as (relay, client):
        assert log_in(client, "scanner") == "235 2.7.0"
        assert send(client) == "451 4.7.0"
        line = relay.wait_for("action_needed")
        assert line["entra_code"] == "AADSTS700027"
        assert "upload" in line["reason"]


def test_an_expired_secret(tmp_path: Path, upstream: Upstream) -> None:
    """AUTH depends on the device's own password; the message waits in the device's queue, and the log says why."""
    with relay_with(tmp_path, app_config(upstream)) as (relay, client):
        upstream.fault(kind="token", status=401, code="7000222")
        assert log_in(client, "scanner") == "235 2.7.0"
        assert send(client) == "451 4.7.0"
        line = relay.wait_for("action_needed")
        assert (line["level"], line["entra_code"]) == ("error", "AADSTS7000222")
        assert "make a new one" in line["reason"]
        assert log_in(client, "scanner", "wrong").startswith("503"), "the session is logged in as before"


def test_an_expired_secret_with_flow_password(tmp_path: Path, upstream: Upstream) -> None:
    """There AUTH itself needs the token: 454, so that no device takes its own password for wrong."""
    with relay_with(tmp_path, config_for(upstream)) as (relay, client):
        upstream.fault(kind="token", status=401, code="7000222")
        assert log_in(client, "a@example.com") == "454 4.7.0"
        assert "make a new one" in relay.wait_for("auth_unavailable", entra_code="AADSTS7000222")["reason"]


@pytest.mark.parametrize("kind", ["password", "client_credentials"])
def test_the_second_of_two_secrets(tmp_path: Path, upstream: Upstream, kind: str) -> None:
    """Entra ID is asked by both the first time, and later only by the one that it takes."""
    entra = {"flow": kind, "client_secret": ["wrong-secret", CLIENT_SECRET]}
    users = USERS if kind == "client_credentials" else None
    with RelayProcess(tmp_path / "relay", app_config(upstream, entra, users=users)) as relay:
        asked = []
        for password in ("one", "two"):  # the sandbox takes any
            with relay.smtp() as client:
                if kind == "password":
                    assert log_in(client, f"{password}@example.com", password) == "235 2.7.0"
                else:
                    if asked:  # so that a new token is wanted
                        upstream.fault(kind="sendMail", status=401, count=1)
                    assert log_in(client, "scanner") == "235 2.7.0"
                assert send(client) == "250 2.0.0"
            asked.append(token_requests(upstream))
        assert asked == [2, 3]
        assert len(upstream.messages()) == 2
        lines = relay.events("client_secret_refused")
        assert [(line["level"], line["entra_code"]) for line in lines] == [("warning", "AADSTS7000215")]
        assert "the first client_secret is refused" in lines[0]["reason"]


def test_one_token_for_all(tmp_path: Path, upstream: Upstream) -> None:
    with RelayProcess(tmp_path / "relay", app_config(upstream)) as relay:
        upstream.fault(kind="token", delay_s=0.3)

        def one(number: int) -> str:
            with relay.smtp() as client:
                log_in(client, "scanner" if number % 2 else "erp")
                return send(client, "device@shop.example")

        with ThreadPoolExecutor(30) as threads:
            assert set(threads.map(one, range(30))) == {"250 2.0.0"}
        assert token_requests(upstream) == 1
        relay.assert_sound()


@pytest.mark.parametrize("told", ["revoked", "insufficient_claims"])
def test_a_token_that_graph_takes_no_more(relay: RelayProcess, upstream: Upstream, told: str) -> None:
    with relay.smtp() as client:
        log_in(client, "scanner")
        assert send(client) == "250 2.0.0"
        before = token_requests(upstream)
        if told == "revoked":
            upstream.revoke()
        else:
            upstream.fault(kind="sendMail", status=403, code="insufficient_claims")
        assert send(client) == "250 2.0.0"
    assert token_requests(upstream) == before + 1
    assert len(upstream.messages()) == 2


def test_a_claims_challenge_that_stays(relay: RelayProcess, upstream: Upstream) -> None:
    """One fresh token and one more try; then it is the administrator's matter (contract §6)."""
    upstream.fault(kind="sendMail", status=403, code="insufficient_claims", count=2)
    with relay.smtp() as client:
        log_in(client, "scanner")
        assert send(client) == "451 4.7.0"
    assert relay.wait_for("action_needed", graph_code="insufficient_claims")["level"] == "error"


# Local users


def test_who_is_let_in(relay: RelayProcess) -> None:
    for user, password in (("scanner", "wrong"), ("nobody", PASSWORD), ("scanner", HASH), ("a@example.com", "x")):
        with relay.smtp() as client:
            assert log_in(client, user, password) == "535 5.7.8"
    assert relay.wait_for("auth_failed", user="nobody")["reason"] == "no such user in users"
    assert relay.wait_for("auth_failed", user="scanner")["reason"] == "the password is wrong"


def test_as_whom_a_local_user_may_write(relay: RelayProcess, upstream: Upstream) -> None:
    with relay.smtp() as client:
        log_in(client, "erp")
        assert client.mail("erp@example.com")[0] == 550
        assert send(client, "orders@shop.example") == "250 2.0.0"
    (message,) = upstream.messages()
    assert (message["mailbox"], message["sender"]) == ("erp@example.com", "orders@shop.example")


def test_the_from_header_is_looked_at_too(relay: RelayProcess, upstream: Upstream) -> None:
    with relay.smtp() as client:
        log_in(client, "erp")
        for envelope in ("orders@shop.example", ""):
            client.mail(envelope)
            client.rcpt("you@example.org")
            code, text = client.data(b"From: boss@example.com\r\nTo: you@example.org\r\n\r\nhello\r\n")
            assert (code, text.split()[0]) == (550, b"5.7.1")
        client.mail("orders@shop.example")
        client.rcpt("you@example.org")
        code, _ = client.data(b"From: orders@shop.example, boss@example.com\r\n\r\nhello\r\n")
        assert code == 550, "each of several"
    assert upstream.messages() == []


# Without a login


def test_an_anonymous_device(relay: RelayProcess, upstream: Upstream) -> None:
    with relay.smtp() as client:
        assert send(client, "printer@example.com") == "250 2.0.0"
        assert client.mail("printer@example.net")[0] == 550
        assert client.mail("printer@example.com")[0] == 250
        assert client.rcpt("boss@example.com")[0] == 550
        assert client.rcpt("you@example.org")[0] == 250
    (message,) = upstream.messages()
    assert (message["mailbox"], message["user"]) == ("printers@example.com", "")


@pytest.mark.parametrize(
    ("default_mailbox", "mailbox"), [("other@example.com", "other@example.com"), ("", "device@example.com")]
)
def test_an_anonymous_device_of_no_entry(
    tmp_path: Path, upstream: Upstream, default_mailbox: str, mailbox: str
) -> None:
    clients = [{"network": "10.0.0.0/8", "mailbox": "printers@example.com"}]
    config = app_config(upstream, allow_anonymous=True, clients=clients, default_mailbox=default_mailbox)
    with relay_with(tmp_path, config) as (_, client):
        assert send(client) == "250 2.0.0"
    assert upstream.messages()[0]["mailbox"] == mailbox


def test_no_login_where_it_is_needed(tmp_path: Path, upstream: Upstream) -> None:
    with relay_with(tmp_path, app_config(upstream)) as (_, client):
        code, text = client.mail("device@example.com")
        assert (code, text.split()[0]) == (530, b"5.7.0")
        assert log_in(client, "", "") == "535 5.7.8"


def test_an_empty_login_is_no_way_around_clients(tmp_path: Path, upstream: Upstream) -> None:
    config = config_for(
        upstream,
        allow_anonymous=True,
        fallback_smtp_user="fallback@example.com",
        fallback_smtp_pass="x",
        clients=[{"network": "127.0.0.1", "allowed_recipients": ["it@example.com"]}],
    )
    with relay_with(tmp_path, config) as (_, client):
        assert log_in(client, "", "") == "235 2.7.0"
        client.mail("device@example.com")
        assert client.rcpt("boss@example.com")[0] == 550
        assert client.rcpt("it@example.com")[0] == 250


# sender_rewrite


@pytest.mark.parametrize("rewrite", ["never", "on_denied", "always"])
def test_sender_rewrite(tmp_path: Path, upstream: Upstream, rewrite: str) -> None:
    with relay_with(tmp_path, app_config(upstream, sender_rewrite=rewrite)) as (relay, client):
        log_in(client, "scanner")
        upstream.fault(kind="sendMail", status=403, code="ErrorSendAsDenied")
        if rewrite != "on_denied":
            assert send(client) == "550 5.7.60"
        assert send(client) == "250 2.0.0"
        line = relay.wait_for("delivered")
    (message,) = upstream.messages()
    rewritten = rewrite != "never"
    assert message["sender"] == ("scanner@example.com" if rewritten else "device@example.com")
    assert line.get("rewritten_from") == ("device@example.com" if rewritten else None)


# Login as tenant and client


def short(long: str) -> str:
    return urlsafe_b64encode(UUID(long).bytes).rstrip(b"=").decode("ascii")


def client_login_config(upstream: Upstream) -> dict[str, Any]:
    config = config_for(upstream)
    return {**config, "oauth2_config": {"flow": "client_login", "authority": upstream.url}}


def test_client_login(tmp_path: Path, upstream: Upstream) -> None:
    with RelayProcess(tmp_path / "relay", client_login_config(upstream)) as relay:
        for user in (f"{TENANT}@{CLIENT_ID}", f"{short(TENANT)}|{CLIENT_ID}", f"{TENANT}:{short(CLIENT_ID)}.x.example"):
            with relay.smtp() as client:
                assert log_in(client, user, CLIENT_SECRET) == "235 2.7.0"
                assert send(client) == "250 2.0.0"
        assert token_requests(upstream) == 1, "one app, however its name is written"
        relay.assert_sound()
    assert {message["mailbox"] for message in upstream.messages()} == {"device@example.com"}


@pytest.mark.parametrize(
    ("user", "password", "words"),
    [
        (f"{TENANT}@{CLIENT_ID}", "wrong", "no client secret"),
        (f"{TENANT}@{TENANT}", CLIENT_SECRET, "has no app"),
        (f"{CLIENT_ID}@{CLIENT_ID}", CLIENT_SECRET, "no tenant"),
        ("scanner@example.com", CLIENT_SECRET, "tenant_id@client_id"),
        (f"{TENANT}@{CLIENT_ID}", "", "empty"),
    ],
)
def test_a_client_login_that_fails(tmp_path: Path, upstream: Upstream, user: str, password: str, words: str) -> None:
    with relay_with(tmp_path, client_login_config(upstream)) as (relay, client):
        assert log_in(client, user, password) == "535 5.7.8"
        assert words in relay.wait_for("auth_failed")["reason"]
        assert log_in(client, f"{TENANT}@{CLIENT_ID}", CLIENT_SECRET) == "235 2.7.0", "and nobody else is kept out"


def test_client_login_while_entra_is_away(tmp_path: Path, upstream: Upstream) -> None:
    with relay_with(tmp_path, client_login_config(upstream)) as (_, client):
        upstream.fault(kind="openid", status=503)
        assert log_in(client, f"{TENANT}@{CLIENT_ID}", CLIENT_SECRET) == "454 4.7.0"
        upstream.fault(kind="openid", status=200, body="html")
        assert log_in(client, f"{TENANT}@{CLIENT_ID}", CLIENT_SECRET) == "454 4.7.0"
        assert log_in(client, f"{TENANT}@{CLIENT_ID}", CLIENT_SECRET) == "235 2.7.0"


# Managed identity

HAS_MANAGED_IDENTITY = hasattr(msal, "ManagedIdentityClient")
needs_managed_identity = pytest.mark.skipif(not HAS_MANAGED_IDENTITY, reason="this msal knows no managed identities")


def identity_config(upstream: Upstream, client_id: str | None) -> dict[str, Any]:
    entra = {"flow": "managed_identity", "client_id": client_id, "client_secret": None, "tenant_id": None}
    return app_config(upstream, entra)


def identity_environment(upstream: Upstream, header: str = IDENTITY_HEADER) -> dict[str, str]:
    return {"IDENTITY_ENDPOINT": f"{upstream.url}/msi/token", "IDENTITY_HEADER": header}


@needs_managed_identity
@pytest.mark.parametrize("client_id", [None, CLIENT_ID], ids=["system", "user"])
def test_managed_identity(tmp_path: Path, upstream: Upstream, client_id: str | None) -> None:
    config = identity_config(upstream, client_id)
    with relay_with(tmp_path, config, identity_environment(upstream)) as (_, client):
        log_in(client, "scanner")
        assert send(client) == "250 2.0.0"
    assert upstream.stats()["requests"]["identity"] == {"200": 1}


@needs_managed_identity
def test_check_online_asks_no_entra_id_where_a_managed_identity_does(tmp_path: Path, upstream: Upstream) -> None:
    """Only the machine's endpoint and Graph need to be within reach."""
    config = identity_config(upstream, None)
    config["oauth2_config"]["authority"] = "https://no-such-host.invalid"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    ended = run_once("check", "--online", "--config", tmp_path / "config.yaml", env=identity_environment(upstream))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "✔ token: for the app" in ended.stdout
    assert "Entra ID" not in ended.stdout


@needs_managed_identity
def test_a_managed_identity_that_is_not_there(tmp_path: Path, upstream: Upstream) -> None:
    config = identity_config(upstream, TENANT)
    with relay_with(tmp_path, config, identity_environment(upstream)) as (relay, client):
        log_in(client, "scanner")
        assert send(client) == "451 4.7.0"
        assert "assign one" in relay.wait_for("action_needed")["reason"]


@pytest.mark.skipif(HAS_MANAGED_IDENTITY, reason="this msal knows managed identities")
def test_an_msal_without_managed_identities(tmp_path: Path, upstream: Upstream) -> None:
    relay = RelayProcess(tmp_path, identity_config(upstream, None))
    outcome = run_once("run", "--config", relay.config_file)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    words = "flow managed_identity needs the Python package msal in version 1.29 or newer"
    assert outcome.stderr == f"{relay.config_file}: {words}\n"


# Memory


def test_a_flood_of_names_leaves_memory_bounded(tmp_path: Path, upstream: Upstream) -> None:
    """Two thousand names that nobody has: what is kept of each is less than would be noticed."""
    config = app_config(upstream, auth_limit={"failures": 100_000, "window": 60})
    cheap = {**USERS[0], "password_hash": "scrypt$ln=1,r=1,p=1$" + "A" * 22 + "==$" + "A" * 43 + "="}
    with RelayProcess(tmp_path / "relay", {**config, "users": [cheap], "log_level": "info"}) as relay:

        def fail(number: int) -> None:
            with relay.smtp() as client:
                for one in range(2):
                    name = f"{number}-{one}-" + "x" * 2000
                    assert log_in(client, name, "x" * 2000) == "535 5.7.8"

        def resident_kib() -> int:
            pages = Path(f"/proc/{relay.process.pid}/statm").read_text().split()[1]
            return int(pages) * resource.getpagesize() // 1024

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(fail, range(100)))
            before = resident_kib()
            list(threads.map(fail, range(100, 1000)))
        assert resident_kib() - before < 3000, "1,800 names and passwords of 4,000 octets would be 7 MiB"
