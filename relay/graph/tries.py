# SPDX-License-Identifier: MIT
"""Requests for one message: tokens, turns, tries and waits. Knows when to repeat a request, and not what is in it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from relay.clock import Clock, Deadline
from relay.credentials import Secret
from relay.graph.errors import Congested, GraphError, NotAuthorized, TokenError, UpstreamError
from relay.graph.lanes import Lanes
from relay.graph.retry import RetryPolicy, next_delay_s
from relay.graph.tokens import TokenSource
from relay.identity import Credentials

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Errand:
    """One message on its way: for whom, until when, and how it has gone so far."""

    mailbox: str
    login: Credentials
    deadline: Deadline
    message_id: str
    tries: int = 1  # one more for each request that was repeated
    possible_duplicate: bool = False
    paced: bool = False  # mailbox_rate counts messages, not requests

    def facts(self, failure: GraphError) -> dict[str, object]:
        """What a log line says of a request for it that failed, but for the reason."""
        return {
            "message_id": self.message_id,
            "mailbox": self.mailbox,
            "status": failure.status or None,
            "graph_code": failure.code or None,
            "graph_request_id": failure.request_id or None,
        }


class Tries:
    """Repeats requests as far as that may help."""

    def __init__(
        self,
        tokens: TokenSource,
        policy: RetryPolicy,
        clock: Clock,
        draw: Callable[[], float] = random.random,
        lanes: Lanes | None = None,
    ) -> None:
        """lanes: shared by all that go to the same Graph; None makes lanes for this one alone."""
        self._lanes = lanes or Lanes(clock)
        self._tokens = tokens
        self._policy = policy
        self._clock = clock
        self._draw = draw

    def run(self, errand: Errand, request: Callable[[Secret], T]) -> T:
        """What request gives, which is called with a token, again where that may help. Raises GraphError, TokenError.

        A request has its own count of tries; the deadline is that of the whole errand. A 401 gets one fresh token.
        """
        tries = 0
        token_renewed = False
        while True:
            tries += 1
            try:
                self._pace(errand)
                with self._lanes.turn(errand.mailbox, errand.deadline):
                    token = self._token(errand)  # here, since the turn may be longer in coming than a token lasts
                    with errand.deadline.spending("graph"):
                        return request(token)
            except TokenError as failure:
                delay = self._delay_s(tries, failure, errand)
                if delay is None:
                    raise
                _log_token_retry(failure, errand, delay)
            except GraphError as failure:
                errand.possible_duplicate |= failure.may_have_been_sent
                failure.possible_duplicate = errand.possible_duplicate
                failure.attempts = errand.tries - isinstance(failure, Congested)
                if isinstance(failure, NotAuthorized) and not token_renewed:
                    self._tokens.revoke(errand.login, token)
                    token_renewed = True
                    tries -= 1  # nothing was tried yet with a token that works
                    delay = 0.0
                else:
                    delay = self._delay_s(tries, failure, errand)
                if delay is None:
                    raise
                _log_retry(failure, errand, delay)
                if not isinstance(failure, NotAuthorized):
                    errand.tries += 1
            with errand.deadline.spending("waited"):
                self._clock.sleep(delay)

    def _delay_s(self, tries: int, failure: UpstreamError, errand: Errand) -> float | None:
        return next_delay_s(tries, failure, errand.deadline.remaining(), self._policy, self._draw())

    def _token(self, errand: Errand) -> Secret:
        try:
            with errand.deadline.spending("token"):
                return self._tokens.get(errand.login, errand.deadline)
        except TokenError as failure:  # what was in doubt before stays so
            failure.attempts = errand.tries - 1
            failure.possible_duplicate = errand.possible_duplicate
            raise

    def _pace(self, errand: Errand) -> None:
        if self._lanes.paced and not errand.paced:
            with errand.deadline.spending("waited"):
                self._lanes.pace(errand.mailbox, errand.deadline)
            errand.paced = True


def _log_token_retry(failure: TokenError, errand: Errand, delay: float) -> None:
    log.warning(
        "token_retry",
        extra={
            "message_id": errand.message_id,
            "mailbox": errand.mailbox,
            "entra_code": failure.entra_code or None,
            "delay_s": round(delay, 2),
            "reason": failure.advice,
        },
    )


def _log_retry(failure: GraphError, errand: Errand, delay: float) -> None:
    log.warning(
        "graph_retry",
        extra={
            **errand.facts(failure),
            "attempts": failure.attempts,
            "delay_s": round(delay, 2),
            "possible_duplicate": failure.possible_duplicate or None,
            "reason": failure.advice,
        },
    )
