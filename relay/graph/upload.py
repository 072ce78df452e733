# SPDX-License-Identifier: MIT
"""One attachment on its way through an upload session: where it stands, and the next request.

Knows the protocol of the upload URL and how to go on behind a fault. Repeats nothing itself: that is tries.py's.
Sources: Graph, "attachment: createUploadSession", "uploadSession", "Attach large files to Outlook messages".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from relay.clock import Deadline
from relay.credentials import Secret
from relay.graph.body import Content
from relay.graph.client import Answer, Bearer, GraphClient
from relay.graph.errors import (
    GraphError,
    MailboxFull,
    SendingLimitReached,
    StepUnclear,
    SubmissionBlocked,
    TooLarge,
)
from relay.loopback import is_loopback
from relay.spool import Octets, Spooled

CHUNK_BYTES = 4_000_000  # at the most 4 MB for each PUT; Outlook asks for no multiple of anything
_START = re.compile(r"(\d{1,15})(?:-\d*)?")
# By these the upload URL says that it is worn out, or stands elsewhere than we think.
_OUT_OF_STEP = (400, 401, 403, 404, 409, 410, 416)
# And by these, which Graph says by a code, that no other try will help.
_FINAL = (TooLarge, MailboxFull, SendingLimitReached, SubmissionBlocked)


class Upload:
    """Call step() until done; a step that failed may be called again, and finds out first where the service stands.

    open_session: gives the upload URL. is_attached: whether the attachment is there already, for the case that the
    answer to the last chunk was lost: the session is over then, and only the draft can tell.
    """

    def __init__(
        self,
        client: GraphClient,
        octets: Octets,
        deadline: Deadline,
        open_session: Callable[[Secret], str],
        is_attached: Callable[[Secret], bool],
    ) -> None:
        self.done = False
        self._client = client
        self._octets = octets
        self._deadline = deadline
        self._open_session = open_session
        self._is_attached = is_attached
        self._url = ""
        self._at = 0
        self._in_doubt = False

    def step(self, token: Secret) -> None:
        """One request further: open the session, or send the next chunk. Raises GraphError."""
        if self._in_doubt:
            self._find_out(token)
        if self.done:
            return
        if not self._url:
            self._url, self._at = self._open_session(token), 0
        else:
            self._in_doubt = True
            self._send_chunk()
            self._in_doubt = False

    def _send_chunk(self) -> None:
        end = min(self._at + CHUNK_BYTES, len(self._octets))
        answer = self._ask(
            "PUT",
            Content((_part(self._octets, self._at, end),)),
            {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"bytes {self._at}-{end - 1}/{len(self._octets)}",
            },
        )
        if answer.status == 201:
            self.done = True
            return
        start = _next_start(answer.content)
        start = end if start is None else start
        if not self._at < start < len(self._octets):
            raise StepUnclear(status=answer.status, request_id=answer.request_id)
        self._at = start

    def _find_out(self, token: Secret) -> None:
        """Behind a fault: go on where the service says, or anew where its session is over and nothing is attached."""
        try:
            start = _next_start(self._ask("GET").content)
        except GraphError as failure:
            if failure.status not in _OUT_OF_STEP:
                raise
            start = None
        if start is not None and start < len(self._octets):
            self._at = start
        elif self._is_attached(token):
            self.done = True
        else:
            self._url = ""
        self._in_doubt = False

    def _ask(self, method: str, content: Content | bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        # No Authorization header: the URL is the right to upload, and a token is refused (InvalidAudienceForResource).
        access = Bearer(None, self._deadline.remaining())
        try:
            return self._client.ask(method, self._url, access, content, headers=headers, wanted=(200, 201))
        except GraphError as failure:
            if failure.status not in _OUT_OF_STEP or isinstance(failure, _FINAL):
                raise
            # What is refused for where we stand may go well with a question first, or with a new session.
            raise StepUnclear(status=failure.status, code=failure.code, request_id=failure.request_id) from None


def _part(octets: Octets, start: int, end: int) -> memoryview | Spooled:
    return memoryview(octets)[start:end] if isinstance(octets, bytes) else octets.part(start, end)


def upload_url(answer: Answer) -> str:
    """The URL in the answer to createUploadSession.

    Its host may be any, but without TLS nothing leaves the machine: stand-ins for Graph do without, as in graph_url.
    """
    url = answer.content.get("uploadUrl") if isinstance(answer.content, dict) else None
    if isinstance(url, str) and (url.startswith("https://") or _stays_here(url)):
        return url
    raise StepUnclear(status=answer.status, request_id=answer.request_id)


def _stays_here(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and is_loopback(parts.hostname or "")
    except ValueError:  # brackets that hold no address
        return False


def _next_start(content: Any) -> int | None:
    """Where the next chunk begins; None where the answer does not say. For Outlook a single "START", for others
    "START-END"; the property has come in both spellings."""
    if not isinstance(content, dict):
        return None
    ranges = content.get("nextExpectedRanges") or content.get("NextExpectedRanges")
    first = ranges[0] if isinstance(ranges, list) and ranges else None
    match = _START.fullmatch(first) if isinstance(first, str) else None
    return int(match[1]) if match else None
