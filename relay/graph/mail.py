# SPDX-License-Identifier: MIT
"""send(): one message to Graph in one request. Below it, one request; above, one outcome."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from relay.clock import Clock, Deadline
from relay.graph.body import Content
from relay.graph.client import GraphClient
from relay.graph.retry import RetryPolicy
from relay.graph.tokens import TokenSource
from relay.graph.tries import Errand, Tries
from relay.identity import Credentials


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
        self._tries = Tries(tokens, policy, clock, draw)

    def send(
        self,
        mailbox: str,
        content: bytes | Content,
        content_type: str,
        login: Credentials,
        deadline: Deadline,
        message_id: str,
    ) -> Receipt:
        """Until Graph takes it, or there is no use in trying again. Raises GraphError (with attempts), TokenError."""
        errand = Errand(mailbox, login, deadline, message_id)
        request_id = self._tries.run(
            errand,
            lambda token: self._client.send_mail(mailbox, content, content_type, token, deadline.remaining()),
        )
        return Receipt(request_id, errand.tries, errand.possible_duplicate)
