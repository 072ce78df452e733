# SPDX-License-Identifier: MIT
"""Upload sessions: an attachment that comes in pieces, at a URL that is itself the right to upload.

Sources: Microsoft Graph v1.0 attachment-createuploadsession, uploadsession, outlook-large-attachments; user reports
for the least size (sdk-java pull request 52) and for what a token on the upload URL does (Microsoft365R issue 192).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from relay.clock import Clock
from relay.sandbox.access import Access
from relay.sandbox.capture import JsonObject
from relay.sandbox.drafts import file_attachment
from relay.sandbox.graph_errors import endpoint
from relay.sandbox.mailstore import Item, MailStore
from relay.sandbox.model import Answer, Request, json_answer
from relay.sandbox.rules import check_attachment_name, json_object
from relay.sandbox.schema import ATTACHMENT_ITEM, READ_ERROR, GraphError, unknown_property

UPLOAD_PATH = ("api", "gv1.0", "uploads")
MIN_UPLOADED = 2_097_152
MAX_UPLOADED = 150 * 1024 * 1024
MAX_CHUNK = 4 * 1024 * 1024
_RANGE = re.compile(r"bytes (\d{1,12})-(\d{1,12})/(\d{1,12})")
_EXPIRES = "2099-01-01T00:00:00Z"


@dataclass(slots=True)
class _Session:
    draft: Item
    properties: JsonObject = field(repr=False)
    received: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def size(self) -> int:
        return int(self.properties["size"])


class Uploads:
    """The sessions that are open."""

    def __init__(self, access: Access, store: MailStore, clock: Clock) -> None:
        self.clock = clock
        self._access = access
        self._store = store
        self._sessions: dict[str, _Session] = {}

    def owner(self, request: Request) -> str:
        """The mailbox that an upload URL belongs to; empty if it is none."""
        session = self._sessions.get(request.segments[-1])
        return session.draft.mailbox if session else ""

    @endpoint
    def create(self, request: Request) -> Answer:
        """POST /v1.0/users/{mailbox}/messages/{id}/attachments/createUploadSession."""
        token = self._access.authenticated(request)
        mailbox = self._access.mailbox(request, token, "Mail.ReadWrite")
        if token.user and not self._access.is_own(token, mailbox):  # a known issue of Graph's, whatever is granted
            raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        draft = self._store.find_draft(mailbox, request.segments[4])
        properties = _attachment_item(json_object(request))
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = _Session(draft, properties)
        # Another host than Graph's own, as with the real one.
        port = request.headers.get("host", "").rpartition(":")[2]
        url = f"https://localhost:{port}/{'/'.join(UPLOAD_PATH)}/{secret}"
        answer = {"uploadUrl": url, "expirationDateTime": _EXPIRES, "nextExpectedRanges": ["0-"]}
        return json_answer(201, answer)

    @endpoint
    def put(self, request: Request) -> Answer:
        """PUT uploadUrl: the next chunk."""
        session = self._session(request)
        start, end = _range(request, session)
        if start != len(session.received):
            raise GraphError(416, "ErrorInvalidRange", "The range is not the one that is expected next.")
        session.received += request.body
        if end + 1 < session.size:
            return json_answer(200, {"ExpirationDateTime": _EXPIRES, "NextExpectedRanges": [str(end + 1)]})
        del self._sessions[request.segments[-1]]
        draft = self._store.find_draft(session.draft.mailbox, session.draft.id)
        draft.attachments.append(file_attachment(session.properties, bytes(session.received)))
        draft.octets += session.size
        location = f"https://sandbox.example/messages('{draft.id}')/attachments('{len(draft.attachments)}')"
        return Answer(201, headers=(("Location", location),))

    @endpoint
    def state(self, request: Request) -> Answer:
        """GET uploadUrl: where the next chunk begins."""
        start = len(self._session(request).received)
        return json_answer(200, {"ExpirationDateTime": _EXPIRES, "NextExpectedRanges": [str(start)]})

    @endpoint
    def cancel(self, request: Request) -> Answer:
        """DELETE uploadUrl."""
        self._session(request)
        del self._sessions[request.segments[-1]]
        return Answer(204)

    def clear(self) -> None:
        self._sessions.clear()

    def _session(self, request: Request) -> _Session:
        if "authorization" in request.headers:
            raise GraphError(401, "InvalidAudienceForResource", "The audience claim value is invalid for the resource.")
        session = self._sessions.get(request.segments[-1])
        if session is None:
            raise GraphError(404, "ErrorItemNotFound", "The upload session was not found.")
        return session


def _attachment_item(payload: JsonObject) -> JsonObject:
    """The AttachmentItem in the payload of createUploadSession."""
    for name in payload:
        if name != "AttachmentItem":
            raise GraphError(400, READ_ERROR, unknown_property(name, "createUploadSession"))
    properties: JsonObject = payload.get("AttachmentItem") or {}
    ATTACHMENT_ITEM(properties, "AttachmentItem")
    check_attachment_name(properties)
    if properties["attachmentType"] != "file":
        text = "Only File attachments can be uploaded using an Upload Session."
        raise GraphError(405, "ErrorAttachmentSessionIsSupportedOnlyForFileAttachments", text)
    if properties["size"] < MIN_UPLOADED:
        text = "The attachment size must be greater than the minimum size."
        raise GraphError(400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize", text)
    if properties["size"] > MAX_UPLOADED:
        raise GraphError(400, "ErrorMessageSizeExceeded", "The attachment exceeds the maximum supported size.")
    return properties


def _range(request: Request, session: _Session) -> tuple[int, int]:
    """First and last octet of a chunk whose headers agree with its body."""
    if "content-length" not in request.headers:
        raise GraphError(411, "BadRequest", "The Content-Length header is required.")
    match = _RANGE.fullmatch(request.headers.get("content-range", ""))
    if match is None:
        raise GraphError(400, "BadRequest", "The Content-Range header is missing or malformed.")
    start, end, size = (int(number) for number in match.groups())
    if size != session.size or not start <= end < size or end - start + 1 != len(request.body):
        raise GraphError(400, "BadRequest", "The Content-Range header does not fit the request or the session.")
    if len(request.body) > MAX_CHUNK:
        raise GraphError(413, "RequestEntityTooLarge", "A chunk may have 4 MB at the most.")
    return start, end
