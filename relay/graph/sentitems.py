# SPDX-License-Identifier: MIT
"""Whether a message lies in Sent Items: what is asked when Graph gave no clear answer to its sending.

Knows what makes a copy that message's own, and which mailboxes may not be looked into. Sends and decides nothing.
Sources: Graph, "List messages", "message resource type" (internetMessageId, sentDateTime).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from relay.clock import Clock
from relay.credentials import Secret
from relay.graph.client import Bearer, GraphClient
from relay.graph.denials import Denials
from relay.graph.errors import AccessDenied, GraphError, NotAuthorized, StepUnclear
from relay.graph.tries import Errand

log = logging.getLogger(__name__)

_SKEW = timedelta(minutes=2)  # between Microsoft's clock and ours
_RECIPIENTS = ("toRecipients", "ccRecipients", "bccRecipients")
_LONGEST_ID = 500  # characters; it has to fit into a URL
_MOST_ITEMS = "50"


@dataclass(frozen=True, slots=True)
class SentCopy:
    """By what the copy of one message is known.

    The Message-ID alone would not do: an MTA sends one message to several groups of recipients under the same one, and
    some devices use one for ever. A copy of another would be taken for this message, and this message lost.
    """

    internet_message_id: str
    recipients: frozenset[str]  # addresses, casefolded
    not_before: datetime  # when it was handed in
    not_after: datetime  # by when it had to be sent

    def is_one(self, item: dict[str, Any]) -> bool:
        """Whether an item that was found is this message; what it does not show is no objection."""
        if item.get("internetMessageId", self.internet_message_id) != self.internet_message_id:
            return False
        try:
            if "sentDateTime" in item:
                sent_at = datetime.fromisoformat(item["sentDateTime"])
                if not self.not_before - _SKEW <= sent_at <= self.not_after + _SKEW:
                    return False
            return item.keys().isdisjoint(_RECIPIENTS) or frozenset(_addresses(item)) == self.recipients
        except (KeyError, TypeError, ValueError, AttributeError):
            return False


class SentItems:
    """The Sent Items folders of all mailboxes."""

    def __init__(self, client: GraphClient, clock: Clock) -> None:
        self._client = client
        self._denied = Denials(clock)

    def may_look(self, mailbox: str, copy: SentCopy) -> bool:
        """Whether there is any use in asking."""
        return 0 < len(copy.internet_message_id) <= _LONGEST_ID and mailbox not in self._denied

    def holds(self, errand: Errand, copy: SentCopy, token: Secret) -> bool:
        """Whether the copy is there; False too where Graph will not tell. Raises GraphError for what may pass."""
        if not self.may_look(errand.mailbox, copy):
            return False
        quoted = copy.internet_message_id.replace("'", "''")
        query = {
            "$filter": f"internetMessageId eq '{quoted}'",
            "$select": "id,sentDateTime,toRecipients,ccRecipients,bccRecipients",
            "$top": _MOST_ITEMS,
        }
        url = self._client.url(errand.mailbox, "mailFolders", "sentitems", "messages", query=query)
        try:
            answer = self._client.ask("GET", url, Bearer(token, errand.deadline.remaining()), wanted=(200,))
        except GraphError as failure:
            if failure.status != 501 and (failure.transient or isinstance(failure, NotAuthorized)):
                raise
            self._note_refusal(errand, failure)
            return False
        found = answer.content.get("value") if isinstance(answer.content, dict) else None
        if not isinstance(found, list):  # the answer broke off: nobody knows what it would have said
            raise StepUnclear(status=answer.status, request_id=answer.request_id)
        return any(isinstance(item, dict) and copy.is_one(item) for item in found)

    def purge(self) -> None:
        """Forget the mailboxes that may be asked for again; the janitor's task."""
        self._denied.purge()

    def _note_refusal(self, errand: Errand, failure: GraphError) -> None:
        reason = "Graph refused to search Sent Items for a message that may have gone"
        if isinstance(failure, AccessDenied):
            self._denied.add(errand.mailbox)
            reason = (
                "Sent Items may not be searched for a message that may have gone; grant the app Mail.Read, of the same "
                "type as Mail.Send, to avoid duplicates; not tried again for ten minutes"
            )
        log.info("search_denied", extra={**errand.facts(failure), "reason": reason})


def _addresses(item: dict[str, Any]) -> Iterator[str]:
    for kind in _RECIPIENTS:
        for recipient in item.get(kind) or ():
            yield recipient["emailAddress"]["address"].casefold()
