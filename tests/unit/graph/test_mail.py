# SPDX-License-Identifier: MIT
"""send(): tries, waits and tokens, on a clock that does not wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relay.clock import Deadline
from relay.credentials import Secret
from relay.graph import errors
from relay.graph.errors import AppMisconfigured, CredentialsRefused, GraphError, TokenError, TokenUnavailable
from relay.graph.lanes import Lanes
from relay.graph.mail import Mailer, Receipt
from relay.graph.retry import RetryPolicy
from relay.graph.tries import Errand, Tries
from relay.identity import Credentials
from tests.support.clock import FakeClock
from tests.support.dialog import all_records, check_records

LOGIN = Credentials("a@example.com", Secret("Passw0rd"))


class FakeTokens:
    """Numbers the tokens; a revoked one is not given again. taking_s: what each fetch takes."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.number = 1
        self.revoked: list[str] = []
        self.fault: Exception | None = None
        self.faults: list[Exception] = []  # of the first fetches
        self.times: list[float] = []

    def get(self, login: Credentials, deadline: Deadline) -> Secret:
        assert login is LOGIN
        self.times.append(self._clock.elapsed)
        if self.faults:
            raise self.faults.pop(0)
        if self.fault is not None:
            raise self.fault
        return Secret(f"T0KEN-{self.number}")

    def revoke(self, login: Credentials, token: Secret) -> None:
        self.revoked.append(token.reveal())
        self.number += 1


class FakeClient:
    """Answers in the order scripted: an error, or the request-id of a 202."""

    def __init__(self, clock: FakeClock, *outcomes: GraphError | str, taking_s: float = 1) -> None:
        self._clock = clock
        self._outcomes = list(outcomes)
        self._taking_s = taking_s
        self.times: list[float] = []
        self.tokens: list[str] = []
        self.octets: set[bytes] = set()

    def send_mail(self, mailbox: str, octets: bytes, content_type: str, token: Secret, timeout_s: float) -> str:
        self.times.append(self._clock.elapsed)
        self.tokens.append(token.reveal())
        self.octets.add(octets)
        assert mailbox == "mailbox@example.com"
        assert timeout_s > 0
        self._clock.advance(self._taking_s)
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, GraphError):
            raise outcome
        return outcome


class Scene:
    def __init__(
        self, *outcomes: GraphError | str, attempts: int = 3, timeout_s: float = 110, taking_s: float = 1
    ) -> None:
        self.clock = FakeClock()
        self.tokens = FakeTokens(self.clock)
        self.client = FakeClient(self.clock, *outcomes, taking_s=taking_s)
        self._timeout_s = timeout_s
        self._mailer = Mailer(
            self.client,  # type: ignore[arg-type]
            self.tokens,  # type: ignore[arg-type]
            RetryPolicy(attempts, 0.5),
            self.clock,
            draw=lambda: 0.0,
        )

    def send(self) -> Receipt:
        deadline = Deadline(self.clock, self._timeout_s)
        return self._mailer.send("mailbox@example.com", b"{}", "application/json", LOGIN, deadline, "MESSAGE1")

    def failing(self) -> GraphError:
        with pytest.raises(GraphError) as caught:
            self.send()
        return caught.value


def test_a_202_at_once() -> None:
    scene = Scene("id-1", "never asked for")
    assert scene.send() == Receipt("id-1", 1, False)
    assert scene.clock.sleeps == []


def test_retries_wait_and_end_with_a_202() -> None:
    scene = Scene(errors.ServerBusy(), errors.Throttled(retry_after_s=7), "id-3")
    assert scene.send() == Receipt("id-3", 3, False)
    assert scene.clock.sleeps == [0.5, 7]
    assert scene.client.octets == {b"{}"}, "the same message, Message-ID and all"


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_so_many_tries_and_no_more(attempts: int) -> None:
    scene = Scene(*[errors.ServerBusy() for _ in range(9)], attempts=attempts)
    assert scene.failing().attempts == attempts
    assert len(scene.client.times) == attempts


@pytest.mark.parametrize(
    "kind", [errors.AccessDenied, errors.SendAsDenied, errors.MailboxUnknown, errors.TooLarge, errors.Refused]
)
def test_what_is_for_good_is_not_tried_again(kind: type[GraphError]) -> None:
    scene = Scene(kind(), "never asked for")
    assert type(scene.failing()) is kind
    assert len(scene.client.times) == 1


def test_401_one_fresh_token_and_one_more_try() -> None:
    scene = Scene(errors.NotAuthorized(), "id-2", attempts=1)
    assert scene.send().request_id == "id-2"
    assert scene.client.tokens == ["T0KEN-1", "T0KEN-2"]
    assert scene.tokens.revoked == ["T0KEN-1"]


def test_401_twice() -> None:
    scene = Scene(errors.NotAuthorized(), errors.NotAuthorized(), "never asked for", attempts=9)
    assert type(scene.failing()) is errors.NotAuthorized
    assert scene.client.tokens == ["T0KEN-1", "T0KEN-2"]


def test_401_does_not_use_up_the_tries() -> None:
    scene = Scene(errors.ServerBusy(), errors.NotAuthorized(), errors.ServerBusy(), "id-4")
    assert scene.send().request_id == "id-4"


def test_an_unknown_outcome_is_told_and_waited_for() -> None:
    scene = Scene(errors.OutcomeUnknown(), "id-2")
    with all_records() as records:
        assert scene.send() == Receipt("id-2", 2, True)
    assert scene.clock.sleeps == [5]
    (record,) = [record for record in records if record.getMessage() == "graph_retry"]
    assert record.__dict__["possible_duplicate"] is True
    check_records(records)


def test_what_may_have_gone_stays_possible_to_the_end() -> None:
    scene = Scene(errors.OutcomeUnknown(), errors.ServerBusy(), errors.AccessDenied())
    assert scene.failing().possible_duplicate
    assert not Scene(errors.ServerBusy(), errors.AccessDenied()).failing().possible_duplicate


def test_a_doubt_outlives_a_missing_token() -> None:
    scene = Scene(errors.OutcomeUnknown())
    scene.clock.sleep = lambda seconds: setattr(scene.tokens, "fault", TokenUnavailable("busy"))  # type: ignore[method-assign]
    with pytest.raises(TokenUnavailable) as caught:
        scene.send()
    assert (caught.value.attempts, caught.value.possible_duplicate) == (1, True)


def test_a_retry_after_that_does_not_fit_is_answered_at_once() -> None:
    scene = Scene(errors.Throttled(retry_after_s=61), "never asked for")
    assert type(scene.failing()) is errors.Throttled
    assert scene.clock.sleeps == []


def test_the_deadline_bounds_tries_and_waits() -> None:
    scene = Scene(*[errors.ServerBusy() for _ in range(99)], attempts=99, timeout_s=30)
    scene.failing()
    assert scene.clock.elapsed <= 31
    assert scene.client.times[-1] < 30


def test_no_token_no_request() -> None:
    scene = Scene("never asked for")
    scene.tokens.fault = TokenUnavailable("busy")
    with pytest.raises(TokenUnavailable):
        scene.send()
    assert scene.client.times == []


def test_what_passes_at_entra_id_is_waited_for() -> None:
    scene = Scene("id-1")
    scene.tokens.faults = [TokenUnavailable("busy", "HTTPError"), TokenUnavailable("busy", "HTTPError", 7)]
    with all_records() as records:
        assert scene.send() == Receipt("id-1", 1, False), "attempts are requests to Graph"
    assert scene.clock.sleeps == [0.5, 7]
    check_records(records)
    first, _ = [record.__dict__ for record in records if record.getMessage() == "token_retry"]
    assert (first["message_id"], first["entra_code"], first["delay_s"]) == ("MESSAGE1", "HTTPError", 0.5)
    assert first["reason"] == "busy"


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_entra_id_is_asked_so_often_and_no_more(attempts: int) -> None:
    scene = Scene(attempts=attempts)
    scene.tokens.fault = TokenUnavailable("busy")
    with pytest.raises(TokenUnavailable) as caught:
        scene.send()
    assert len(scene.tokens.times) == attempts
    assert caught.value.attempts == 0


@pytest.mark.parametrize(
    "fault",
    [
        CredentialsRefused("wrong", "AADSTS50126"),
        AppMisconfigured("expired", "AADSTS7000222"),
        TokenUnavailable("locked", "AADSTS50053"),
        TokenUnavailable("in a loop", "AADSTS50196"),
        TokenUnavailable("busy", "HTTPError", 61),
    ],
    ids=lambda fault: fault.entra_code,
)
def test_what_does_not_pass_at_entra_id_is_told_at_once(fault: TokenError) -> None:
    scene = Scene("never asked for")
    scene.tokens.fault = fault
    with pytest.raises(TokenError):
        scene.send()
    assert (len(scene.tokens.times), scene.clock.sleeps) == (1, [])


def test_retries_are_logged_without_secrets() -> None:
    scene = Scene(errors.Throttled(status=429, code="ApplicationThrottled", request_id="id-1", retry_after_s=2), "id-2")
    with all_records() as records:
        scene.send()
    check_records(records)
    (record,) = [record for record in records if record.getMessage() == "graph_retry"]
    facts = record.__dict__
    assert (facts["message_id"], facts["status"], facts["graph_code"]) == ("MESSAGE1", 429, "ApplicationThrottled")
    assert (facts["graph_request_id"], facts["delay_s"], facts["attempts"]) == ("id-1", 2, 1)
    assert "T0KEN" not in str(facts)
    assert "Passw0rd" not in str(facts)


def test_the_token_is_taken_when_its_turn_has_come(clock: FakeClock) -> None:
    """A mailbox may have to wait longer for Graph than a token may be used."""
    taken: list[float] = []

    class Tokens(FakeTokens):
        def get(self, login: Credentials, deadline: Deadline) -> Secret:
            taken.append(clock.elapsed)
            return super().get(login, deadline)

    tries = Tries(Tokens(clock), RetryPolicy(1, 0.5), clock, lanes=Lanes(clock))  # type: ignore[arg-type]

    def run(request: Callable[[Secret], str]) -> str:
        return tries.run(Errand("mailbox@example.com", LOGIN, Deadline(clock, 110), "MESSAGE1"), request)

    def throttled(_: Secret) -> str:
        raise errors.Throttled(retry_after_s=50)

    with pytest.raises(errors.Throttled):
        run(throttled)
    assert run(lambda token: token.reveal()) == "T0KEN-1"
    assert taken == [0, 50]
