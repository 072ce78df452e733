# SPDX-License-Identifier: MIT
"""When Microsoft is slow, throttles or gives no clear answer: nothing lost, nothing sent twice (contract §4.5, §6)."""

from __future__ import annotations

import smtplib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Login
from tests.support.relay_process import RelayProcess, config_for, wait_until
from tests.support.sandbox_client import Upstream

RECIPIENT = "you@example.org"
UNCLEAR = {
    "504": {"status": 504},
    "500": {"status": 500},
    "reset": {"reset": "after_body"},
}


@pytest.fixture(scope="module")
def upstream_settings() -> dict[str, Any]:
    return {"permissions": ["Mail.Send", "Mail.Read"], "mailbox_concurrency": 4}


@pytest.fixture(scope="module")
def relay_keys() -> dict[str, Any]:
    return {"save_to_sent": True, "retry_attempts": 2}


def start(client: smtplib.SMTP, login: Login, subject: str = "A report", more: str = "") -> None:
    """Everything up to the final dot, with no look at the answer."""
    assert client.mail(login.user)[0] == 250
    assert client.rcpt(RECIPIENT)[0] == 250
    assert client.docmd("DATA")[0] == 354
    client.send(f"{more}From: {login.user}\r\nTo: {RECIPIENT}\r\nSubject: {subject}\r\n\r\nText.\r\n.\r\n")


def send(relay: RelayProcess, login: Login, subject: str = "A report", more: str = "") -> str:
    """Code and enhanced code."""
    with relay.smtp(login.user, login.password) as client:
        start(client, login, subject, more)
        code, text = client.getreply()
    return f"{code} {text.split()[0].decode()}"


def hang_up(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    """Send a message and close while Graph is being called."""
    client = relay.smtp(login.user, login.password)
    start(client, login)
    wait_until(lambda: upstream.stats()["max_concurrent"].get(login.user), "the request")
    client.close()


def hang_up_unanswered(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    """The same, and Graph answers only afterwards."""
    upstream.fault(kind="sendMail", hold=True)
    hang_up(relay, upstream, login)
    upstream.release()


# Re-sends


def test_a_resend_of_an_unanswered_message(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    hang_up_unanswered(relay, upstream, login)
    first = relay.wait_for("client_hung_up")["message_id"]
    assert send(relay, login) == "250 2.0.0"
    assert len(upstream.messages()) == 1
    line = relay.wait_for("delivered", resend_of=first)
    assert line["attempts"] == 0
    assert send(relay, login) == "250 2.0.0"  # it was answered: this one is meant
    assert len(upstream.messages()) == 2


def test_a_resend_while_the_first_is_on_its_way(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    upstream.fault(kind="sendMail", hold=True)
    hang_up(relay, upstream, login)
    said = len(relay.events("smtp_reply", reply="354"))
    with ThreadPoolExecutor(1) as threads:
        resend = threads.submit(send, relay, login)
        wait_until(lambda: len(relay.events("smtp_reply", reply="354")) > said, "the data of the second")
        upstream.release()
        assert resend.result() == "250 2.0.0"
    assert len(upstream.messages()) == 1


def test_a_resend_of_a_message_that_failed(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    upstream.fault(kind="sendMail", hold=True)
    upstream.fault(kind="sendMail", status=403)
    hang_up(relay, upstream, login)
    upstream.release()
    assert send(relay, login) == "250 2.0.0"
    assert len(upstream.messages()) == 1


def test_a_pipelined_quit_is_no_hang_up(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    for _ in range(2):
        client = relay.smtp(login.user, login.password)
        upstream.fault(kind="sendMail", hold=True)
        start(client, login)
        client.send("QUIT\r\n")
        upstream.release()
        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 221
        client.close()
    assert len(upstream.messages()) == 2


def test_the_same_twice_at_a_time(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    with ThreadPoolExecutor(3) as threads:
        assert set(threads.map(lambda _: send(relay, login), range(3))) == {"250 2.0.0"}
    assert len(upstream.messages()) == 3


# Unknown outcomes


def test_what_has_gone_is_found(relay: RelayProcess, upstream: Upstream) -> None:
    """No second request; with and without a Message-ID of the client's own."""
    headers = ["", "Message-ID: <it's-mine@example.com>\r\n", ""]
    logins = [Login(f"found-{name}@example.com", "x") for name in UNCLEAR]
    for login, fault in zip(logins, UNCLEAR.values(), strict=True):
        upstream.fault(kind="sendMail", user=login.user, accept=True, **fault)
    with ThreadPoolExecutor(3) as threads:
        answers = list(
            threads.map(lambda given: send(relay, given[0], more=given[1]), zip(logins, headers, strict=True))
        )
    assert answers == ["250 2.0.0"] * 3
    assert len(upstream.messages()) == 3
    for login in logins:
        line = relay.wait_for("delivered", user=login.user)
        assert line["found_in_sent_items"] is True
        assert "possible_duplicate" not in line


def test_what_has_not_gone_is_sent(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    upstream.fault(kind="sendMail", status=504)
    assert send(relay, login) == "250 2.0.0"
    assert len(upstream.messages()) == 1
    line = relay.wait_for("delivered", user=login.user)
    assert line["possible_duplicate"] is True
    assert line["waited_ms"] >= 5000


def test_the_copy_of_another_message_is_none_of_this(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    """One Message-ID, other recipients: an MTA that parts a message, or a device that knows only one id."""
    with relay.smtp(login.user, login.password) as client:
        more = "Message-ID: <always@example.com>\r\n"
        assert client.sendmail(login.user, ["other@example.org"], f"{more}Subject: x\r\n\r\nText.\r\n") == {}
        upstream.fault(kind="sendMail", status=504)
        start(client, login, more=more)
        assert client.getreply()[0] == 250
    assert [message["to"] for message in upstream.messages()] == [["other@example.org"], [RECIPIENT]]


def test_found_before_the_client_is_told_to_come_again(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    """ambiguous_outcome: give_up sends nothing twice, and still looks."""
    keys = {"ambiguous_outcome": "give_up", "save_to_sent": True}
    with RelayProcess(tmp_path, config_for(upstream, **keys)) as relay, ThreadPoolExecutor(2) as threads:
        upstream.fault(kind="sendMail", user=login.user, status=502, accept=True)
        upstream.fault(kind="sendMail", user="other@example.com", status=502)
        answers = threads.map(lambda given: send(relay, given), (login, Login("other@example.com", "x")))
        assert list(answers) == ["250 2.0.0", "451 4.4.1"]
        assert len(upstream.messages()) == 1
        assert upstream.stats()["requests"]["sendMail"] == {"502": 2}
        assert relay.wait_for("deferred", user="other@example.com")["possible_duplicate"] is True


def test_doubt_at_the_deadline_is_cleared_when_the_client_comes_again(
    tmp_path: Path, upstream: Upstream, login: Login
) -> None:
    """Graph took the message and never answered: there was no time to look."""
    with RelayProcess(tmp_path, config_for(upstream, save_to_sent=True, submit_timeout=12)) as relay:
        upstream.fault(kind="sendMail", user=login.user, hang=True, accept=True)
        assert send(relay, login) == "451 4.4.1"
        assert relay.wait_for("deferred", user=login.user)["possible_duplicate"] is True
        assert send(relay, login) == "250 2.0.0"
        assert len(upstream.messages()) == 1
        assert relay.wait_for("delivered", user=login.user)["found_in_sent_items"] is True


def test_without_the_permission_to_look(tmp_path: Path, login: Login) -> None:
    with Upstream(tmp_path) as upstream, RelayProcess(tmp_path / "r", config_for(upstream, save_to_sent=True)) as relay:
        for _ in range(2):
            upstream.fault(kind="sendMail", status=504)
            assert send(relay, login) == "250 2.0.0"
        assert "Mail.Read" in relay.wait_for("search_denied")["reason"]
        assert upstream.stats()["requests"]["searchSent"] == {"403": 1}
        assert len(relay.events("delivered", possible_duplicate=True)) == 2


# Throttling


def test_no_more_at_a_time_than_graph_takes(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    upstream.fault(kind="sendMail", count=-1, delay_s=0.1)
    with ThreadPoolExecutor(20) as threads:
        assert set(threads.map(lambda n: send(relay, login, f"{n}"), range(40))) == {"250 2.0.0"}
    stats = upstream.stats()
    assert stats["requests"]["sendMail"] == {"202": 40}
    assert stats["max_concurrent"][login.user] == 4


def test_retry_after_holds_for_the_mailbox_alone(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    with RelayProcess(tmp_path, config_for(upstream, retry_attempts=1)) as relay:
        upstream.fault(kind="sendMail", user=login.user, status=429, retry_after="1")
        start_at = time.monotonic()
        assert send(relay, login) == "451 4.4.5"
        assert send(relay, login) == "250 2.0.0"
        assert time.monotonic() - start_at >= 1
        upstream.fault(kind="sendMail", user=login.user, status=503, retry_after="300")
        assert send(relay, login) == "451 4.4.1"
        assert send(relay, login) == "451 4.4.5"
        assert send(relay, Login("other@example.com", "x")) == "250 2.0.0"
        assert upstream.stats()["requests"]["sendMail"] == {"429": 1, "202": 2, "503": 1}
        assert relay.events("deferred")[-1]["attempts"] == 0


def test_pacing(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    with RelayProcess(tmp_path, config_for(upstream, mailbox_rate="2/s")) as relay:
        start_at = time.monotonic()
        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(lambda n: send(relay, login, f"{n}"), range(4))) == {"250 2.0.0"}
        assert time.monotonic() - start_at >= 1.5
        assert len(upstream.messages()) == 4


def test_what_pacing_lets_go_too_late(tmp_path: Path, upstream: Upstream, login: Login) -> None:
    with RelayProcess(tmp_path, config_for(upstream, mailbox_rate="1/h")) as relay:
        with ThreadPoolExecutor(4) as threads:
            answers = sorted(threads.map(lambda n: send(relay, login, f"{n}"), range(4)))
        assert answers == ["250 2.0.0", *["451 4.4.5"] * 3]
        assert len(upstream.messages()) == 1
