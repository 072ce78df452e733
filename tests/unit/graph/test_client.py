# SPDX-License-Identifier: MIT
"""One request to Graph: what is sent, and into which error each failure is translated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from relay.credentials import Secret
from relay.graph import errors
from relay.graph.client import GraphClient
from relay.graph.errors import GraphError

URL = "https://graph.example:8443"
OCTETS = b'{"message": {}}' * 10_000


class FakeResponse:
    def __init__(self, status: int, content: bytes | Exception = b"", **headers: str) -> None:
        self.status_code = status
        self.headers = requests.structures.CaseInsensitiveDict({k.replace("_", "-"): v for k, v in headers.items()})
        self._content = content
        self.closed = False

    @property
    def content(self) -> bytes:
        if isinstance(self._content, Exception):
            raise self._content
        return self._content

    def close(self) -> None:
        self.closed = True


class FakeSession:
    """Takes the body as http.client does, in pieces up to its end, and then answers or fails."""

    def __init__(self, outcome: FakeResponse | Exception, *, taken: int | None = None) -> None:
        """taken: octets that go out before it fails; None for all."""
        self._outcome = outcome
        self._taken = taken
        self.headers = {"Accept": "application/json"}
        self.sent = b""
        self.url = ""
        self.options: dict[str, Any] = {}

    def send(self, request: Any, **options: Any) -> FakeResponse:
        self.url, self.options = request.url, {**options, "headers": request.headers}
        assert request.headers["Content-Length"] == str(len(OCTETS))
        pieces = iter(request.body)
        while self._taken is None or len(self.sent) < self._taken:
            piece = next(pieces, b"")
            if not piece:
                break
            self.sent += piece
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def no_guard(_: float) -> nullcontext[None]:
    return nullcontext()


def send(session: FakeSession, *, mailbox: str = "a@example.com", timeout_s: float = 100, guard: Any = no_guard) -> str:
    client = GraphClient(session, URL, guard)  # type: ignore[arg-type]
    return client.send_mail(mailbox, OCTETS, "application/json", Secret("T0KEN"), timeout_s)


def failure(outcome: FakeResponse | Exception, *, taken: int | None = None) -> GraphError:
    with pytest.raises(GraphError) as caught:
        send(FakeSession(outcome, taken=taken))
    return caught.value


def test_202_gives_the_request_id() -> None:
    session = FakeSession(FakeResponse(202, request_id="id-1"))
    assert send(session) == "id-1"
    assert session.sent == OCTETS
    assert session.url == f"{URL}/v1.0/users/a@example.com/sendMail"
    headers = session.options["headers"]
    assert headers["Authorization"] == "Bearer T0KEN"
    assert headers["Content-Type"] == "application/json"
    assert len(headers["client-request-id"]) == 36
    assert session.options["allow_redirects"] is False, "a redirect would carry the token elsewhere"


def test_202_without_a_request_id_and_with_any_body() -> None:
    assert send(FakeSession(FakeResponse(202, b"odd"))) == ""
    assert send(FakeSession(FakeResponse(202, Retry_After="10", request_id="x"))) == "x", "a 202 is never retried"
    broken = FakeResponse(202, requests.exceptions.ChunkedEncodingError())
    assert send(FakeSession(broken)) == ""
    assert broken.closed


@pytest.mark.parametrize(
    ("mailbox", "path"),
    [
        ("o'neil@example.com", "o%27neil@example.com"),
        ("a/b@example.com", "a%2Fb@example.com"),
        ("a#b?c@example.com", "a%23b%3Fc@example.com"),
        ("a+b@example.com", "a%2Bb@example.com"),
        ("ü@example.com", "%C3%BC@example.com"),
        ("../me", "..%2Fme"),
    ],
)
def test_the_mailbox_stays_one_segment_of_the_path(mailbox: str, path: str) -> None:
    session = FakeSession(FakeResponse(202))
    send(session, mailbox=mailbox)
    assert session.url == f"{URL}/v1.0/users/{path}/sendMail"


@pytest.mark.parametrize("timeout_s", [0.0, 0.001, 5, 100, 10_000])
def test_timeouts_are_by_phase_and_never_zero(timeout_s: float) -> None:
    """requests takes 0 for a fault, and an expired deadline is none."""
    guarded: list[float] = []

    def guard(seconds: float) -> nullcontext[None]:
        guarded.append(seconds)
        return nullcontext()

    session = FakeSession(FakeResponse(202))
    send(session, timeout_s=timeout_s, guard=guard)
    connect, read = session.options["timeout"]
    assert 0 < connect <= 10
    assert 0 < read <= max(timeout_s, 0.001)
    assert read <= 60 + len(OCTETS) / 100_000
    assert guarded == [read]


def test_an_answer_becomes_an_error() -> None:
    found = failure(FakeResponse(403, b'{"error": {"code": "ErrorSendAsDenied"}}', request_id="id-2", Retry_After="3"))
    assert type(found) is errors.SendAsDenied
    assert (found.status, found.code, found.request_id, found.retry_after_s) == (403, "ErrorSendAsDenied", "id-2", 3)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"\xff", b"[]", b'"x"', b"{", b"[" * 100_000, requests.ReadTimeout(), TimeoutError()]
)
def test_the_status_decides_where_the_body_is_none(content: bytes | Exception) -> None:
    found = failure(FakeResponse(503, content, request_id="id-3"))
    assert (type(found), found.request_id) == (errors.ServerBusy, "id-3")


# Which faults requests raises on the way, in its own words.
FAULTS = [
    requests.ConnectionError("x"),
    requests.exceptions.ProxyError("http://user:S3CRET@proxy"),
    requests.exceptions.SSLError("certificate of T0KEN"),
    requests.ConnectTimeout("x"),
    requests.ReadTimeout("x"),
    requests.exceptions.ChunkedEncodingError("x"),
    requests.exceptions.InvalidHeader("Bearer T0KEN"),
    ConnectionResetError("x"),
    TimeoutError("upstream call took too long"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_what_is_known_not_to_have_been_sent(fault: Exception) -> None:
    for taken in (0, 8192, len(OCTETS) - 1):
        found = failure(fault, taken=taken)
        assert type(found) is errors.Unreachable
        assert not found.may_have_been_sent


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_behind_the_whole_body_the_outcome_is_unknown(fault: Exception) -> None:
    found = failure(fault)
    assert type(found) is errors.OutcomeUnknown
    assert found.may_have_been_sent


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_no_error_shows_a_secret_or_the_cause(fault: Exception) -> None:
    for taken in (0, None):
        found = failure(fault, taken=taken)
        assert found.__cause__ is None
        assert found.__suppress_context__
        assert "S3CRET" not in str(found)
        assert "T0KEN" not in str(found)


def test_advice_by_cause() -> None:
    assert "https_proxy" in failure(requests.exceptions.ProxyError(), taken=0).advice
    assert "ca_bundle" in failure(requests.exceptions.SSLError(), taken=0).advice
    assert "DNS" in failure(requests.ConnectionError(), taken=0).advice


def test_the_guard_ends_a_call() -> None:
    @contextmanager
    def expired(_: float) -> Iterator[None]:
        raise TimeoutError
        yield

    with pytest.raises(errors.Unreachable):
        send(FakeSession(FakeResponse(202)), guard=expired)


def retry_after(value: str) -> float | None:
    return failure(FakeResponse(429, Retry_After=value)).retry_after_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        ("120", 120),
        ("1.5", 1.5),
        ("-5", 0),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("soon", None),
    ],
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"])
def test_retry_after_as_a_date(form: str) -> None:
    """RFC 9110 §10.2.3, in the three forms of §5.6.7."""
    in_an_hour = retry_after((datetime.now(UTC) + timedelta(hours=1)).strftime(form))
    assert in_an_hour is not None
    assert 0 < in_an_hour <= 3600
    assert retry_after(datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC).strftime(form)) == 0


@given(st.text(max_size=40))
def test_any_retry_after(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
