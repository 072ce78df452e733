# SPDX-License-Identifier: MIT
"""send(): one message to Graph, with tokens, tries and waits. Below it, one request; above, one outcome."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from relay.clock import Clock, Deadline
from relay.graph.client import GraphClient
from relay.graph.errors import GraphError, NotAuthorized
from relay.graph.retry import RetryPolicy, next_delay_s
from relay.graph.tokens import TokenSource
from relay.identity import Credentials

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Graph answered 202.

    attempts: requests it took, not counting one with a token that Graph refused. possible_duplicate: an earlier one may
    have gone through too.
    """

    request_id: str
    attempts: int
    possible_duplicate: bool


class Mailer:
    """Sends through Graph on behalf of a login."""

    def __init__(
        self,
        client: GraphClient,
        tokens: TokenSource,
        policy: RetryPolicy,
        clock: Clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._policy = policy
        self._clock = clock
        self._draw = draw

    def send(
        self, mailbox: str, octets: bytes, content_type: str, login: Credentials, deadline: Deadline, message_id: str
    ) -> Receipt:
        """Until Graph takes it, or there is no use in trying again. Raises GraphError (with attempts), TokenError."""
        attempts = 0
        token_renewed = False
        possible_duplicate = False
        while True:
            token = self._tokens.get(login, deadline)
            attempts += 1
            try:
                request_id = self._client.send_mail(mailbox, octets, content_type, token, deadline.remaining())
                return Receipt(request_id, attempts, possible_duplicate)
            except GraphError as failure:
                failure.attempts = attempts
                failure.possible_duplicate = possible_duplicate or failure.may_have_been_sent
                if isinstance(failure, NotAuthorized) and not token_renewed:
                    self._tokens.revoke(login, token)
                    token_renewed = True
                    attempts -= 1  # nothing was tried yet with a token that works
                    delay: float | None = 0.0
                else:
                    delay = next_delay_s(attempts, failure, deadline.remaining(), self._policy, self._draw())
                if delay is None:
                    raise
                possible_duplicate = failure.possible_duplicate
                self._log_retry(failure, message_id, mailbox, delay)
            self._clock.sleep(delay)

    def _log_retry(self, failure: GraphError, message_id: str, mailbox: str, delay: float) -> None:
        log.warning(
            "graph_retry",
            extra={
                "message_id": message_id,
                "mailbox": mailbox,
                "attempts": failure.attempts,
                "status": failure.status or None,
                "graph_code": failure.code or None,
                "graph_request_id": failure.request_id or None,
                "delay_s": round(delay, 2),
                "possible_duplicate": failure.possible_duplicate or None,
                "reason": failure.advice,
            },
        )
