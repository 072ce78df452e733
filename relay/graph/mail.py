# SPDX-License-Identifier: MIT
"""send(): one message to Graph in one request. Below it, one request; above, one outcome."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from relay.clock import Clock, Deadline
from relay.credentials import Secret
from relay.graph.body import Content
from relay.graph.client import GraphClient
from relay.graph.errors import Congested, GraphError, OutcomeUnknown, UpstreamError
from relay.graph.lanes import Lanes
from relay.graph.retry import UNKNOWN_OUTCOME_WAIT_S, RetryPolicy
from relay.graph.sentitems import SentCopy, SentItems
from relay.graph.tokens import TokenSource
from relay.graph.tries import Errand, Tries
from relay.identity import Credentials


class Receipt(NamedTuple):
    """Graph answered 202.

    attempts: requests it took, not counting one with a token that Graph refused; for a draft one, and one more for each
    request that had to be repeated. possible_duplicate: an earlier one may have gone through too.
    """

    request_id: str
    attempts: int
    possible_duplicate: bool
    found: bool = False  # its answer was unclear, and the message was found in Sent Items


_NOT_FOUND_OUT = (
    "no clear answer from Graph, and whether the message lies in Sent Items could not be found out either; it may have "
    "been sent, look into the recipient's mailbox or a message trace"
)


class Mailer:
    """Sends through Graph on behalf of a login."""

    def __init__(
        self,
        client: GraphClient,
        tokens: TokenSource,
        policy: RetryPolicy,
        clock: Clock,
        draw: Callable[[], float] = random.random,
        lanes: Lanes | None = None,
    ) -> None:
        self.sent_items = SentItems(client, clock)
        self._client = client
        self._clock = clock
        self._tries = Tries(tokens, policy, clock, draw, lanes)

    def send(
        self,
        mailbox: str,
        content: bytes | Content,
        content_type: str,
        login: Credentials,
        deadline: Deadline,
        message_id: str,
        *,
        copy: SentCopy | None = None,
    ) -> Receipt:
        """Until Graph takes it, or there is no use in trying again. Raises GraphError (with attempts), TokenError.

        copy: by what the message is known in Sent Items, None where none is kept there. Behind an unclear answer it is
        looked for before anything is sent again, and before the client is told to come again.
        """
        errand = Errand(mailbox, login, deadline, message_id)
        unclear: list[float] = []  # when an answer was
        looking = False

        def request(token: Secret) -> str | None:
            nonlocal looking
            looking = bool(unclear) and copy is not None
            if unclear and copy is not None and self.sent_items.holds(errand, copy, token):
                return None
            looking = False
            try:
                return self._client.send_mail(mailbox, content, content_type, token, deadline.remaining())
            except GraphError as failure:
                if failure.may_have_been_sent:
                    unclear.append(self._clock.monotonic())
                raise

        try:
            request_id = self._tries.run(errand, request)
        except UpstreamError as failure:
            if not unclear or copy is None or not self._found_at_last(errand, copy, unclear[-1]):
                # What became of the search is no answer to the message: the last one to that was unclear.
                raise _not_found_out(failure) if looking and isinstance(failure, GraphError) else failure from None
            request_id = None
        if request_id is None:
            # Only one request can have sent it. With two unclear ones, the copy may be of either or of both.
            errand.possible_duplicate = len(unclear) > 1
        return Receipt(request_id or "", errand.tries, errand.possible_duplicate, found=request_id is None)

    def was_sent(self, mailbox: str, copy: SentCopy, login: Credentials, deadline: Deadline, message_id: str) -> bool:
        """Whether a message of which there was doubt lies in Sent Items; False too where it may not be looked for.

        Takes the 5 s that it may need to get there. Raises UpstreamError.
        """
        if not self.sent_items.may_look(mailbox, copy):
            return False
        with deadline.spending("waited"):
            self._clock.sleep(min(UNKNOWN_OUTCOME_WAIT_S, deadline.remaining()))
        look = Errand(mailbox, login, deadline, message_id, paced=True)
        try:
            return self._tries.run(look, lambda token: self.sent_items.holds(look, copy, token))
        except GraphError as failure:
            raise _not_found_out(failure) from None

    def _found_at_last(self, errand: Errand, copy: SentCopy, unclear_at: float) -> bool:
        """Whether it lies in Sent Items after all. Takes the 5 s that it may need to get there, if there is time."""
        wait_s = max(unclear_at + UNKNOWN_OUTCOME_WAIT_S - self._clock.monotonic(), 0.0)
        if not self.sent_items.may_look(errand.mailbox, copy) or wait_s >= errand.deadline.remaining():
            return False
        with errand.deadline.spending("waited"):
            self._clock.sleep(wait_s)
        look = Errand(errand.mailbox, errand.login, errand.deadline, errand.message_id, paced=True)
        try:
            return self._tries.run(look, lambda token: self.sent_items.holds(look, copy, token))
        except UpstreamError:
            return False


def _not_found_out(failure: GraphError) -> GraphError:
    """What a search that failed to the end says of the message."""
    if isinstance(failure, Congested):  # nothing was asked
        return failure
    told = OutcomeUnknown(_NOT_FOUND_OUT, status=failure.status, code=failure.code, request_id=failure.request_id)
    told.attempts, told.possible_duplicate = failure.attempts, failure.possible_duplicate
    return told
