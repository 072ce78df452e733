# SPDX-License-Identifier: MIT
"""Real clients by plain SMTP, STARTTLS or implicit TLS, with AUTH PLAIN, LOGIN or none, with 8-bit, SMTPUTF8 or 5 MB.

Every test run plays those of each client that differ; GSR_MATRIX=FILE plays all of them and writes what it found,
which packaging/make_clients_doc.py turns into docs/clients.md.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.selfsigned import write_pair
from tests.e2e.conftest import Login, need
from tests.e2e.matrix import CELLS, SENDERS, TEXT, UTF8_RECIPIENT, CannotDoIt, Cell, Order, Sender
from tests.e2e.postfix import Postfix
from tests.support.relay_process import RelayProcess, wait_until
from tests.support.sandbox_client import Upstream

FALLBACK = Login("fallback@example.com", "fallback-password")
WHOLE = os.environ.get("GSR_MATRIX", "")
# One of each kind, so that each security, mechanism and content is there, and each pair of the first two that matters.
CHOSEN = {
    ("plain", "PLAIN", "8-bit"),
    ("plain", "", "8-bit"),
    ("STARTTLS", "LOGIN", "8-bit"),
    ("STARTTLS", "PLAIN", "SMTPUTF8"),
    ("implicit TLS", "PLAIN", "5 MB"),
    ("implicit TLS", "LOGIN", "SMTPUTF8"),
    ("implicit TLS", "", "8-bit"),
}
PLAYED = [cell for cell in CELLS if WHOLE or (cell.security, cell.mechanism, cell.content) in CHOSEN]
Found = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def certificate(directory: Path) -> tuple[str, str]:
    cert_file, key_file = write_pair(directory, ["127.0.0.1", "localhost"], datetime.now(UTC))
    return str(cert_file), str(key_file)


@pytest.fixture(scope="module")
def relay_keys(certificate: tuple[str, str]) -> dict[str, Any]:
    return {
        "tls": {
            "cert_file": certificate[0],
            "key_file": certificate[1],
            "implicit_addr": "127.0.0.1:0",
            "require_for_auth": False,
        },
        "allow_anonymous": True,
        "fallback_smtp_user": FALLBACK.user,
        "fallback_smtp_pass": FALLBACK.password,
    }


@pytest.fixture(scope="module")
def found() -> Iterator[Found]:
    """client → cell → what came of it; and, under the name versions, client → version."""
    results: Found = {"versions": {}}
    yield results
    if WHOLE:
        Path(WHOLE).write_text(json.dumps(results, indent=1), encoding="utf-8")


def port_of(relay: RelayProcess, cell: Cell) -> int:
    return relay.addresses()[1 if cell.security == "implicit TLS" else 0][1]


def assert_arrived(relay: RelayProcess, upstream: Upstream, cell: Cell, login: Login) -> None:
    """As it was sent, by whom, and in TLS where that was asked for."""
    captured = wait_until(upstream.messages, "the message to arrive")
    assert len(captured) == 1
    message = captured[0]["message"]
    assert TEXT in message["body"]["content"]
    (recipient,) = message["toRecipients"]
    wanted = {cell.recipient, UTF8_RECIPIENT.replace("bücher", "xn--bcher-kva")}
    assert recipient["emailAddress"]["address"] in (wanted if cell.content == "SMTPUTF8" else {cell.recipient})
    files = [base64.b64decode(one["contentBytes"]) for one in message.get("attachments", ())]
    assert files == ([cell.file] if cell.file else [])
    assert captured[0]["user"] == (login if cell.mechanism else FALLBACK).user
    line = relay.wait_for("delivered", sender=login.user)
    in_tls = [one["tls"] for one in relay.events("tls_started", session=line["session"])]
    assert bool(in_tls) is (cell.security != "plain")


def note(found: Found, client: str, cell: Cell, outcome: str) -> None:
    found.setdefault(client, {})[cell.id] = outcome


@pytest.mark.parametrize("cell", PLAYED, ids=lambda cell: cell.id)
@pytest.mark.parametrize("sender", SENDERS, ids=lambda sender: sender.name)
def test_cell(
    relay: RelayProcess,
    upstream: Upstream,
    certificate: tuple[str, str],
    login: Login,
    tmp_path: Path,
    found: Found,
    sender: Sender,
    cell: Cell,
) -> None:
    need(sender.program, sender.package)
    for path in sender.also:
        need(path, sender.package)
    if sender.name not in found["versions"]:
        found["versions"][sender.name] = version_of(sender)
    note(found, sender.name, cell, "failed")
    try:
        sender.send(Order(cell, "127.0.0.1", port_of(relay, cell), certificate[0], login, tmp_path))
    except CannotDoIt as why:
        note(found, sender.name, cell, f"cannot: {why}")
        return
    assert_arrived(relay, upstream, cell, login)
    note(found, sender.name, cell, "works")


def version_of(sender: Sender) -> str:
    said = subprocess.run(sender.version, capture_output=True, text=True, timeout=120, check=False)
    return (said.stdout or said.stderr).strip().partition("\n")[0]


@pytest.mark.parametrize("security", ["plain", "STARTTLS", "implicit TLS"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", ""])
def test_postfix(
    relay: RelayProcess,
    upstream: Upstream,
    certificate: tuple[str, str],
    login: Login,
    found: Found,
    security: str,
    mechanism: str,
) -> None:
    """It takes the message by SMTP itself, and hands it on."""
    cells = [cell for cell in PLAYED if (cell.security, cell.mechanism) == (security, mechanism)]
    need("postfix", "postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix of one's own needs root")
    if not cells:
        pytest.skip("only with GSR_MATRIX")
    port = port_of(relay, cells[0])
    found["versions"]["Postfix"] = subprocess.run(
        ["postconf", "-h", "mail_version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    settings = {
        "smtp_sasl_mechanism_filter": mechanism.lower(),
        "smtp_tls_security_level": "none" if security == "plain" else "secure",
        "smtp_tls_wrappermode": "yes" if security == "implicit TLS" else "no",
        "smtp_tls_secure_cert_match": "127.0.0.1",
        "message_size_limit": "30000000",
        "smtputf8_enable": "yes",
    }
    ca = Path(certificate[0]).read_text()
    with Postfix(port, login if mechanism else None, settings=settings, ca=ca) as postfix:
        for cell in cells:
            upstream.reset()
            note(found, "Postfix", cell, "failed")
            order = Order(cell, "127.0.0.1", port, certificate[0], login, Path())
            options = ["SMTPUTF8"] if cell.content == "SMTPUTF8" else []
            postfix.send(login.user, [cell.recipient], order.message, options=["BODY=8BITMIME", *options])
            try:
                assert_arrived(relay, upstream, cell, login)
            except AssertionError as fault:
                raise AssertionError(postfix.log()[-3000:]) from fault
            note(found, "Postfix", cell, "works")
