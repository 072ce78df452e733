# SPDX-License-Identifier: MIT
"""What Entra ID refused one worker, no other asks again; what is the app's fault each finds out for itself."""

from __future__ import annotations

import copy

import pytest

from relay.clock import Deadline
from relay.credentials import Secret
from relay.graph.entra import Granted
from relay.graph.errors import AppMisconfigured, CredentialsRefused, TokenError, TokenUnavailable
from relay.graph.tokens import COOL_DOWN_S, REFUSAL_MEMORY_S, TokenSource
from relay.identity import Credentials
from relay.workers.journal import Journal
from relay.workers.memory import Locks
from relay.workers.siblings import MOST_REFUSALS, RECORD_OCTETS, TokenSiblings
from tests.support.clock import FakeClock

RIGHT = Credentials("scanner@example.com", Secret("right"))
WRONG = Credentials("scanner@example.com", Secret("wrong"))


class OpenGates:
    """Let everybody in."""

    def enter(self, *_: object) -> bool:
        return True

    def leave(self, *_: object) -> None:
        """Nobody waits."""


class Entra:
    """What the workers ask. fault: its next answers."""

    def __init__(self) -> None:
        self.fault: TokenError | None = None
        self.asked = 0

    def acquire(self, login: Credentials, timeout_s: float) -> Granted:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return Granted(Secret("token"), 3600)


class Scene:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.entra = Entra()
        journal = Journal(MOST_REFUSALS, RECORD_OCTETS, Locks().make())
        key = b"k" * 32
        self.one, self.other = (
            TokenSource(self.entra.acquire, self.clock, TokenSiblings(copy.copy(journal), OpenGates(), key))  # type: ignore[arg-type]
            for _ in range(2)
        )

    def refused(self, worker: TokenSource, login: Credentials) -> TokenError | None:
        try:
            worker.get(login, Deadline(self.clock, 30))
        except TokenError as fault:
            return fault
        return None


def test_a_refused_password_is_not_asked_for_again_elsewhere() -> None:
    scene = Scene()
    scene.entra.fault = CredentialsRefused("user name or password is wrong", "AADSTS50126")
    scene.refused(scene.one, WRONG)
    told = scene.refused(scene.other, WRONG)
    assert isinstance(told, CredentialsRefused)
    assert (told.advice, told.entra_code) == ("user name or password is wrong", "AADSTS50126")
    assert scene.entra.asked == 1
    scene.entra.fault = None
    assert scene.refused(scene.other, RIGHT) is None
    scene.clock.advance(REFUSAL_MEMORY_S)
    assert scene.refused(scene.other, WRONG) is None


def test_a_locked_account_is_left_alone_by_all_whatever_the_password() -> None:
    scene = Scene()
    scene.entra.fault = TokenUnavailable("the account is locked", "AADSTS50053")
    scene.refused(scene.one, WRONG)
    assert isinstance(scene.refused(scene.other, RIGHT), TokenUnavailable)
    scene.clock.advance(COOL_DOWN_S)
    assert scene.entra.asked == 1
    scene.refused(scene.other, RIGHT)
    scene.clock.advance(2 * COOL_DOWN_S - 1)
    scene.refused(scene.one, RIGHT)
    assert scene.entra.asked == 2, "longer each time, whoever asked"


@pytest.mark.parametrize("fault", [AppMisconfigured("mend it", "AADSTS7000222"), TokenUnavailable("busy", "")])
def test_what_is_mended_or_passes_works_at_once_elsewhere(fault: TokenError) -> None:
    scene = Scene()
    scene.entra.fault = fault
    for _ in range(3):
        scene.refused(scene.one, RIGHT)
    scene.entra.fault = None
    assert scene.refused(scene.other, RIGHT) is None
