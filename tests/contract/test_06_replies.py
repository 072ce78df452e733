# SPDX-License-Identifier: MIT
"""The table of replies, line by line, through everything that lies between an HTTP answer and the SMTP client."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest
import requests

from relay.accounts import Accounts
from relay.authentication import Authenticator
from relay.clock import Deadline
from relay.config import AuthLimit, Config, GraphConfig
from relay.credentials import Secret
from relay.delivery import Delivery
from relay.graph.client import GraphClient
from relay.graph.errors import TooLarge
from relay.graph.mail import Mailer
from relay.graph.retry import RetryPolicy
from relay.identity import Credentials
from relay.loginlimit import LoginLimit
from relay.resends import Resends
from relay.smtp.session import Session
from relay.submission import Submission
from tests.support.backend import CLIENT
from tests.support.clock import FakeClock
from tests.support.dialog import SETTINGS, all_records, check_records
from tests.support.graph_api import no_large_mail
from tests.support.wire import ENVELOPE, LOGIN, line_io

Answer = tuple[int, str, dict[str, str]] | Exception


class Tokens:
    def __init__(self) -> None:
        self.revoked = 0

    def get(self, login: Credentials, deadline: Deadline) -> Secret:
        return Secret(f"T0KEN-{self.revoked}")

    def revoke(self, login: Credentials, token: Secret) -> None:
        self.revoked += 1


class Http:
    """Gives these answers one after the other, the last one for ever."""

    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers
        self.headers: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.tokens: list[str] = []

    def send(self, request: Any, **_: Any) -> requests.Response:
        self.bodies.append(b"".join(request.body))
        self.tokens.append(request.headers["Authorization"])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, code, more = answer
        response = requests.Response()
        response.status_code = status
        content = {"error": {"code": code, "message": "UPSTREAM-TEXT"}} if code else None
        response._content = json.dumps(content).encode() if content else b""
        response.headers.update({"request-id": "graph-1", **more})
        return response


class NoDrafts:
    """The large path, closed."""

    limit_bytes = 4_000_000

    def send(self, *_: Any) -> Any:
        raise TooLarge


class Scene:
    def __init__(self, *answers: Answer, retry_attempts: int = 3) -> None:
        self.clock = FakeClock()
        self.http = Http(list(answers))
        self.tokens = Tokens()
        mailer = Mailer(
            GraphClient(self.http, "https://graph.example", lambda _: nullcontext()),  # type: ignore[arg-type]
            self.tokens,  # type: ignore[arg-type]
            RetryPolicy(retry_attempts, 0.5),
            self.clock,
        )
        limit = LoginLimit(AuthLimit(), self.clock)
        authenticator = Authenticator(Accounts(Config()), limit, self.tokens, self.clock)  # type: ignore[arg-type]
        config = GraphConfig()
        delivery = Delivery(mailer, no_large_mail(config, self.clock), config, self.clock)
        self._submission = Submission(authenticator, delivery, Resends(self.clock), 110, self.clock)

    def reply(self) -> str:
        """The answer to a message; and the session is still usable behind it."""
        io, sock = line_io([LOGIN, ENVELOPE, b"Subject: x\r\n\r\ntext\r\n.\r\n", b"NOOP\r\n"], self.clock)
        with all_records() as records:
            Session(io, CLIENT, self._submission, SETTINGS).run()
        check_records(records)
        *_, reply, noop = b"".join(sock.sent).decode().splitlines()
        assert noop == "250 2.0.0 Ok"
        assert "UPSTREAM-TEXT" not in reply
        assert "UPSTREAM-TEXT" not in "".join(str(record.__dict__) for record in records)
        assert "T0KEN" not in "".join(str(record.__dict__) for record in records)
        return " ".join(reply.split()[:2])


def answer(status: int, code: str = "", **headers: str) -> Answer:
    return status, code, {name.replace("_", "-"): value for name, value in headers.items()}


ROWS: list[tuple[str, Answer, str, int]] = [
    ("202", answer(202), "250 2.0.0", 1),
    ("202 with Retry-After", answer(202, Retry_After="9"), "250 2.0.0", 1),
    ("200 on sendMail", answer(200), "552 5.3.4", 1),
    ("429", answer(429), "451 4.4.5", 3),
    ("over the concurrency", answer(429, "ApplicationThrottled"), "451 4.4.5", 3),
    ("500", answer(500), "451 4.4.1", 3),
    ("502", answer(502), "451 4.4.1", 3),
    ("503", answer(503), "451 4.4.1", 3),
    ("504", answer(504), "451 4.4.1", 3),
    ("other 5xx", answer(501), "451 4.4.1", 3),
    ("other 5xx", answer(507), "451 4.4.1", 3),
    ("other 5xx", answer(509), "451 4.4.1", 3),
    ("timeout", requests.ReadTimeout(), "451 4.4.1", 3),
    ("connection failure", requests.ConnectionError(), "451 4.4.1", 3),
    ("TLS failure", requests.exceptions.SSLError(), "451 4.4.1", 3),
    ("401 twice", answer(401, "InvalidAuthenticationToken"), "451 4.7.0", 2),
    ("403 ErrorSendAsDenied", answer(403, "ErrorSendAsDenied"), "550 5.7.60", 1),
    ("403 ErrorAccessDenied", answer(403, "ErrorAccessDenied"), "550 5.7.1", 1),
    ("other 403", answer(403, "Other"), "550 5.7.1", 1),
    ("404", answer(404), "550 5.1.8", 1),
    ("mailbox unknown", answer(404, "ErrorInvalidUser"), "550 5.1.8", 1),
    ("not in Exchange Online", answer(404, "MailboxNotEnabledForRESTAPI"), "550 5.1.8", 1),
    ("413", answer(413), "552 5.3.4", 1),
    ("ErrorMessageSizeExceeded", answer(400, "ErrorMessageSizeExceeded"), "552 5.3.4", 1),
    ("invalid recipients", answer(400, "ErrorInvalidRecipients"), "550 5.1.3", 1),
    ("other 4xx", answer(400, "Other"), "554 5.6.0", 1),
    ("other 4xx", answer(422), "554 5.6.0", 1),
    ("sending limit", answer(429, "ErrorExceededMessageLimit"), "451 4.7.28", 1),
    ("sending limit", answer(403, "ErrorSubmissionQuotaExceeded"), "451 4.7.28", 1),
    ("submission blocked", answer(403, "ErrorMessageSubmissionBlocked"), "550 5.7.1", 1),
    ("account suspended", answer(403, "ErrorAccountSuspend"), "550 5.7.1", 1),
    ("404 on a draft just made", answer(404, "ErrorItemNotFound"), "451 4.4.1", 3),
]


@pytest.mark.parametrize(("name", "upstream", "status", "requests_made"), ROWS, ids=[row[0] for row in ROWS])
def test_row(name: str, upstream: Answer, status: str, requests_made: int) -> None:
    scene = Scene(upstream)
    assert scene.reply() == status
    assert len(scene.http.bodies) == requests_made


def test_401_then_202() -> None:
    scene = Scene(answer(401), answer(202), retry_attempts=1)
    assert scene.reply() == "250 2.0.0"
    assert scene.http.tokens == ["Bearer T0KEN-0", "Bearer T0KEN-1"]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_retry_attempts(attempts: int) -> None:
    scene = Scene(answer(503), retry_attempts=attempts)
    scene.reply()
    assert len(scene.http.bodies) == attempts


def test_a_retry_carries_the_same_message() -> None:
    """Message-ID and all."""
    scene = Scene(answer(504), answer(503), answer(202))
    assert scene.reply() == "250 2.0.0"
    assert len(set(scene.http.bodies)) == 1


def test_retry_after_is_honoured_and_what_does_not_fit_is_answered_at_once() -> None:
    scene = Scene(answer(429, Retry_After="17"), answer(202))
    assert scene.reply() == "250 2.0.0"
    assert scene.clock.sleeps == [17]
    scene = Scene(answer(429, Retry_After="61"))
    assert scene.reply() == "451 4.4.5"
    assert scene.clock.sleeps == []


@pytest.mark.parametrize("upstream", [answer(500), answer(502), answer(504), requests.ReadTimeout()])
def test_an_unknown_outcome_waits_at_least_5_s(upstream: Answer) -> None:
    scene = Scene(upstream, answer(202))
    scene.reply()
    assert scene.clock.sleeps == [5]
