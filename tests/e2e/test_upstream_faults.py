# SPDX-License-Identifier: MIT
"""Contract §6, row by row: Graph fails as scripted, the SMTP client is told what the table says, and can go on."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Login
from tests.support.relay_process import RelayProcess, config_for
from tests.support.sandbox_client import Upstream

TEMPORARY = 3  # tries that a passing failure gets
RECIPIENT = "you@example.org"


@pytest.fixture(scope="module")
def relay_keys() -> dict[str, Any]:
    # Four seconds do not hold the 5 s before the retry of an unknown outcome: here such a failure is tried once.
    return {"retry_attempts": TEMPORARY, "submit_timeout": 4}


def send(client: smtplib.SMTP, login: Login, subject: str = "A report") -> tuple[int, str]:
    """The reply to the data: code, and enhanced code with text."""
    assert client.mail(login.user)[0] == 250
    assert client.rcpt(RECIPIENT)[0] == 250
    code, text = client.data(f"From: {login.user}\r\nTo: {RECIPIENT}\r\nSubject: {subject}\r\n\r\nText.\r\n")
    return code, text.decode("ascii")


def reply_of(answer: tuple[int, str]) -> str:
    """Code and enhanced code, as the log writes them."""
    return f"{answer[0]} {answer[1].split()[0]}"


def requests(upstream: Upstream, kind: str = "sendMail") -> dict[str, int]:
    """How many requests of this kind came, by status."""
    found: dict[str, int] = upstream.stats()["requests"].get(kind, {})
    return found


def graph(status: int, code: str = "") -> dict[str, Any]:
    return {"status": status, "code": code}


# fault, reply, requests that it takes, event in the log
ROWS = [
    pytest.param(graph(200), "552 5.3.4", 1, "rejected", id="200"),
    pytest.param(graph(400), "554 5.6.0", 1, "rejected", id="400"),
    pytest.param(graph(400, "ErrorMimeContentInvalidBase64String"), "554 5.6.0", 1, "rejected", id="mime"),
    pytest.param(graph(400, "ErrorInvalidRecipients"), "550 5.1.3", 1, "rejected", id="recipients"),
    pytest.param(graph(400, "ErrorMessageSizeExceeded"), "552 5.3.4", 1, "rejected", id="size"),
    pytest.param(graph(413), "552 5.3.4", 1, "rejected", id="413"),
    pytest.param(graph(401), "451 4.7.0", 2, "deferred", id="401"),
    pytest.param(graph(403), "550 5.7.1", 1, "rejected", id="403"),
    pytest.param(graph(403, "ErrorSendAsDenied"), "550 5.7.60", 1, "rejected", id="send-as"),
    pytest.param(graph(403, "SomethingNew"), "550 5.7.1", 1, "rejected", id="403-unknown"),
    pytest.param(graph(404), "550 5.1.8", 1, "rejected", id="404"),
    pytest.param(graph(404, "MailboxNotEnabledForRESTAPI"), "550 5.1.8", 1, "rejected", id="no-mailbox"),
    pytest.param(graph(404, "ErrorItemNotFound"), "451 4.4.1", 3, "deferred", id="no-item"),
    pytest.param(graph(409, "SomethingNew"), "554 5.6.0", 1, "rejected", id="409"),
    pytest.param(graph(429), "451 4.4.5", 3, "deferred", id="429"),
    pytest.param(graph(429, "ErrorExceededMessageLimit"), "451 4.7.28", 1, "deferred", id="sending-limit"),
    pytest.param(graph(400, "ErrorSubmissionQuotaExceeded"), "451 4.7.28", 1, "deferred", id="quota"),
    pytest.param(graph(403, "ErrorAccountSuspend"), "550 5.7.1", 1, "rejected", id="suspended"),
    pytest.param(graph(403, "ErrorMessageSubmissionBlocked"), "550 5.7.1", 1, "rejected", id="blocked"),
    pytest.param(graph(503), "451 4.4.1", 3, "deferred", id="503"),
    pytest.param({**graph(503), "body": "html"}, "451 4.4.1", 3, "deferred", id="503-html"),
    pytest.param({**graph(503), "body": "empty"}, "451 4.4.1", 3, "deferred", id="503-empty"),
    # Behind these the message may have gone. (A reset before the body is either kind: it races with the last octets.)
    pytest.param(graph(500), "451 4.4.1", 1, "deferred", id="500"),
    pytest.param(graph(502), "451 4.4.1", 1, "deferred", id="502"),
    pytest.param({**graph(504), "accept": True}, "451 4.4.1", 1, "deferred", id="504"),
    pytest.param({"reset": "after_body"}, "451 4.4.1", 1, "deferred", id="reset-after"),
    pytest.param({"hang": True}, "451 4.4.1", 1, "deferred", id="hang"),
]
UNKNOWN_OUTCOME = {"500", "502", "504", "reset-after", "hang"}


@pytest.mark.parametrize(("fault", "reply", "tries", "event"), ROWS)
def test_row(
    relay: RelayProcess,
    upstream: Upstream,
    login: Login,
    fault: dict[str, Any],
    reply: str,
    tries: int,
    event: str,
    request: pytest.FixtureRequest,
) -> None:
    with relay.smtp(login.user, login.password) as client:
        upstream.fault(kind="sendMail", count=tries, **fault)
        answer = send(client, login)
        assert reply_of(answer) == reply
        assert sum(requests(upstream).values()) == tries

        line = relay.wait_for(event, user=login.user)
        assert line["reply"] == reply
        assert line["attempts"] == (1 if fault.get("status") == 401 else tries)
        assert line.get("status") == fault.get("status")
        assert line.get("graph_code") == (fault.get("code") or line.get("graph_code"))
        is_unknown = request.node.callspec.id in UNKNOWN_OUTCOME
        assert line.get("possible_duplicate", False) is is_unknown
        assert line["reason"]
        assert "refused." not in answer[1]  # Graph's own words

        before = upstream.stats()["messages"]
        assert reply_of(send(client, login, "And another")) == "250 2.0.0"  # the session goes on as if nothing was
        assert [message["subject"] for message in upstream.messages(before)] == ["And another"]


def test_a_passing_failure_is_overcome(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    upstream.fault(kind="sendMail", status=503)
    upstream.fault(kind="sendMail", status=429)
    with relay.smtp(login.user, login.password) as client:
        code, text = send(client, login)
    assert code == 250
    message_id = text.split()[-1]
    line = relay.wait_for("delivered", message_id=message_id)
    assert line["attempts"] == TEMPORARY
    assert "possible_duplicate" not in line
    retries = relay.events("graph_retry", message_id=message_id)
    assert [(retry["attempts"], retry.get("status")) for retry in retries] == [(1, 503), (2, 429)]
    assert len(upstream.messages()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(relay: RelayProcess, upstream: Upstream, login: Login, status: int) -> None:
    upstream.fault(kind="sendMail", status=status, retry_after="1")
    with relay.smtp(login.user, login.password) as client:
        start = time.monotonic()
        assert send(client, login)[0] == 250
        assert time.monotonic() - start >= 1.0
    assert requests(upstream) == {str(status): 1, "202": 1}


@pytest.fixture(scope="module")
def unhurried_relay(directory: Path, module_upstream: Upstream) -> Iterator[RelayProcess]:
    """One that has more time than a client here waits for an answer."""
    config = config_for(module_upstream, submit_timeout=50)
    with RelayProcess(directory / "unhurried", config) as running:
        yield running


@pytest.mark.parametrize("retry_after", ["61", "50", "Fri, 31 Dec 2199 23:59:59 GMT"])
def test_retry_after_that_does_not_fit_is_answered_at_once(
    unhurried_relay: RelayProcess, upstream: Upstream, login: Login, retry_after: str
) -> None:
    upstream.fault(kind="sendMail", status=429, retry_after=retry_after)
    with unhurried_relay.smtp(login.user, login.password) as client:
        assert reply_of(send(client, login)) == "451 4.4.5"
    assert requests(upstream) == {"429": 1}


@pytest.mark.parametrize("retry_after", ["soon", "-5", "nan"])
def test_retry_after_that_is_none_is_passed_over(
    relay: RelayProcess, upstream: Upstream, login: Login, retry_after: str
) -> None:
    upstream.fault(kind="sendMail", status=429, retry_after=retry_after)
    with relay.smtp(login.user, login.password) as client:
        assert send(client, login)[0] == 250
    assert requests(upstream) == {"429": 1, "202": 1}


@pytest.mark.parametrize(
    "fault",
    [{"retry_after": "1"}, {"delay_s": 0.3}, {"status": 202, "accept": True, "body": "html"}],
    ids=["retry-after", "slow", "html"],
)
def test_202_is_never_retried(relay: RelayProcess, upstream: Upstream, login: Login, fault: dict[str, Any]) -> None:
    upstream.fault(kind="sendMail", **fault)
    with relay.smtp(login.user, login.password) as client:
        assert send(client, login)[0] == 250
    assert requests(upstream) == {"202": 1}
    assert len(upstream.messages()) == 1


def test_401_brings_a_fresh_token(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    with relay.smtp(login.user, login.password) as client:
        upstream.revoke()
        assert send(client, login)[0] == 250
    assert requests(upstream) == {"401": 1, "202": 1}
    assert requests(upstream, "token") == {"200": 2}
    assert relay.wait_for("delivered", user=login.user)["attempts"] == 1


def test_entra_fails_when_a_fresh_token_is_needed(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    with relay.smtp(login.user, login.password) as client:
        upstream.revoke()
        upstream.fault(kind="token", reset="after_body")
        assert send(client, login)[0] == 250
        upstream.revoke()
        upstream.fault(kind="token", reset="after_body", count=TEMPORARY)
        assert reply_of(send(client, login)) == "451 4.7.0"
        assert send(client, login)[0] == 250
    assert relay.wait_for("deferred", user=login.user)["reply"] == "451 4.7.0"


def test_send_as_denied_by_the_service_itself(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    with relay.smtp(login.user, login.password) as client:
        assert reply_of(send(client, Login("denied@example.com", ""))) == "550 5.7.60"


def test_more_than_one_request_holds(relay: RelayProcess, upstream: Upstream, login: Login) -> None:
    text = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 60_000
    with relay.smtp(login.user, login.password) as client:
        assert client.mail(login.user)[0] == 250
        assert client.rcpt(RECIPIENT)[0] == 250
        code, answer = client.data(text)
        assert (code, answer.split()[0]) == (552, b"5.3.4")
        assert send(client, login)[0] == 250
    assert requests(upstream) == {"202": 1}


@pytest.fixture
def patient_relay(tmp_path: Path, upstream: Upstream) -> Iterator[RelayProcess]:
    """One that has the time to try again behind an unknown outcome."""
    with RelayProcess(tmp_path / "relay", config_for(upstream, retry_attempts=2)) as running:
        yield running
        running.assert_sound()


def test_unknown_outcomes_are_retried_late_and_logged(patient_relay: RelayProcess, upstream: Upstream) -> None:
    """All at once, since each waits 5 s before it tries again: three end well, the last fails a second time."""
    faults: tuple[dict[str, Any], ...] = (
        {"status": 502, "accept": True},
        {"reset": "after_body"},
        {"status": 500},
        {"status": 504, "count": 2},
    )
    logins = [Login(f"unknown-{number}@example.com", "x") for number in range(len(faults))]
    for login, fault in zip(logins, faults, strict=True):
        upstream.fault(kind="sendMail", user=login.user, **fault)

    def deliver(login: Login) -> str:
        with patient_relay.smtp(login.user, login.password) as client:
            return reply_of(send(client, login))

    with ThreadPoolExecutor(len(logins)) as threads:
        assert list(threads.map(deliver, logins)) == ["250 2.0.0"] * 3 + ["451 4.4.1"]
    lines = [patient_relay.events("delivered", "deferred", user=login.user)[0] for login in logins]
    assert [line["event"] for line in lines] == ["delivered"] * 3 + ["deferred"]
    assert all(line["possible_duplicate"] and line["attempts"] == 2 for line in lines)
    assert all(line["duration_ms"] >= 5000 for line in lines)
    retries = patient_relay.events("graph_retry", possible_duplicate=True)
    assert len(retries) == len(logins)
    assert len([message for message in upstream.messages() if message["user"] == logins[0].user]) == 2
