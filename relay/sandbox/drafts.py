# SPDX-License-Identifier: MIT
"""Graph's drafts: made, looked at, given attachments, sent, deleted, searched. Upload sessions are uploads.py's.

Sources: Microsoft Graph v1.0 user-post-messages, message-get, message-delete, message-send, message-post-attachments,
message-list-attachments, user-list-messages, outlook-immutable-id; user reports for sizes (sdk-java pull request 52).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from relay.clock import Clock
from relay.sandbox.access import Access
from relay.sandbox.capture import Captured, JsonObject, Origin
from relay.sandbox.graph_errors import endpoint
from relay.sandbox.mailstore import Item, MailStore
from relay.sandbox.model import Answer, Request, json_answer
from relay.sandbox.rules import (
    capture_ready_json,
    capture_ready_mime,
    check_attachment_name,
    check_message,
    json_object,
    media_type,
    read_mime,
)
from relay.sandbox.schema import GraphError, attachment

MAX_POSTED = 3_145_611  # octets of one attachment in one request
MAX_MESSAGE = 150 * 1024 * 1024
_PAGE = 10
_BY_MESSAGE_ID = re.compile(r"internetMessageId eq '((?:[^']|'')*)'")
_BY_PROPERTY = re.compile(
    r"singleValueExtendedProperties/Any\(ep: ep/id eq '((?:[^']|'')*)' and ep/value eq '((?:[^']|'')*)'\)"
)


class Drafts:
    """The /messages endpoints. capture: called with each draft that is sent."""

    def __init__(self, access: Access, store: MailStore, clock: Clock, capture: Callable[[Captured], None]) -> None:
        self.clock = clock
        self._access = access
        self._store = store
        self._capture = capture

    @endpoint
    def create(self, request: Request) -> Answer:
        """POST /v1.0/users/{mailbox}/messages: JSON, or MIME in base64."""
        mailbox = self._mailbox(request)
        mime: bytes | None = None
        message: JsonObject = {}
        if media_type(request) == "text/plain":
            mime = read_mime(request.body)
        else:
            message = json_object(request)
            check_message(message)
        immutable = 'idtype="immutableid"' in request.headers.get("prefer", "").lower()
        item = self._store.add_draft(mailbox, message, mime, immutable=immutable, octets=len(request.body))
        return json_answer(201, item.shown(None))

    @endpoint
    def show(self, request: Request) -> Answer:
        """GET /v1.0/users/{mailbox}/messages/{id}."""
        item = self._store.find(self._mailbox(request), request.segments[4])
        return json_answer(200, item.shown(_selected(_options(request, "$select"))))

    @endpoint
    def delete(self, request: Request) -> Answer:
        """DELETE /v1.0/users/{mailbox}/messages/{id}."""
        self._store.delete(self._store.find(self._mailbox(request), request.segments[4]))
        return Answer(204)

    @endpoint
    def attach(self, request: Request) -> Answer:
        """POST /v1.0/users/{mailbox}/messages/{id}/attachments."""
        item = self._store.find_draft(self._mailbox(request), request.segments[4])
        content = json_object(request)
        attachment(content, "attachment")
        check_attachment_name(content)
        encoded = content.get("contentBytes", "")
        if len(encoded) // 4 * 3 - encoded[-2:].count("=") > MAX_POSTED:
            raise GraphError(413, "ErrorMessageSizeExceeded", "The attachment is too large for one request.")
        item.attachments.append(content)
        item.octets += len(request.body)
        shown = {"id": f"{item.id}-{len(item.attachments)}", "name": content["name"]}
        return json_answer(201, {"@odata.type": content["@odata.type"], **shown})

    @endpoint
    def list_attachments(self, request: Request) -> Answer:
        """GET /v1.0/users/{mailbox}/messages/{id}/attachments."""
        item = self._store.find(self._mailbox(request), request.segments[4])
        named = [
            {"id": f"{item.id}-{number}", "name": found["name"]} for number, found in enumerate(item.attachments, 1)
        ]
        return _page(named, _options(request, "$select", "$top"))

    @endpoint
    def send(self, request: Request) -> Answer:
        """POST /v1.0/users/{mailbox}/messages/{id}/send."""
        token = self._access.authenticated(request)
        mailbox = self._mailbox(request)
        self._access.mailbox(request, token, "Mail.Send")
        item = self._store.find_draft(mailbox, request.segments[4])
        if request.body:
            raise GraphError(400, "BadRequest", "The request must not have a body.")
        if item.octets > MAX_MESSAGE:
            raise GraphError(400, "ErrorMessageSizeExceeded", "The message exceeds the maximum supported size.")
        origin = Origin(
            mailbox=mailbox,
            user=token.user,
            headers=request.headers,
            received_at=self.clock.now(),
            size=item.octets,
        )
        captured = _captured(item, origin)
        self._store.move_to_sent(item, captured)
        self._capture(captured)
        return Answer(202)

    @endpoint
    def search(self, request: Request) -> Answer:
        """GET /v1.0/users/{mailbox}/messages: in all folders."""
        token = self._access.authenticated(request)
        mailbox = self._access.mailbox(request, token, "Mail.Read", "Mail.ReadWrite")
        return _found(request, self._store.all_of(mailbox))

    @endpoint
    def search_sent(self, request: Request) -> Answer:
        """GET /v1.0/users/{mailbox}/mailFolders/sentitems/messages."""
        token = self._access.authenticated(request)
        mailbox = self._access.mailbox(request, token, "Mail.Read", "Mail.ReadWrite")
        return _found(request, (item for item in self._store.all_of(mailbox) if not item.is_draft))

    def _mailbox(self, request: Request) -> str:
        return self._access.mailbox(request, self._access.authenticated(request), "Mail.ReadWrite")


def file_attachment(properties: JsonObject, octets: bytes) -> JsonObject:
    """An attachment that was uploaded, as if it had come in one request. properties: of the attachmentItem."""
    kept = ("name", "contentType", "isInline", "contentId")
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        **{name: properties[name] for name in kept if name in properties},
        "contentBytes": base64.b64encode(octets).decode("ascii"),
    }


def _captured(item: Item, origin: Origin) -> Captured:
    message = {**item.message, **({"attachments": list(item.attachments)} if item.attachments else {})}
    if item.mime is None:
        captured = capture_ready_json(message, origin, save_to_sent=True)
    else:
        captured = capture_ready_mime(item.mime, origin)
    return replace(captured, form="draft", message=message)


def _options(request: Request, *allowed: str) -> dict[str, str]:
    """The query options. Graph refuses those that it does not know."""
    options = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
    for name in options:
        if name not in allowed:
            raise GraphError(400, "BadRequest", "The query specified in the URI is not valid.")
    return options


def _selected(options: dict[str, str]) -> list[str] | None:
    return options["$select"].split(",") if "$select" in options else None


def _found(request: Request, items: Iterable[Item]) -> Answer:
    options = _options(request, "$filter", "$select", "$top")
    wanted = options.get("$filter", "")
    if match := _BY_MESSAGE_ID.fullmatch(wanted):
        message_id = match[1].replace("''", "'")
        items = [item for item in items if item.internet_message_id == message_id]
    elif match := _BY_PROPERTY.fullmatch(wanted):
        name, value = (text.replace("''", "'") for text in match.groups())
        items = [item for item in items if item.property_value(name) == value]
    elif wanted:
        raise GraphError(400, "ErrorInvalidUrlQueryFilter", "The query filter contains one or more invalid nodes.")
    return _page([item.shown(_selected(options)) for item in items], options)


def _page(members: list[Any], options: dict[str, str]) -> Answer:
    """The first page of a collection: ten members, unless $top says otherwise."""
    top = options.get("$top", str(_PAGE))
    if not top.isdecimal() or not 1 <= int(top) <= 1000:
        raise GraphError(400, "BadRequest", "Invalid value for the query option '$top'.")
    more = {"@odata.nextLink": "https://sandbox.example/more"} if len(members) > int(top) else {}
    return json_answer(200, {"value": members[: int(top)], **more})
