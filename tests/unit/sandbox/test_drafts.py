# SPDX-License-Identifier: MIT
"""Graph's drafts and upload sessions: who may, what is refused with which code, what becomes of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from relay.sandbox.drafts import MAX_POSTED
from relay.sandbox.model import Answer, Request
from relay.sandbox.routes import find_route, make_routes, split_path
from relay.sandbox.rules import MAX_BODY
from relay.sandbox.uploads import MAX_CHUNK, MIN_UPLOADED
from tests.unit.sandbox.tenant import USER, Tenant, outcome, payload, recipient

BOTH = frozenset({"Mail.Send", "Mail.ReadWrite"})
MESSAGES = f"/v1.0/users/{USER}/messages"
FILE = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.txt", "contentBytes": "YQ=="}
MARK = "String {66f5a359-4659-4830-9070-00047ec6ac6e} Name Mark"
DENIED = (403, "ErrorAccessDenied")
NOT_FOUND = (404, "ErrorItemNotFound")


class Desk:
    """A tenant whose endpoints are asked by method and path."""

    def __init__(self, **settings: Any) -> None:
        self.tenant = Tenant(**{"permissions": BOTH, **settings})
        self._routes = make_routes(self.tenant.entra, self.tenant.graph, None)
        self.token = self.tenant.app_token()

    def ask(
        self,
        method: str,
        path: str,
        content: object = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Answer:
        """content: octets as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        parts = urlsplit(path)
        kind = {"content-type": "application/json"} if content is not None else {}
        bearer = {"authorization": f"Bearer {self.token if token is None else token}"} if token != "" else {}
        request = Request(
            method=method,
            segments=split_path(parts.path),
            query=parts.query,
            headers={"host": "127.0.0.1:8443", "content-length": str(len(body)), **kind, **bearer, **(headers or {})},
            body=body,
        )
        route = find_route(self._routes, request)
        assert route is not None, (method, path)
        return route.handle(request)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def draft(self, headers: Mapping[str, str] | None = None, **properties: Any) -> str:
        """The path of a new draft."""
        answer = self.ask("POST", MESSAGES, payload(**properties)["message"], headers)
        assert answer.status == 201
        return f"{MESSAGES}/{quote(json.loads(answer.body)['id'])}"

    def session(self, draft: str, size: int, **properties: Any) -> str:
        """The path of a new upload URL."""
        answer = self.ask("POST", f"{draft}/attachments/createUploadSession", item(size, **properties))
        assert answer.status == 201, answer
        return urlsplit(json.loads(answer.body)["uploadUrl"]).path

    def put(self, url: str, octets: bytes, at: int, size: int, **headers: str) -> Answer:
        content_range = f"bytes {at}-{at + len(octets) - 1}/{size}"
        return self.ask("PUT", url, octets, {"content-range": content_range, **headers}, token="")


def item(size: object, **properties: Any) -> dict[str, Any]:
    return {"AttachmentItem": {"attachmentType": "file", "name": "big.pdf", "size": size, **properties}}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_draft_is_made_given_an_attachment_and_sent(desk: Desk) -> None:
    draft = desk.draft()
    assert desk.get(draft)["isDraft"] is True
    assert desk.ask("POST", f"{draft}/attachments", FILE).status == 201
    assert desk.get(f"{draft}/attachments")["value"][0]["name"] == "a.txt"
    assert desk.tenant.captured == []
    assert desk.ask("POST", f"{draft}/send").status == 202
    (captured,) = desk.tenant.captured
    assert (captured.form, captured.mailbox, captured.to, captured.save_to_sent) == (
        "draft",
        USER,
        ("a@example.com",),
        True,
    )
    assert captured.message is not None
    assert captured.message["attachments"] == [FILE]


def test_the_id_changes_with_the_folder_unless_an_immutable_one_was_asked_for(desk: Desk) -> None:
    moving, staying = desk.draft(), desk.draft({"prefer": 'IdType="ImmutableId"'})
    for draft in (moving, staying):
        assert desk.ask("POST", f"{draft}/send").status == 202
        assert outcome(desk.ask("POST", f"{draft}/send")) == NOT_FOUND
    assert outcome(desk.ask("GET", moving)) == NOT_FOUND
    assert desk.get(f"{staying}?$select=isDraft")["isDraft"] is False


def test_a_mime_draft(desk: Desk) -> None:
    mime = b"From: scanner@example.com\r\nTo: a@example.com\r\nMessage-ID: <m@x>\r\nSubject: Hi\r\n\r\nText\r\n"
    answer = desk.ask("POST", MESSAGES, base64.b64encode(mime), {"content-type": "text/plain"})
    made = json.loads(answer.body)
    assert (answer.status, made["internetMessageId"]) == (201, "<m@x>")
    assert desk.ask("POST", f"{MESSAGES}/{quote(made['id'])}/send").status == 202
    (captured,) = desk.tenant.captured
    assert (captured.form, captured.mime, captured.subject) == ("draft", mime, "Hi")


def test_permissions() -> None:
    for permissions in ({"Mail.Send"}, {"Mail.Send", "Mail.Read"}):
        without = Desk(permissions=frozenset(permissions))
        draft = f"{MESSAGES}/x"
        assert outcome(without.ask("POST", MESSAGES, payload()["message"])) == DENIED
        assert outcome(without.ask("GET", draft)) == DENIED
        assert outcome(without.ask("DELETE", draft)) == DENIED
        assert outcome(without.ask("POST", f"{draft}/attachments", FILE)) == DENIED
        assert outcome(without.ask("POST", f"{draft}/attachments/createUploadSession", item(5_000_000))) == DENIED
        assert outcome(without.ask("POST", f"{draft}/send")) == DENIED
        may_read = "Mail.Read" in permissions
        assert without.ask("GET", MESSAGES).status == (200 if may_read else 403)
        assert without.ask("GET", f"/v1.0/users/{USER}/mailFolders/sentitems/messages").status == (
            200 if may_read else 403
        )
    no_send = Desk(permissions=frozenset({"Mail.ReadWrite"}))
    assert outcome(no_send.ask("POST", f"{no_send.draft()}/send")) == DENIED
    assert outcome(no_send.ask("POST", MESSAGES, payload()["message"], token="")) == (401, "InvalidAuthenticationToken")


def test_a_users_token_uploads_to_the_users_own_mailbox_only() -> None:
    desk = Desk(permissions=BOTH | {"Mail.ReadWrite.Shared", "Mail.Send.Shared"})
    draft = desk.draft()
    path = f"{draft}/attachments/createUploadSession"
    assert outcome(desk.ask("POST", path, item(5_000_000), token=desk.tenant.user_token("b@example.com"))) == DENIED
    assert desk.ask("POST", path, item(5_000_000), token=desk.tenant.user_token()).status == 201


def test_a_draft_is_in_its_own_mailbox_only(desk: Desk) -> None:
    draft = desk.draft().replace(USER, "other@example.com")
    assert outcome(desk.ask("GET", draft)) == NOT_FOUND
    assert outcome(desk.ask("GET", f"{MESSAGES}/x")) == NOT_FOUND


def test_deleted_and_gone(desk: Desk) -> None:
    draft = desk.draft()
    assert desk.ask("DELETE", draft).status == 204
    for method, path in (("GET", draft), ("DELETE", draft), ("POST", f"{draft}/send")):
        assert outcome(desk.ask(method, path)) == NOT_FOUND
    assert desk.tenant.graph.store.drafts() == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"subjekt": "x"}, (400, "RequestBodyRead")),
        ([], (400, "BadRequest")),
        (b"", (400, "BadRequest")),
        ({"toRecipients": [recipient("nobody")]}, (400, "ErrorInvalidRecipients")),
        ({"internetMessageHeaders": [{"name": "Date", "value": "x"}]}, (400, "InvalidInternetMessageHeader")),
        ({"message": {}}, (400, "RequestBodyRead")),
        (b" " * (MAX_BODY + 1), (413, "RequestEntityTooLarge")),
    ],
)
def test_drafts_that_are_refused(desk: Desk, content: object, expected: tuple[int, str]) -> None:
    assert outcome(desk.ask("POST", MESSAGES, content)) == expected


def test_what_is_seen_only_when_it_is_sent(desk: Desk) -> None:
    nobody = desk.draft(toRecipients=None)
    assert outcome(desk.ask("POST", f"{nobody}/send")) == (400, "ErrorInvalidRecipients")
    denied = desk.draft(**{"from": recipient("denied@example.com")})
    assert outcome(desk.ask("POST", f"{denied}/send")) == (403, "ErrorSendAsDenied")
    assert outcome(desk.ask("POST", f"{desk.draft()}/send", {})) == (400, "BadRequest")
    assert len(desk.tenant.graph.store.drafts()) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": None}, (400, "ErrorRequiredPropertyMissing")),
        ({"name": ""}, (400, "ErrorRequiredPropertyMissing")),
        ({"contentBytes": "a"}, (400, "RequestBodyRead")),
        ({"@odata.type": None}, (400, "RequestBodyRead")),
        ({"colour": "red"}, (400, "RequestBodyRead")),
        ({"contentBytes": base64.b64encode(bytes(MAX_POSTED + 1)).decode()}, (413, "ErrorMessageSizeExceeded")),
    ],
)
def test_attachments_that_are_refused(desk: Desk, changes: dict[str, Any], expected: tuple[int, str]) -> None:
    content = {name: value for name, value in {**FILE, **changes}.items() if value is not None}
    assert outcome(desk.ask("POST", f"{desk.draft()}/attachments", content)) == expected


def test_the_largest_attachments_in_one_request(desk: Desk) -> None:
    path = f"{desk.draft()}/attachments"
    short = {key: value for key, value in FILE.items() if key != "contentBytes"}
    fits = {**short, "name": "a", "contentBytes": base64.b64encode(bytes(MAX_POSTED)).decode()}
    assert desk.ask("POST", path, fits).status == 201


def test_an_attachment_in_pieces(desk: Desk) -> None:
    draft = desk.draft()
    size = MAX_CHUNK + 100
    octets = bytes(range(256)) * (size // 256 + 1)
    url = desk.session(draft, size, isInline=True, contentId="c@x", contentType="image/png")
    first = desk.put(url, octets[:MAX_CHUNK], 0, size)
    assert (first.status, json.loads(first.body)["NextExpectedRanges"]) == (200, [str(MAX_CHUNK)])
    assert json.loads(desk.ask("GET", url, token="").body)["NextExpectedRanges"] == [str(MAX_CHUNK)]
    assert outcome(desk.put(url, octets[:5], 0, size))[0] == 416
    assert desk.get(f"{draft}/attachments")["value"] == []
    last = desk.put(url, octets[MAX_CHUNK:size], MAX_CHUNK, size)
    assert (last.status, last.body, "Location" in dict(last.headers)) == (201, b"", True)
    assert outcome(desk.ask("GET", url, token="")) == NOT_FOUND
    desk.ask("POST", f"{draft}/send")
    message = desk.tenant.captured[0].message
    assert message is not None
    (found,) = message["attachments"]
    assert base64.b64decode(found.pop("contentBytes")) == octets[:size]
    assert found == {
        "@odata.type": FILE["@odata.type"],
        "name": "big.pdf",
        "contentType": "image/png",
        "isInline": True,
        "contentId": "c@x",
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (item(MIN_UPLOADED - 1), (400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize")),
        (item(151 * 1024 * 1024), (400, "ErrorMessageSizeExceeded")),
        (item(5_000_000, attachmentType="item"), (405, "ErrorAttachmentSessionIsSupportedOnlyForFileAttachments")),
        (item(5_000_000, attachmentType="folder"), (400, "RequestBodyRead")),
        (item(5_000_000, name=""), (400, "ErrorRequiredPropertyMissing")),
        (item("5"), (400, "RequestBodyRead")),
        (item(5_000_000, contentBytes="YQ=="), (400, "RequestBodyRead")),
        ({"attachmentItem": {}}, (400, "RequestBodyRead")),
        ({}, (400, "ErrorRequiredPropertyMissing")),
        ({"AttachmentItem": []}, (400, "ErrorRequiredPropertyMissing")),
        ({"AttachmentItem": ["x"]}, (400, "RequestBodyRead")),
    ],
)
def test_sessions_that_are_refused(desk: Desk, content: object, expected: tuple[int, str]) -> None:
    path = f"{desk.draft()}/attachments/createUploadSession"
    assert outcome(desk.ask("POST", path, content)) == expected


def test_chunks_that_are_refused(desk: Desk) -> None:
    size = 5_000_000
    url = desk.session(desk.draft(), size)
    for content_range in ("", "bytes 0-4/*", "bytes 0-3/5000000", "bytes 0-5/5000000", "bytes 0-4/6", "0-4/5000000"):
        answer = desk.ask("PUT", url, b"12345", {"content-range": content_range}, token="")
        assert answer.status == 400, content_range
    assert outcome(desk.put(url, b"12345", 5, size))[0] == 416
    assert outcome(desk.put(url, bytes(MAX_CHUNK + 1), 0, size)) == (413, "RequestEntityTooLarge")
    refused = (401, "InvalidAudienceForResource")
    assert outcome(desk.put(url, b"12345", 0, size, authorization=f"Bearer {desk.token}")) == refused
    assert outcome(desk.ask("GET", url)) == refused
    assert desk.put(url, b"12345", 0, size).status == 200


def test_a_session_is_cancelled(desk: Desk) -> None:
    url = desk.session(desk.draft(), 5_000_000)
    assert desk.ask("DELETE", url, token="").status == 204
    assert outcome(desk.put(url, b"12345", 0, 5_000_000)) == NOT_FOUND


def test_a_session_whose_draft_is_gone(desk: Desk) -> None:
    draft = desk.draft()
    url = desk.session(draft, MIN_UPLOADED)
    desk.ask("DELETE", draft)
    assert outcome(desk.put(url, bytes(MIN_UPLOADED), 0, MIN_UPLOADED)) == NOT_FOUND


def test_an_upload_url_belongs_to_a_mailbox(desk: Desk) -> None:
    url = desk.session(desk.draft(), 5_000_000)
    assert desk.tenant.graph.user_of(Request(method="PUT", segments=split_path(url))) == USER
    assert desk.tenant.graph.user_of(Request(method="PUT", segments=split_path(url + "x"))) == ""


def found(desk: Desk, path: str, wanted: str) -> list[dict[str, Any]]:
    members: list[dict[str, Any]] = desk.get(f"{path}?$filter={quote(wanted)}&$select=id,isDraft")["value"]
    return members


def test_searching(desk: Desk) -> None:
    sent = f"/v1.0/users/{USER}/mailFolders/sentitems/messages"
    desk.tenant.send({"message": {**payload()["message"], "internetMessageId": "<o'neil@x>"}}, token=desk.token)
    desk.tenant.send({**payload(singleValueExtendedProperties=[{"id": "String 0x1035", "value": "<not kept>"}])})
    draft = desk.draft(singleValueExtendedProperties=[{"id": MARK, "value": "M1"}], internetMessageId="<d@x>")
    assert len(found(desk, sent, "internetMessageId eq '<o''neil@x>'")) == 1
    assert found(desk, sent, "internetMessageId eq '<not kept>'") == [], "saveToSentItems was false"
    assert found(desk, sent, "internetMessageId eq '<d@x>'") == []
    by_mark = f"singleValueExtendedProperties/Any(ep: ep/id eq '{MARK}' and ep/value eq 'M1')"
    (member,) = found(desk, MESSAGES, by_mark)
    assert draft.endswith(quote(member["id"]))
    assert {key for key in member if not key.startswith("@")} == {"id", "isDraft"}
    assert found(desk, MESSAGES, by_mark.replace("M1", "M2")) == []
    desk.ask("POST", f"{draft}/send")
    assert len(found(desk, sent, "internetMessageId eq '<d@x>'")) == 1


def test_a_sent_draft_tells_when_and_to_whom(desk: Desk) -> None:
    draft = desk.draft(toRecipients=[recipient("b@example.com")])
    desk.ask("POST", f"{draft}/send")
    query = "$select=sentDateTime,toRecipients,ccRecipients,bccRecipients"
    (item,) = desk.get(f"/v1.0/users/{USER}/mailFolders/sentitems/messages?{query}")["value"]
    assert [one["emailAddress"]["address"] for one in item["toRecipients"]] == ["b@example.com"]
    assert datetime.fromisoformat(item["sentDateTime"]).tzinfo is not None


def test_queries_that_are_refused(desk: Desk) -> None:
    for query in ("$filter=subject%20eq%20'x'", "$top=0", "$top=x", "top=1", "$orderby=subject"):
        assert desk.ask("GET", f"{MESSAGES}?{query}").status == 400, query


def test_a_page_holds_ten(desk: Desk) -> None:
    for _ in range(12):
        desk.draft()
    first = desk.get(MESSAGES)
    assert (len(first["value"]), "@odata.nextLink" in first) == (10, True)
    assert len(desk.get(f"{MESSAGES}?$top=50")["value"]) == 12
