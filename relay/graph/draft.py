# SPDX-License-Identifier: MIT
"""One message as a draft in the sender's mailbox: made, given its attachments, sent, and deleted where it was not.

Knows Graph's requests for it and what may be repeated. Decides nothing about permissions or sizes of messages.
Sources: Graph, "Create message", "Add attachment", "message: send", "Immutable identifiers"; users' reports for the
sizes (sdk-java pull request 52) and for the 404 right behind the creation.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from relay.clock import Clock, Deadline
from relay.credentials import Secret
from relay.graph.body import Content
from relay.graph.client import Answer, Bearer, GraphClient
from relay.graph.errors import (
    GraphError,
    OutcomeUnknown,
    Refused,
    StepUnclear,
    TooLarge,
    UpstreamError,
    harmless,
    of_an_item,
)
from relay.graph.payload import attachment_json, draft_filter, upload_session_json
from relay.graph.retry import UNKNOWN_OUTCOME_WAIT_S
from relay.graph.tries import Errand, Tries
from relay.graph.upload import Upload, upload_url
from relay.message.model import Attachment

UPLOAD_FROM_BYTES = 3_000_000  # Graph names 3 MB; its base64 just fits into a request of 4 MB
_TOO_SMALL = "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"
UPLOAD_LEAST_BYTES = 2_097_152  # users report that Graph refuses smaller ones with that code
CLEAN_UP_S = 5.0  # beyond the deadline, and in a greenlet that is being killed; smtp/server.py waits for it at the stop
_MADE = (200, 201)
_MOST_ATTACHMENTS = "250"  # more than Exchange takes in one message

# An id that stays the same when the message moves to Sent Items: behind an unknown outcome it can still be asked for.
_IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}
_JSON = {"Content-Type": "application/json", **_IMMUTABLE}


class Draft:
    """The draft of one message. clean_up() has to be called at the end, whatever happened."""

    def __init__(self, client: GraphClient, tries: Tries, clock: Clock, errand: Errand) -> None:
        self._client = client
        self._tries = tries
        self._clock = clock
        self._errand = errand
        self._id = ""
        self._attached = 0
        self._sent = False
        self._send_unclear = False
        self._unclear_at = 0.0  # when the last answer to the sending was
        self._strays = False  # a draft may lie there whose id we never got

    def create(self, content: Content) -> None:
        """Make it, without attachments. content carries errand.message_id as its mark. Raises UpstreamError."""
        self._id = self._tries.run(self._errand, lambda token: self._create(content, token))

    def attach(self, attachment: Attachment) -> None:
        """Add one attachment behind those that are there. Raises UpstreamError."""
        size = len(attachment.content)
        try:
            if size < UPLOAD_FROM_BYTES:
                self._post_whole(attachment)
            else:
                self._upload(attachment)
        except TooLarge:
            if not UPLOAD_LEAST_BYTES <= size < UPLOAD_FROM_BYTES:
                raise
            self._upload(attachment)
        except Refused as failure:
            if failure.code != _TOO_SMALL:  # 3 MB are 3,000,000 octets or 3,145,728
                raise
            self._post_whole(attachment)
        self._attached += 1

    def send(self) -> str:
        """Graph's request-id of the sending, empty where its answer was lost. Raises UpstreamError: it was not sent."""
        try:
            request_id = self._tries.run(self._errand, self._send_once)
        except UpstreamError as failure:
            if not self._send_unclear:
                raise
            found = self._last_look()
            if found is None:
                raise
            if not found:
                self._send_unclear = False
                raise harmless(failure) if isinstance(failure, GraphError) else failure from None
            request_id = ""
        self._sent = True
        return request_id

    def clean_up(self) -> None:
        """Delete what would stay behind, within a few seconds. Raises UpstreamError where that fails; call it again."""
        if (self._sent or not self._id) and not self._strays:
            return
        self._extend()
        if self._id and not self._sent:
            self._tries.run(self._errand, self._delete_unsent)
        if self._strays:
            for stray in self._tries.run(self._errand, self._find_strays):
                self._tries.run(self._errand, partial(self._delete, stray))

    def _extend(self) -> None:
        """A few seconds for what has to be done even when the time is up."""
        self._errand.deadline = Deadline(self._clock, CLEAN_UP_S)

    def _create(self, content: Content, token: Secret) -> str:
        before, self._strays = self._strays, True  # until an answer says otherwise, even if we are killed meanwhile
        try:
            answer = self._ask("POST", (), token, content, _MADE, _JSON)
        except GraphError as failure:
            self._strays = before or isinstance(failure, StepUnclear)
            raise
        found = _member(answer, "id")
        if not isinstance(found, str) or not found:
            raise StepUnclear(status=answer.status, request_id=answer.request_id)
        self._strays = before
        return found

    def _post_whole(self, attachment: Attachment) -> None:
        content = attachment_json(attachment)
        asked_before = False

        def request(token: Secret) -> None:
            nonlocal asked_before
            if asked_before and self._has_attached(token):  # twice the same attachment would be a fault of ours
                return
            asked_before = True
            answer = self._ask("POST", (self._id, "attachments"), token, content, _MADE, _JSON)
            if answer.status != 201 and _member(answer, "id") is None:  # 200, and who knows from whom
                raise StepUnclear(status=answer.status, request_id=answer.request_id)

        self._tries.run(self._errand, request)

    def _upload(self, attachment: Attachment) -> None:
        content = upload_session_json(attachment)

        def open_session(token: Secret) -> str:
            path = (self._id, "attachments", "createUploadSession")
            return upload_url(self._ask("POST", path, token, content, _MADE, _JSON))

        upload = Upload(self._client, attachment.content, self._errand.deadline, open_session, self._has_attached)
        while not upload.done:
            self._tries.run(self._errand, upload.step)

    def _has_attached(self, token: Secret) -> bool:
        """Whether the attachment that is being added is there."""
        query = {"$select": "id", "$top": _MOST_ATTACHMENTS}
        answer = self._ask("GET", (self._id, "attachments"), token, query=query)
        return len(_items(answer)) > self._attached

    def _send_once(self, token: Secret) -> str:
        if self._send_unclear and self._was_sent(token):
            return ""
        before, self._send_unclear = self._send_unclear, True
        try:
            return self._ask("POST", (self._id, "send"), token, wanted=(202,), sends=True).request_id
        except GraphError as failure:
            self._send_unclear = before or isinstance(failure, OutcomeUnknown)
            self._unclear_at = self._clock.monotonic()
            raise

    def _was_sent(self, token: Secret) -> bool:
        """A message that is no draft any more, or is gone from where it was, is on its way."""
        try:
            answer = self._ask("GET", (self._id,), token, query={"$select": "isDraft"})
            sent = _member(answer, "isDraft") is False
        except GraphError as failure:
            if failure.status != 404:
                raise
            sent = True
        self._errand.possible_duplicate = False  # now it is known
        return sent

    def _last_look(self) -> bool | None:
        """Whether it was sent, asked when the time for trying is up; None when Graph does not tell.

        A request that nobody waits for any more may still be at work: that it is a draft just behind it says nothing.
        """
        wait_s = max(self._unclear_at + UNKNOWN_OUTCOME_WAIT_S - self._clock.monotonic(), 0.0)
        has_time = wait_s < self._errand.deadline.remaining()
        if has_time:
            with self._errand.deadline.spending("waited"):
                self._clock.sleep(wait_s)
        self._extend()
        try:
            sent = self._tries.run(self._errand, self._was_sent)
        except UpstreamError:
            return None
        return sent if sent or has_time else None

    def _delete(self, draft_id: str, token: Secret) -> None:
        try:
            self._ask("DELETE", (draft_id,), token, wanted=(200, 204))
        except GraphError as failure:
            if failure.status != 404:
                raise

    def _delete_unsent(self, token: Secret) -> None:
        """Under its id lies the copy in Sent Items where it went after all: that is not ours to delete."""
        if not self._send_unclear or not self._was_sent(token):
            self._delete(self._id, token)

    def _find_strays(self, token: Secret) -> list[str]:
        """Drafts with the mark of this message, but for the one that we know of."""
        query = {"$filter": draft_filter(self._errand.message_id), "$select": "id,isDraft"}
        items = _items(self._ask("GET", (), token, query=query))
        found = [item["id"] for item in items if item.get("isDraft") is True and isinstance(item.get("id"), str)]
        return [draft_id for draft_id in found if draft_id != self._id]

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        token: Secret,
        content: Content | bytes = b"",
        wanted: tuple[int, ...] = (200,),
        headers: dict[str, str] = _IMMUTABLE,
        *,
        query: dict[str, str] | None = None,
        sends: bool = False,
    ) -> Answer:
        """One request below /users/{mailbox}/messages."""
        url = self._client.url(self._errand.mailbox, "messages", *path, query=query)
        access = Bearer(token, self._errand.deadline.remaining())
        try:
            return self._client.ask(method, url, access, content, headers=headers, wanted=wanted, sends=sends)
        except GraphError as failure:
            raise of_an_item(failure) if path else failure from None


def _member(answer: Answer, name: str) -> Any:
    return answer.content.get(name) if isinstance(answer.content, dict) else None


def _items(answer: Answer) -> list[dict[str, Any]]:
    """The members of a collection; an answer that is none counts as a failed step."""
    value = _member(answer, "value")
    if not isinstance(value, list):
        raise StepUnclear(status=answer.status, request_id=answer.request_id)
    return [item for item in value if isinstance(item, dict)]
