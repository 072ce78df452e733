# SPDX-License-Identifier: MIT
"""Tokens: whose they are, how long they are used, who asks Entra ID and how often. msal's application is a fake."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import msal
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from relay.clock import Deadline
from relay.config import EntraConfig
from relay.credentials import Secret
from relay.graph.entra import Granted, PasswordFlow
from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable
from relay.graph.tokens import MOST_REFUSALS, TokenSource, usable_s
from relay.identity import APP_LOGIN, Credentials
from tests.support.clock import FakeClock
from tests.support.dialog import all_records

RIGHT = "right"
WRONG = {"error": "invalid_grant", "error_codes": [50126], "error_description": "AADSTS50126: for S3CRET"}
LOCKED = {"error": "invalid_grant", "error_codes": [50053]}
EXPIRED_SECRET = {"error": "invalid_client", "error_codes": [7000222]}
BUSY = {"error": "temporarily_unavailable", "error_codes": [90033]}

Answer = Any
Script = Callable[[str, str], Answer]


class FakeEntra:
    """Stands for msal's application: right passwords get tokens that are numbered, others what is scripted."""

    def __init__(self) -> None:
        self.right = {"a@example.com": "right", "b@example.com": "other"}
        self.expires_in: Any = 3600
        self.asked: list[tuple[str, str]] = []
        self.built = 0
        self.building: Exception | None = None
        self.script: Script | None = None

    def __call__(self, client_id: str, **options: Any) -> FakeEntra:
        self.built += 1
        self.options = options
        if self.building is not None:
            raise self.building
        return self

    def acquire_token_by_username_password(self, username: str, password: str, scopes: list[str]) -> Answer:
        self.asked.append((username, password))
        answer = self.script(username, password) if self.script else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        if self.right.get(username) != password:
            return WRONG
        return {"access_token": f"T0KEN-{len(self.asked)}", "expires_in": self.expires_in}


@pytest.fixture
def entra(monkeypatch: pytest.MonkeyPatch) -> FakeEntra:
    fake = FakeEntra()
    monkeypatch.setattr(msal, "ConfidentialClientApplication", fake)
    return fake


CONFIG = EntraConfig(client_id="app", client_secrets=(Secret("S3CRET"),), tenant_id="tenant")


def source(config: EntraConfig, http_client: object, clock: FakeClock) -> TokenSource:
    return TokenSource(PasswordFlow(config, http_client, lambda _: nullcontext()).acquire, clock)


@pytest.fixture
def tokens(entra: FakeEntra, clock: FakeClock) -> TokenSource:
    return source(CONFIG, object(), clock)


def login(password: str = RIGHT, user: str = "a@example.com") -> Credentials:
    return Credentials(user, Secret(password))


def get(tokens: TokenSource, clock: FakeClock, password: str = RIGHT, user: str = "a@example.com") -> str:
    return tokens.get(login(password, user), Deadline(clock, 30)).reveal()


# Whose a token is


def test_a_token_is_asked_for_once_and_used_again(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    assert {get(tokens, clock) for _ in range(5)} == {"T0KEN-1"}
    assert entra.asked == [("a@example.com", "right")]
    assert entra.built == 1


def test_a_wrong_password_gets_no_token_while_one_is_cached(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    get(tokens, clock)
    with pytest.raises(CredentialsRefused):
        get(tokens, clock, "wrong")
    assert get(tokens, clock) == "T0KEN-1", "and does not cost the right one its token"


def test_a_wrong_password_is_not_asked_about_again_within_60_s(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    for _ in range(5):
        with pytest.raises(CredentialsRefused) as caught:
            get(tokens, clock, "wrong")
        assert caught.value.entra_code == "AADSTS50126"
        clock.advance(11)
    assert len(entra.asked) == 1
    clock.advance(6)
    with pytest.raises(CredentialsRefused):
        get(tokens, clock, "wrong")
    assert len(entra.asked) == 2


def test_a_reload_does_not_forget_what_was_refused(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    """Open sessions go on with the source before: what is refused there holds for the next one too."""
    entra.script = lambda username, _: LOCKED if username == "locked@example.com" else None
    for password, user in (("wrong", "a@example.com"), ("any", "locked@example.com")):
        with pytest.raises(TokenError):
            get(tokens, clock, password, user)
    new = source(CONFIG, object(), clock)
    new.take_over(tokens)
    with pytest.raises(CredentialsRefused):
        get(tokens, clock, "wronger")
    asked = len(entra.asked)
    for password in ("wrong", "wronger"):
        with pytest.raises(CredentialsRefused):
            get(new, clock, password)
    with pytest.raises(TokenUnavailable):
        get(new, clock, "another", "locked@example.com")
    assert len(entra.asked) == asked
    new.purge()
    clock.advance(61)
    new.purge()
    with pytest.raises(CredentialsRefused):
        get(new, clock, "wrong")
    assert len(entra.asked) == asked + 1


def test_a_reload_asks_again_whether_the_app_is_at_fault(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    """The administrator has mended it in Entra ID, and tells the relay so."""
    entra.script = lambda *_: EXPIRED_SECRET
    for _ in range(2):  # not the first time
        with pytest.raises(AppMisconfigured):
            get(tokens, clock)
    entra.script = None
    with pytest.raises(AppMisconfigured):
        get(tokens, clock)
    new = source(CONFIG, object(), clock)
    new.take_over(tokens)
    assert get(new, clock).startswith("T0KEN")


def test_another_wrong_password_is_asked_about(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    for password in ("wrong", "wronger", "right"):
        try:
            get(tokens, clock, password)
        except CredentialsRefused:
            assert password != "right"
    assert [password for _, password in entra.asked] == ["wrong", "wronger", "right"]


def test_user_names_are_one_in_any_case(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.right["A@Example.com"] = "right"
    assert get(tokens, clock) == get(tokens, clock, user="A@EXAMPLE.com")
    assert len(entra.asked) == 1


def test_users_do_not_share(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    assert get(tokens, clock) != get(tokens, clock, "other", "b@example.com")
    with pytest.raises(CredentialsRefused):
        get(tokens, clock, "right", "b@example.com")


def test_a_new_password_takes_the_place_of_the_old_one(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    get(tokens, clock)
    entra.right["a@example.com"] = "new"
    assert get(tokens, clock, "new") == "T0KEN-2"
    with pytest.raises(CredentialsRefused):
        get(tokens, clock)


def test_the_case_of_a_password_counts(tokens: TokenSource, clock: FakeClock) -> None:
    get(tokens, clock)
    for password in ("RIGHT", "right ", " right", "righ"):
        with pytest.raises(CredentialsRefused):
            get(tokens, clock, password)


def test_any_characters_in_a_password(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    for password in ("", "ü€😀", "\0", "\ud800", "x" * 10_000):
        entra.right["a@example.com"] = password
        assert get(tokens, clock, password).startswith("T0KEN")


# How long it is used


@pytest.mark.parametrize(
    ("expires_in", "usable"),
    [(3600, 3540), (90, 30), (89.9, 30), (60, 30), (30, 30), (29, 29), (1, 1), (0, 0), (-5, 0)],
)
def test_usable_s(expires_in: float, usable: float) -> None:
    assert usable_s(expires_in) == usable


@given(st.floats(-1e6, 1e9))
def test_never_past_its_end_and_never_in_its_last_minute(expires_in: float) -> None:
    usable = usable_s(expires_in)
    assert 0 <= usable <= max(expires_in, 0)
    if expires_in >= 90:
        assert usable <= expires_in - 60


def test_a_token_is_renewed_before_it_expires(tokens: TokenSource, clock: FakeClock) -> None:
    get(tokens, clock)
    clock.advance(3539)
    assert get(tokens, clock) == "T0KEN-1"
    clock.advance(1)
    assert get(tokens, clock) == "T0KEN-2"


def test_a_tokens_life_begins_when_it_is_asked_for(clock: FakeClock) -> None:
    """Entra ID made it before its answer was here: a slow answer must not lengthen it."""
    asked = []

    def slow(login: Credentials, timeout_s: float) -> Granted:
        asked.append(timeout_s)
        clock.advance(20)
        return Granted(Secret(f"T0KEN-{len(asked)}"), 25)

    tokens = TokenSource(slow, clock)
    assert get(tokens, clock) == "T0KEN-1"
    clock.advance(4)
    assert get(tokens, clock) == "T0KEN-1"
    clock.advance(1)
    assert get(tokens, clock) == "T0KEN-2"


@pytest.mark.parametrize("expires_in", [0, -1, "0", None, "soon", float("inf"), float("nan"), [3600]])
def test_a_token_without_a_life_is_used_once(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock, expires_in: object
) -> None:
    entra.expires_in = expires_in
    assert [get(tokens, clock), get(tokens, clock)] == ["T0KEN-1", "T0KEN-2"]


def test_revoke(tokens: TokenSource, clock: FakeClock) -> None:
    get(tokens, clock)
    tokens.revoke(login(), Secret("another"))
    assert get(tokens, clock) == "T0KEN-1", "a newer token than the one that failed stays"
    tokens.revoke(login(), Secret("T0KEN-1"))
    assert get(tokens, clock) == "T0KEN-2"
    tokens.revoke(login(user="nobody"), Secret("T0KEN-2"))


# The app's token ahead of its end


class App:
    """An acquire() for the app: numbered tokens, or a fault."""

    def __init__(self) -> None:
        self.fault: TokenError | None = None
        self.calls = 0
        self.expires_in_s = 3600.0

    def __call__(self, login: Credentials, timeout_s: float) -> Granted:
        assert login is APP_LOGIN
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        return Granted(Secret(f"T0KEN-{self.calls}"), self.expires_in_s)


def sweep(tokens: TokenSource, clock: FakeClock) -> list[str]:
    """What the janitor does each minute; what is logged."""
    with all_records() as records:
        tokens.purge()
        tokens.renew_app_token(Deadline(clock, 60))
    return [record.getMessage() for record in records]


def test_the_apps_token_is_renewed_before_anybody_waits_for_it(clock: FakeClock) -> None:
    app = App()
    tokens = TokenSource(app, clock)
    assert sweep(tokens, clock) == [], "nobody has sent anything yet"
    assert app.calls == 0
    for _ in range(5 * 60):
        calls = app.calls
        tokens.get(APP_LOGIN, Deadline(clock, 30))
        assert app.calls == max(calls, 1), "no message fetches but the first"
        clock.advance(60)
        sweep(tokens, clock)
    assert 5 <= app.calls <= 7


def test_a_failed_renewal_leaves_the_old_token(clock: FakeClock) -> None:
    app = App()
    tokens = TokenSource(app, clock)
    tokens.get(APP_LOGIN, Deadline(clock, 30))
    clock.advance(3400)
    for fault in (TokenUnavailable("busy"), AppMisconfigured("secret expired", "AADSTS7000222")):
        app.fault = fault
        assert sweep(tokens, clock) == ["token_renewal_failed"]
        assert tokens.get(APP_LOGIN, Deadline(clock, 30)).reveal() == "T0KEN-1"
    app.fault = None
    clock.advance(11)
    sweep(tokens, clock)
    assert tokens.get(APP_LOGIN, Deadline(clock, 30)).reveal() == "T0KEN-4"


def test_a_renewal_respects_a_cool_down(clock: FakeClock) -> None:
    """50196 means that Entra ID was asked too often: a renewal each minute would keep it so."""
    app = App()
    tokens = TokenSource(app, clock)
    tokens.get(APP_LOGIN, Deadline(clock, 30))
    clock.advance(3250)
    app.fault = TokenUnavailable("loop", "AADSTS50196")
    calls = []
    for _ in range(4):
        sweep(tokens, clock)
        calls.append(app.calls)
        clock.advance(60)
    assert calls == [2, 3, 3, 4]


def test_a_revoked_app_token_is_fetched_anew_by_the_next_message(clock: FakeClock) -> None:
    app = App()
    tokens = TokenSource(app, clock)
    tokens.revoke(APP_LOGIN, tokens.get(APP_LOGIN, Deadline(clock, 30)))
    assert tokens.get(APP_LOGIN, Deadline(clock, 30)).reveal() == "T0KEN-2"


def test_purge(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    get(tokens, clock)
    with pytest.raises(CredentialsRefused):
        get(tokens, clock, "wrong")
    tokens.purge()
    get(tokens, clock)
    with pytest.raises(CredentialsRefused):
        get(tokens, clock, "wrong")
    assert len(entra.asked) == 2, "what is alive stays"
    clock.advance(4000)
    tokens.purge()
    get(tokens, clock)
    assert len(entra.asked) == 3


# Who asks


def in_threads(count: int, function: Callable[[int], object]) -> list[object]:
    """What each of them came to, exceptions included."""
    outcomes: list[object] = [None] * count

    def run(number: int) -> None:
        try:
            outcomes[number] = function(number)
        except TokenError as fault:
            outcomes[number] = fault

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()
    return outcomes


class Gate:
    """Holds the first fetch until released, and counts how many are in it at a time."""

    def __init__(self, answer: Script) -> None:
        self.inside = threading.Event()
        self.release = threading.Event()
        self._answer = answer

    def __call__(self, user: str, password: str) -> Answer:
        self.inside.set()
        assert self.release.wait(40)
        return self._answer(user, password)


def test_one_fetch_at_a_time_for_one_user(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.script = gate = Gate(lambda user, password: None)
    opener = threading.Thread(target=lambda: (gate.inside.wait(40), gate.release.set()))
    opener.start()
    outcomes = in_threads(8, lambda _: get(tokens, clock))
    opener.join(40)
    assert set(outcomes) == {"T0KEN-1"}
    assert len(entra.asked) == 1


def test_who_waited_for_a_wrong_password_does_not_ask_again(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.script = gate = Gate(lambda user, password: WRONG)
    opener = threading.Thread(target=lambda: (gate.inside.wait(40), gate.release.set()))
    opener.start()
    outcomes = in_threads(8, lambda _: get(tokens, clock, "wrong"))
    opener.join(40)
    assert {type(outcome) for outcome in outcomes} == {CredentialsRefused}
    assert len(entra.asked) == 1


def test_two_hundred_logins_of_one_user_ask_once(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.script = gate = Gate(lambda user, password: None)
    opener = threading.Thread(target=lambda: (gate.inside.wait(40), gate.release.set()))
    opener.start()
    outcomes = in_threads(200, lambda _: get(tokens, clock))
    opener.join(40)
    assert set(outcomes) == {"T0KEN-1"}
    assert len(entra.asked) == 1


class Waiters:
    """An acquire() that holds its first call until so many others wait behind it."""

    def __init__(self, outcome: Granted | TokenError) -> None:
        self.calls = 0
        self.inside = threading.Event()
        self.release = threading.Event()
        self.outcome = outcome

    def __call__(self, login: Credentials, timeout_s: float) -> Granted:
        self.calls += 1
        self.inside.set()
        assert self.release.wait(40)
        if isinstance(self.outcome, TokenError):
            raise self.outcome
        return self.outcome


class Deadlines(Deadline):
    """Tells when its owner is about to wait: get() asks for the time left just before it takes the lock."""

    def __init__(self, clock: FakeClock, asked: threading.Semaphore) -> None:
        super().__init__(clock, 30)
        self._asked = asked

    def remaining(self) -> float:
        self._asked.release()
        return super().remaining()


def race(acquire: Waiters, clock: FakeClock, count: int) -> list[object]:
    """What so many get at once for the app's token, all of them there before Entra ID answers."""
    tokens = TokenSource(acquire, clock)
    arrived = threading.Semaphore(0)

    def release() -> None:
        acquire.inside.wait(40)
        for _ in range(count + 1):  # each on its way to the lock, and the first for its fetch too
            arrived.acquire(timeout=40)
        acquire.release.set()

    opener = threading.Thread(target=release)
    opener.start()
    outcomes = in_threads(count, lambda _: tokens.get(APP_LOGIN, Deadlines(clock, arrived)).reveal())
    opener.join(40)
    return outcomes


def test_two_hundred_messages_fetch_one_app_token(clock: FakeClock) -> None:
    acquire = Waiters(Granted(Secret("T0KEN"), 3600))
    assert set(race(acquire, clock, 200)) == {"T0KEN"}
    assert acquire.calls == 1


def test_who_waited_for_a_failure_takes_it_for_theirs(clock: FakeClock) -> None:
    """Else a hundred messages would wait for a hundred time-outs, one behind the other."""
    acquire = Waiters(TokenUnavailable("out of reach", "x"))
    outcomes = race(acquire, clock, 50)
    assert {(type(outcome), str(outcome)) for outcome in outcomes} == {(TokenUnavailable, "out of reach")}
    assert acquire.calls == 1


def test_users_do_not_wait_for_one_another(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.script = gate = Gate(lambda user, password: None)
    slow = threading.Thread(target=lambda: get(tokens, clock))
    slow.start()
    assert gate.inside.wait(40)
    entra.script = None
    assert get(tokens, clock, "other", "b@example.com")
    gate.release.set()
    slow.join(40)
    assert not slow.is_alive()


def test_waiting_has_an_end(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.script = gate = Gate(lambda user, password: None)
    slow = threading.Thread(target=lambda: get(tokens, clock))
    slow.start()
    assert gate.inside.wait(40)
    with pytest.raises(TokenUnavailable, match="waited too long"):
        tokens.get(login(), Deadline(clock, 0))
    gate.release.set()
    slow.join(40)
    assert get(tokens, clock) == "T0KEN-1"


# What goes wrong


def test_a_locked_account_is_left_alone_whatever_the_password(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.script = lambda user, password: LOCKED
    for password in ("wrong", "right", "third"):
        with pytest.raises(TokenUnavailable):
            get(tokens, clock, password)
    assert len(entra.asked) == 1
    entra.script = None
    clock.advance(61)
    assert get(tokens, clock).startswith("T0KEN")


def asks_after(seconds: float, tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> bool:
    """Whether a login so much later reaches Entra ID."""
    clock.advance(seconds)
    before = len(entra.asked)
    with pytest.raises(TokenUnavailable):
        get(tokens, clock)
    return len(entra.asked) > before


@pytest.mark.parametrize("code", [50053, 50196])
def test_the_cool_down_grows(tokens: TokenSource, entra: FakeEntra, clock: FakeClock, code: int) -> None:
    entra.script = lambda user, password: {"error": "invalid_grant", "error_codes": [code]}
    assert asks_after(0, tokens, entra, clock)
    for seconds in (60, 120, 240, 480, 960, 960, 960):
        assert not asks_after(seconds - 1, tokens, entra, clock)
        tokens.purge()
        assert asks_after(2, tokens, entra, clock)


def test_a_cool_down_starts_anew_behind_a_success(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.script = lambda user, password: LOCKED
    assert asks_after(0, tokens, entra, clock)
    assert asks_after(61, tokens, entra, clock)
    entra.script = None
    clock.advance(121)
    get(tokens, clock)
    clock.advance(3600)
    entra.script = lambda user, password: LOCKED
    assert asks_after(0, tokens, entra, clock)
    assert asks_after(61, tokens, entra, clock)


def test_a_cool_down_is_forgotten_in_the_end(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.script = lambda user, password: LOCKED
    assert asks_after(0, tokens, entra, clock)
    assert asks_after(61, tokens, entra, clock)
    clock.advance(10_000)
    tokens.purge()
    assert asks_after(0, tokens, entra, clock)
    assert asks_after(61, tokens, entra, clock), "the next one is a first one"


def test_one_users_cool_down_is_nobody_elses(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.script = lambda user, password: LOCKED if user == "a@example.com" else None
    assert asks_after(0, tokens, entra, clock)
    assert get(tokens, clock, "other", "b@example.com").startswith("T0KEN")


def test_a_flood_of_names_is_not_remembered_without_limit(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    """The first ones are forgotten, the last ones are not asked about again."""
    names = [f"user-{number}@example.com" for number in range(MOST_REFUSALS + 10)]

    def refused(name: str) -> bool:
        before = len(entra.asked)
        with pytest.raises(CredentialsRefused):
            get(tokens, clock, "x", name)
        return len(entra.asked) == before

    assert not any(refused(name) for name in names)
    assert refused(names[-1])
    assert refused(names[11])
    assert not refused(names[0])


def test_a_token_that_is_cached_outlives_a_lockout(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    get(tokens, clock)
    entra.script = lambda user, password: LOCKED
    with pytest.raises(TokenUnavailable):
        get(tokens, clock, "wrong")
    assert get(tokens, clock) == "T0KEN-1"


def test_a_fault_of_the_app_that_is_mended_is_over_at_once(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.script = lambda user, password: EXPIRED_SECRET
    with pytest.raises(AppMisconfigured):
        get(tokens, clock)
    entra.script = None
    assert get(tokens, clock).startswith("T0KEN")
    assert entra.built == 2, "with a new application, since the old one may hold what is mended"


def test_a_fault_of_the_app_that_stays_is_asked_about_more_and_more_seldom(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    """Else a device that tries in a loop gets AADSTS50196 for the app."""
    entra.script = lambda user, password: EXPIRED_SECRET
    for _ in range(3600):
        with pytest.raises(AppMisconfigured):
            get(tokens, clock)
        clock.advance(1)
    assert 2 < len(entra.asked) <= 70
    entra.script = None
    clock.advance(60)
    assert get(tokens, clock).startswith("T0KEN"), "never longer than a minute behind its end"
    entra.script = lambda user, password: EXPIRED_SECRET
    clock.advance(3600)
    asked = len(entra.asked)
    for _ in range(2):
        with pytest.raises(AppMisconfigured):
            get(tokens, clock)
    assert len(entra.asked) == asked + 2, "and the next one is a first one"


def test_what_entra_says_of_the_app_to_one_user_is_nobody_elses(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock
) -> None:
    """Consent may be one user's, and some tenants are looked for by the user's name."""
    entra.script = lambda user, password: EXPIRED_SECRET if user == "a@example.com" else None
    for _ in range(3):
        with pytest.raises(AppMisconfigured):
            get(tokens, clock)
        assert get(tokens, clock, "other", "b@example.com").startswith("T0KEN")


def test_who_waited_for_a_fault_of_the_app_takes_it_for_theirs(clock: FakeClock) -> None:
    acquire = Waiters(AppMisconfigured("the secret has expired", "AADSTS7000222"))
    assert {type(outcome) for outcome in race(acquire, clock, 50)} == {AppMisconfigured}
    assert acquire.calls == 1


def test_a_passing_fault_is_not_remembered(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.script = lambda user, password: BUSY
    with pytest.raises(TokenUnavailable):
        get(tokens, clock)
    entra.script = None
    assert get(tokens, clock) == "T0KEN-2"


def test_a_start_without_network_heals(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.building = requests.ConnectionError("no route to S3CRET")
    with pytest.raises(TokenUnavailable, match="cannot be reached"):
        get(tokens, clock)
    entra.building = None
    assert get(tokens, clock) == "T0KEN-1"
    assert entra.built == 2


def test_an_unknown_tenant(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    entra.building = ValueError("OIDC Discovery failed: S3CRET")
    with pytest.raises(AppMisconfigured, match="tenant"):
        get(tokens, clock)


FAULTS = [
    (requests.ConnectionError("S3CRET"), TokenUnavailable, "cannot be reached"),
    (requests.exceptions.SSLError("S3CRET"), TokenUnavailable, "ca_bundle"),
    (requests.exceptions.ProxyError("http://user:S3CRET@proxy"), TokenUnavailable, "https_proxy"),
    (requests.ReadTimeout("S3CRET"), TokenUnavailable, "in time"),
    (TimeoutError("S3CRET"), TokenUnavailable, "in time"),
    (OSError("S3CRET"), TokenUnavailable, "cannot be reached"),
    (requests.exceptions.JSONDecodeError("S3CRET", "S3CRET", 0), TokenUnavailable, "Entra ID"),
    (ValueError("S3CRET"), CredentialsRefused, "federated"),  # msal on WS-Trust
    (RuntimeError("S3CRET"), CredentialsRefused, "federated"),
    (KeyError("S3CRET"), TokenUnavailable, "no usable answer"),
    (TypeError("S3CRET"), TokenUnavailable, "no usable answer"),
]


@pytest.mark.parametrize(("fault", "kind", "words"), FAULTS, ids=lambda value: type(value).__name__)
def test_whatever_msal_raises(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock, fault: Exception, kind: type[TokenError], words: str
) -> None:
    entra.script = lambda user, password: fault
    with pytest.raises(TokenError, match=words) as caught:
        get(tokens, clock)
    assert type(caught.value) is kind
    assert "S3CRET" not in f"{caught.value} {caught.value.entra_code}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("answer", [{}, [], "x", {"access_token": ""}, {"error_codes": 5}, {"error": ["x"]}])
def test_whatever_msal_returns(tokens: TokenSource, entra: FakeEntra, clock: FakeClock, answer: object) -> None:
    entra.script = lambda user, password: answer
    with pytest.raises(TokenUnavailable):
        get(tokens, clock)


@pytest.mark.parametrize("answer", [WRONG, LOCKED, EXPIRED_SECRET], ids=["wrong", "locked", "app"])
def test_a_remembered_fault_holds_nothing_of_who_met_it(
    tokens: TokenSource, entra: FakeEntra, clock: FakeClock, answer: object
) -> None:
    """An exception keeps its frames alive, and in those of a submission lies the whole message."""

    class Content:
        pass

    def submit() -> weakref.ref[Content]:
        content = Content()
        with pytest.raises(TokenError):
            get(tokens, clock)
        return weakref.ref(content)

    entra.script = lambda user, password: answer
    seen = [submit() for _ in range(3)]
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3
    assert len(entra.asked) < 3


def test_no_log_record_holds_password_or_token(tokens: TokenSource, entra: FakeEntra, clock: FakeClock) -> None:
    with all_records() as records:
        get(tokens, clock)
        for password, fault in (("Passw0rd", None), ("Passw0rd2", RuntimeError("Passw0rd2"))):
            entra.script = lambda user, password, fault=fault: fault  # type: ignore[misc]
            with pytest.raises(TokenError):
                get(tokens, clock, password)
    shown = " ".join(str(record.__dict__) for record in records)
    assert records
    for secret in ("T0KEN", "right", "Passw0rd", "S3CRET"):
        assert secret not in shown


# What msal is given


@pytest.mark.parametrize(
    ("authority", "instance_discovery"),
    [
        ("https://login.microsoftonline.com", None),
        ("https://login.microsoftonline.us", None),
        ("https://login.microsoftonline.com:8443", False),
        ("https://127.0.0.1:8443", False),
        ("https://entra.example", False),
    ],
)
def test_msals_options(entra: FakeEntra, clock: FakeClock, authority: str, instance_discovery: bool | None) -> None:
    """Contract §7: a port or an unknown host means instance_discovery=False and our own http_client."""
    config = EntraConfig(client_id="app", client_secrets=(Secret("S3CRET"),), tenant_id="tenant", authority=authority)
    asked: list[str] = []

    def ask(url: str) -> SimpleNamespace:
        asked.append(url)
        return SimpleNamespace(status_code=200)

    get(source(config, SimpleNamespace(get=ask), clock), clock)
    assert entra.options["authority"] == f"{authority}/tenant"
    assert entra.options["instance_discovery"] is instance_discovery
    assert entra.options["http_client"].get(authority).status_code == 200
    assert asked == [authority]
    assert entra.options["client_credential"] == "S3CRET"
