# SPDX-License-Identifier: MIT
"""Mail of real clients arrives exactly as sent: what each puts on the wire is compared with what the sandbox got."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import CLIENTS, NODE_DIRECTORY, Client, Server
from tests.e2e.conftest import Login, need
from tests.e2e.mails import MAILS, Mail
from tests.e2e.postfix import Postfix
from tests.e2e.reading import Transaction, read_received, read_sent, transactions
from tests.support.relay_process import RelayProcess, wait_until
from tests.support.sandbox_client import Upstream
from tests.support.tee import Tee

POSTFIX_LOGIN = Login("postfix@example.com", "postfix-password")
FALLBACK = Login("fallback@example.com", "fallback-password")


@pytest.fixture(scope="module")
def relay_keys() -> dict[str, Any]:
    return {
        "allow_anonymous": True,
        "fallback_smtp_user": FALLBACK.user,
        "fallback_smtp_pass": FALLBACK.password,
    }


@pytest.fixture(scope="module")
def module_wire(module_relay: RelayProcess) -> Iterator[Tee]:
    with Tee(module_relay.host, module_relay.port) as tee:
        yield tee


@pytest.fixture
def wire(module_wire: Tee, relay: RelayProcess) -> Tee:
    """The way to the relay, on which everything that a client says is kept."""
    module_wire.forget()
    return module_wire


def the_transaction(wire: Tee) -> Transaction:
    """The one that was sent."""
    found = [one for recording in wire.recordings for one in transactions(recording)]
    assert len(found) == 1
    return found[0]


def assert_arrived_as_sent(upstream: Upstream, wire: Tee, mail: Mail, sender: str) -> dict[str, Any]:
    """The message that the sandbox got."""
    messages = wait_until(upstream.messages, "the message to arrive")
    assert len(messages) == 1
    transaction = the_transaction(wire)
    assert transaction.reverse_path == sender
    assert sorted(transaction.forward_paths) == sorted(mail.recipients)
    sent = read_sent(transaction)
    mail.check(sent, sender)
    received = read_received(messages[0])
    if not sent.message_id:  # then the relay makes one
        assert received.message_id
        received = replace(received, message_id="")
    assert received == sent
    assert_hidden(messages[0]["message"], mail.bcc)
    return messages[0]


def assert_hidden(message: dict[str, Any], bcc: tuple[str, ...]) -> None:
    """These addresses stand in the Bcc field and nowhere else."""
    seen = json.dumps({name: value for name, value in message.items() if name != "bccRecipients"})
    assert [addr for addr in bcc if addr in seen] == []


@pytest.mark.parametrize("mail", MAILS, ids=lambda mail: mail.id)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
def test_client(wire: Tee, upstream: Upstream, login: Login, tmp_path: Path, client: Client, mail: Mail) -> None:
    need(client.program, client.package)
    if client.id == "nodemailer":
        need(NODE_DIRECTORY / "node_modules" / "nodemailer", client.package)
    client.send(Server(wire.host, wire.port, login, tmp_path), mail)
    captured = assert_arrived_as_sent(upstream, wire, mail, login.user)
    assert captured["mailbox"] == captured["user"] == login.user
    assert captured["save_to_sent"] is False


@pytest.fixture(scope="module", params=["auth", "anonymous"])
def postfix(request: pytest.FixtureRequest, module_wire: Tee) -> Iterator[Postfix]:
    need("postfix", "postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix of one's own needs root")
    with Postfix(module_wire.port, POSTFIX_LOGIN if request.param == "auth" else None) as running:
        yield running


@pytest.mark.parametrize("mail", MAILS, ids=lambda mail: mail.id)
def test_postfix(postfix: Postfix, wire: Tee, upstream: Upstream, mail: Mail) -> None:
    """It may queue: the recipients and octets are the same, with header fields of Postfix's own above."""
    sender = POSTFIX_LOGIN.user
    postfix.send(sender, mail.recipients, mail.octets(sender))
    captured = assert_arrived_as_sent(upstream, wire, mail, sender)
    assert captured["mailbox"] == (POSTFIX_LOGIN if postfix.logs_in else FALLBACK).user
    assert read_sent(the_transaction(wire)).x_headers == (("X-Scanner", "ready 1"),)
