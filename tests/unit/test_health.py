# SPDX-License-Identifier: MIT
"""What counts for the relay's readiness: its own login, and what holds for every login."""

from __future__ import annotations

import pytest

from relay.credentials import Secret
from relay.graph.entra import Granted
from relay.graph.errors import FEDERATED, AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable
from relay.health import watched
from relay.identity import Credentials
from relay.stats import Stats
from tests.support.clock import FakeClock

OWN = Credentials("fallback@example.com", Secret("own"))
DEVICE = Credentials("device@example.com", Secret("x"))


@pytest.mark.parametrize(
    ("fault", "of_all"),
    [
        (CredentialsRefused("x", "AADSTS50126"), False),
        (TokenUnavailable("x", "AADSTS50053"), False),
        (TokenUnavailable("x", "AADSTS50196"), False),
        (AppMisconfigured("x", "AADSTS65001"), False),
        (AppMisconfigured("x", "AADSTS50128"), False),
        (TokenUnavailable("x", FEDERATED), False),
        (AppMisconfigured("x", "AADSTS7000222"), True),
        (AppMisconfigured("x"), True),
        (TokenUnavailable("x"), True),
    ],
    ids=repr,
)
def test_one_devices_login_does_not_make_the_relay_unready(fault: TokenError, of_all: bool, clock: FakeClock) -> None:
    def acquire(login: Credentials, timeout_s: float) -> Granted:
        if login.password == Secret("right"):
            return Granted(Secret("T0KEN"), 3600)
        raise fault

    stats = Stats(clock)
    ask = watched(acquire, OWN, stats)
    for login, counts in ((DEVICE, of_all), (OWN, True)):
        with pytest.raises(TokenError):
            ask(login, 5)
        assert bool(stats.token_fault) is counts
        ask(Credentials("another@example.com", Secret("right")), 5)
        assert not stats.token_fault
