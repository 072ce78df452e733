# SPDX-License-Identifier: MIT
"""Large mail: what one request cannot hold goes as a draft, its attachments one by one, and is then sent.

Knows what may go this way, which mailboxes lately were denied it, and what one request was found to hold. How a
draft is made is draft.py's.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable

from relay.clock import Clock, Deadline
from relay.graph.body import Content
from relay.graph.client import GraphClient
from relay.graph.denials import Denials
from relay.graph.draft import Draft
from relay.graph.errors import AccessDenied, TooLarge, UpstreamError
from relay.graph.lanes import Lanes
from relay.graph.mail import Receipt
from relay.graph.payload import draft_json
from relay.graph.retry import RetryPolicy
from relay.graph.tokens import TokenSource
from relay.graph.tries import Errand, Tries
from relay.identity import Credentials
from relay.message.model import Address, Attachment, Message, Recipients

log = logging.getLogger(__name__)

LEFT_FOR_S = 3600.0  # a draft that could not be deleted is tried again for as long
_MOST_LEFT = 1000  # of them; the oldest is forgotten first
_LEAST_LIMIT_BYTES = 65_536
_DENIED = (
    "a message of this size needs a draft and Graph denies it: grant the app Mail.ReadWrite beside Mail.Send, of the "
    "same type and with admin consent (a delegated one holds for the user's own mailbox only); not tried again for "
    "ten minutes"
)


class LargeMail:
    """Sends what is over the limit of one request."""

    def __init__(
        self,
        client: GraphClient,
        tokens: TokenSource,
        policy: RetryPolicy,
        clock: Clock,
        single_request_limit_bytes: int,
        draw: Callable[[], float] = random.random,
        lanes: Lanes | None = None,
    ) -> None:
        self.limit_bytes = single_request_limit_bytes  # what one sendMail holds, as far as is known
        self._configured_bytes = single_request_limit_bytes
        self._client = client
        self._tries = Tries(tokens, policy, clock, draw, lanes)
        self._clock = clock
        self._denied = Denials(clock)  # drafts
        self._left: deque[tuple[Draft, Errand, float]] = deque(maxlen=_MOST_LEFT)  # until when it is tried

    def send(
        self,
        mailbox: str,
        message: Message,
        recipients: Recipients,
        from_: Address,
        login: Credentials,
        deadline: Deadline,
        message_id: str,
        *,
        keep_copy: bool = True,
    ) -> Receipt:
        """Until Graph has taken it. Raises GraphError, with TooLarge for what cannot go this way; TokenError."""
        content = draft_json(message, recipients, from_, message_id, keep_copy=keep_copy)
        self._check(mailbox, content)
        errand = Errand(mailbox, login, deadline, message_id)
        draft = Draft(self._client, self._tries, self._clock, errand)
        try:
            self._build(draft, content, message.attachments, errand)
            return Receipt(draft.send(), errand.tries, errand.possible_duplicate)
        finally:
            self._leave_nothing(draft, errand)

    def lower_limit(self, size_bytes: int, message_id: str) -> None:
        """Remember that sendMail refused a request of this size, and that the same message went as a draft."""
        self.limit_bytes = min(self.limit_bytes, max(size_bytes - 1, _LEAST_LIMIT_BYTES))
        log.info(
            "limit_lowered",
            extra={
                "message_id": message_id,
                "size_bytes": size_bytes,
                "limit_bytes": self.limit_bytes,
                "reason": "Graph refused a request below single_request_limit; larger ones go as drafts from now on",
            },
        )

    def delete_left(self) -> None:
        """The drafts that could not be deleted when their message had failed; the janitor's task."""
        for _ in range(len(self._left)):
            draft, errand, until = self._left.popleft()
            try:
                draft.clean_up()
            except UpstreamError:
                if until > self._clock.monotonic():
                    self._left.append((draft, errand, until))
                return  # the others' turn comes next time: Graph may be short of room now
            log.info("draft_cleaned_up", extra={"message_id": errand.message_id, "mailbox": errand.mailbox})

    def take_over(self, earlier: LargeMail) -> None:
        """What one of an earlier configuration has learnt of Graph's limit, unless the new one says otherwise.

        What it has left, and leaves while its last messages go, is for us to delete.
        """
        if earlier._configured_bytes == self._configured_bytes:
            self.limit_bytes = earlier.limit_bytes
        self._left = earlier._left

    def purge(self) -> None:
        """Forget the mailboxes that may be asked for again; the janitor's task."""
        self._denied.purge()

    def _leave_nothing(self, draft: Draft, errand: Errand) -> None:
        try:
            draft.clean_up()
        except UpstreamError as fault:
            self._left.append((draft, errand, self._clock.monotonic() + LEFT_FOR_S))
            reason = f"a draft may be left in the mailbox's Drafts folder, tried again for an hour: {fault.advice}"
            names = {"message_id": errand.message_id, "mailbox": errand.mailbox}
            log.warning("draft_left_behind", extra={**names, "reason": reason})

    def _check(self, mailbox: str, content: Content) -> None:
        """Raises TooLarge for what needs no try."""
        fault = ""
        if len(content) > self._configured_bytes:
            fault = "the text alone, without attachments, is over single_request_limit"
        elif mailbox in self._denied:
            fault = _DENIED
        if fault:
            raise TooLarge(fault)

    def _build(self, draft: Draft, content: Content, attachments: tuple[Attachment, ...], errand: Errand) -> None:
        try:
            draft.create(content)
            for attachment in attachments:
                draft.attach(attachment)
        except AccessDenied as denied:
            self._denied.add(errand.mailbox)
            log.error("large_mail_denied", extra={**errand.facts(denied), "reason": _DENIED})
            refusal = TooLarge(_DENIED, status=denied.status, code=denied.code, request_id=denied.request_id)
            refusal.attempts = denied.attempts
            raise refusal from None
