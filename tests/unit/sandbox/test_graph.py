# SPDX-License-Identifier: MIT
"""Graph's side: who may send, and for each fault of a payload the status and code that Graph gives."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from relay.sandbox.graph import MAX_BODY
from tests.unit.sandbox.tenant import USER, Tenant, outcome, payload, recipient

FILE = "#microsoft.graph.fileAttachment"
OK = (202, "")


def attached(**properties: Any) -> dict[str, Any]:
    item = {"@odata.type": FILE, "name": "a.txt", "contentBytes": "YQ==", **properties}
    return payload(attachments=[{name: value for name, value in item.items() if value is not None}])


def test_a_message_is_captured_as_it_came(tenant: Tenant) -> None:
    content = payload(
        ccRecipients=[recipient("c@example.com")],
        bccRecipients=[recipient("b@example.com"), recipient("d@example.com")],
    )
    answer = tenant.post(json.dumps(content).encode())
    assert (answer.status, answer.body) == (202, b"")
    (captured,) = tenant.captured
    assert captured.message == content["message"]
    assert (captured.form, captured.mailbox, captured.user) == ("json", USER, USER)
    assert captured.save_to_sent is False
    assert captured.to == ("a@example.com",)
    assert captured.cc == ("c@example.com",)
    assert captured.bcc == ("b@example.com", "d@example.com")
    assert (captured.sender, captured.subject) == (USER, "Scan")
    assert captured.size == len(json.dumps(content).encode())
    assert "authorization" not in captured.headers
    assert captured.headers["user-agent"] == "test"


def test_the_copy_is_kept_unless_told_otherwise(tenant: Tenant) -> None:
    assert tenant.send({"message": payload()["message"]}) == OK
    assert tenant.captured[0].save_to_sent is True


def test_error_body_has_graphs_fields(tenant: Tenant) -> None:
    answer = tenant.post(b"{}")
    error = json.loads(answer.body)["error"]
    assert error["innerError"] == {
        "date": "2026-03-01T12:00:00",
        "request-id": "r-1",
        "client-request-id": "c-1",
    }
    assert error["code"]
    assert error["message"]


@pytest.mark.parametrize("token", ["", "made-up"])
def test_no_valid_token(tenant: Tenant, token: str) -> None:
    answer = tenant.post(b"{}", token=token)
    assert outcome(answer) == (401, "InvalidAuthenticationToken")
    assert "WWW-Authenticate" in dict(answer.headers)


def test_expired_and_revoked_tokens(tenant: Tenant) -> None:
    token = tenant.user_token()
    assert tenant.send(payload(), token=token) == OK
    tenant.clock.elapsed = 3600
    assert tenant.send(payload(), token=token) == (401, "InvalidAuthenticationToken")
    fresh = tenant.user_token()
    tenant.tokens.revoke_all()
    assert tenant.send(payload(), token=fresh) == (401, "InvalidAuthenticationToken")


def test_permissions() -> None:
    denied = (403, "ErrorAccessDenied")
    without = Tenant(permissions=frozenset({"Mail.ReadWrite"}))
    assert without.send(payload()) == denied
    assert without.send(payload(), token=without.app_token()) == denied
    own = Tenant()
    assert own.send(payload(), mailbox=USER.upper()) == OK
    assert own.send(payload(), mailbox="") == OK
    assert own.send(payload(), mailbox="other@example.com") == denied
    shared = Tenant(permissions=frozenset({"Mail.Send", "Mail.Send.Shared"}))
    assert shared.send(payload(), mailbox="other@example.com") == OK
    assert shared.captured[0].mailbox == "other@example.com"
    assert own.send(payload(), mailbox="other@example.com", token=own.app_token()) == OK
    assert own.send(payload(), mailbox="", token=own.app_token()) == (400, "BadRequest")


def test_mailboxes() -> None:
    tenant = Tenant(mailboxes=frozenset({USER}))
    assert tenant.send(payload()) == OK
    assert tenant.send(payload(), mailbox="x@example.com", token=tenant.app_token()) == (404, "ErrorInvalidUser")
    stranger = tenant.user_token("y@example.com")
    assert tenant.send(payload(), mailbox="", token=stranger) == (404, "ErrorInvalidUser")


@pytest.mark.parametrize(
    ("address", "name", "expected"),
    [
        ("other@example.com", "Other", OK),
        (USER, None, OK),
        ("denied@example.com", None, (403, "ErrorSendAsDenied")),
        ("Denied.too@example.com", None, (403, "ErrorSendAsDenied")),
        (USER, "scanner@example.com", (403, "ErrorSendAsDenied")),
        ("nothing", None, (400, "ErrorInvalidRecipients")),
    ],
)
def test_from(tenant: Tenant, address: str, name: str | None, expected: tuple[int, str]) -> None:
    assert tenant.send(payload(**{"from": recipient(address, name)})) == expected
    assert [item.sender for item in tenant.captured] == ([address] if expected == OK else [])


def test_from_denied_is_the_mailbox_itself(tenant: Tenant) -> None:
    user = "denied@example.com"
    content = payload(**{"from": recipient(user)})
    assert tenant.send(content, mailbox=user, token=tenant.user_token(user)) == OK


def test_body_size(tenant: Tenant) -> None:
    octets = json.dumps(payload()).encode()
    assert outcome(tenant.post(octets.ljust(MAX_BODY))) == OK
    assert outcome(tenant.post(octets.ljust(MAX_BODY + 1))) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json; charset=utf-8", OK),
        ("Application/JSON;odata.metadata=minimal", OK),
        ("application/json; charset=iso-8859-1", (415, "UnsupportedMediaType")),
        ("text/html", (415, "UnsupportedMediaType")),
        ("", (400, "BadRequest")),
    ],
)
def test_content_type(tenant: Tenant, content_type: str, expected: tuple[int, str]) -> None:
    assert tenant.send(payload(), content_type=content_type) == expected


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"message": NaN}', b"[]", b'"x"', b"\xff\xfe{}", b"[" * 200_000, b"\xef\xbb\xbf{}"]
)
def test_not_json(tenant: Tenant, body: bytes) -> None:
    assert outcome(tenant.post(body)) == (400, "BadRequest")


READ = (400, "RequestBodyRead")
MISSING = (400, "ErrorRequiredPropertyMissing")
NO_RECIPIENT = (400, "ErrorInvalidRecipients")
PROPERTY = (400, "ErrorInvalidExtendedProperty")
HEADER = (400, "InvalidInternetMessageHeader")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, MISSING),
        ({"message": None}, MISSING),
        ({"message": {}, "x": 1}, READ),
        ({"message": payload()["message"], "saveToSentItems": "false"}, READ),
        (payload(priority="high"), READ),
        (payload(subject=1), READ),
        (payload(subject="a\0b"), READ),
        (payload(subject="\ud800"), READ),
        (payload(subject="\U0001f600"), OK),
        (payload(body="text"), READ),
        (payload(body={"contentType": "HTML", "content": ""}), OK),
        (payload(body={"contentType": "rtf", "content": ""}), READ),
        (payload(body={"contentType": "text", "charset": "utf-8"}), READ),
        (payload(body={"contentType": "text", "content": "\udfff"}), READ),
        (payload(importance="High"), READ),
        (payload(importance="high"), OK),
        (payload(isReadReceiptRequested="yes"), READ),
        (payload(isReadReceiptRequested=True, isDeliveryReceiptRequested=False), OK),
        (payload(categories=["a"], flag={"flagStatus": "flagged"}, internetMessageId="<a@b>"), OK),
        (payload(toRecipients=recipient("a@example.com")), READ),
        (payload(toRecipients=[{"address": "a@example.com"}]), READ),
        (payload(toRecipients=[{}]), MISSING),
        (payload(toRecipients=None), NO_RECIPIENT),
        (payload(toRecipients=[]), NO_RECIPIENT),
        (payload(toRecipients=[recipient("")]), NO_RECIPIENT),
        (payload(toRecipients=[recipient("nobody")]), NO_RECIPIENT),
        (payload(toRecipients=[recipient("a b@example.com")]), NO_RECIPIENT),
        (payload(toRecipients=[recipient("A <a@example.com>")]), NO_RECIPIENT),
        (payload(toRecipients=[recipient('"a b"@example.com')]), OK),
        (payload(toRecipients=[recipient("jürgen@münchen.example")]), OK),
        (payload(toRecipients=[recipient("a@[192.0.2.1]")]), OK),
        (payload(replyTo=[recipient("nobody")]), NO_RECIPIENT),
        (payload(replyTo=[recipient("r@example.com")]), OK),
        (payload(toRecipients=[recipient(f"u{i}@example.com") for i in range(500)]), OK),
        (
            payload(bccRecipients=[recipient(f"u{i}@example.com") for i in range(500)]),
            (400, "ErrorExceededMaxRecipientLimit"),
        ),
        (payload(internetMessageHeaders=[{"name": f"X-{i}", "value": ""} for i in range(5)]), OK),
        (
            payload(internetMessageHeaders=[{"name": f"X-{i}", "value": "v"} for i in range(6)]),
            (400, "InvalidInternetMessageHeaderCollection"),
        ),
        (payload(internetMessageHeaders=[{"name": "List-Id", "value": "v"}]), HEADER),
        (payload(internetMessageHeaders=[{"name": "x-", "value": "v"}]), HEADER),
        (payload(internetMessageHeaders=[{"name": "x-a b", "value": "v"}]), HEADER),
        (payload(internetMessageHeaders=[{"name": "x-a", "value": "v\r\nBcc: x"}]), HEADER),
        (payload(internetMessageHeaders=[{"name": "x-a"}]), MISSING),
        (payload(singleValueExtendedProperties=[{"id": "String 0x1035", "value": "<a@b>"}]), OK),
        (payload(singleValueExtendedProperties=[{"id": "String 1035", "value": "a"}]), PROPERTY),
        (payload(singleValueExtendedProperties=[{"id": "Text 0x1035", "value": "a"}]), PROPERTY),
        (
            payload(
                singleValueExtendedProperties=[
                    {"id": "String {00020386-0000-0000-c000-000000000046} Name x-a", "value": "a"},
                    {"id": "Integer {00020386-0000-0000-C000-000000000046} Id 0x8001", "value": "1"},
                ]
            ),
            OK,
        ),
        (payload(singleValueExtendedProperties=[{"id": "Boolean 0x0E01", "value": True}]), READ),
        (attached(contentType="text/plain", isInline=True, contentId="a"), OK),
        (attached(contentBytes=""), OK),
        (attached(contentBytes="YQ"), READ),
        (attached(contentBytes="YQ=="[:-1] + "\n"), READ),
        (attached(contentBytes="Y-__"), READ),
        (attached(contentBytes="YQ==YQ=="), READ),
        (attached(contentBytes=None), MISSING),
        (attached(name=None), MISSING),
        (attached(name=""), MISSING),
        (attached(name=7), READ),
        (attached(isInline="true"), READ),
        (attached(contentType=["text/plain"]), READ),
        (attached(contentID="a"), READ),
        (attached(**{"@odata.type": None}), READ),
        (attached(**{"@odata.type": "#microsoft.graph.attachment"}), READ),
        (payload(attachments=["a"]), READ),
        (
            payload(
                attachments=[
                    {
                        "@odata.type": "#microsoft.graph.itemAttachment",
                        "name": "m",
                        "item": {"@odata.type": "#microsoft.graph.message", "subject": "inner"},
                    }
                ]
            ),
            OK,
        ),
        (
            payload(
                attachments=[
                    {
                        "@odata.type": "#microsoft.graph.itemAttachment",
                        "name": "m",
                        "item": {"@odata.type": "#microsoft.graph.message", "x": 1},
                    }
                ]
            ),
            READ,
        ),
    ],
)
def test_payload(tenant: Tenant, content: dict[str, Any], expected: tuple[int, str]) -> None:
    assert tenant.send(content) == expected
    assert len(tenant.captured) == (1 if expected == OK else 0)


def test_a_property_twice(tenant: Tenant) -> None:
    assert outcome(tenant.post(b'{"message": {"subject": "a", "subject": "b"}}')) == READ


def test_unknown_property_is_named_and_made_harmless(tenant: Tenant) -> None:
    answer = tenant.post(json.dumps(payload(**{"x\u202e\n": 1})).encode())
    message = json.loads(answer.body)["error"]["message"]
    assert "does not exist on type 'microsoft.graph.message'" in message
    assert message.isprintable()


MIME = (
    b"From: =?utf-8?b?SsO8cmdlbg==?= <scanner@example.com>\r\n"
    b'To: "Doe, \\"J\\"" <john@example.com>, (a (nested) comment) plain@example.com\r\n'
    b"Cc: friends: f1@example.com, F2 <f2@example.com>;, undisclosed-recipients:;\r\n"
    b"Bcc: hidden@example.com\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= an\r\n alle\r\n"
    b"\r\n"
    b"Hello\r\n"
)


def send_mime(tenant: Tenant, mime: bytes) -> tuple[int, str]:
    return outcome(tenant.post(base64.b64encode(mime), content_type="text/plain"))


def test_mime_is_captured_octet_by_octet(tenant: Tenant) -> None:
    assert send_mime(tenant, MIME) == OK
    (captured,) = tenant.captured
    assert (captured.form, captured.mime, captured.message) == ("mime", MIME, None)
    assert captured.save_to_sent is True
    assert captured.sender == USER
    assert captured.to == ("john@example.com", "plain@example.com")
    assert captured.cc == ("f1@example.com", "f2@example.com")
    assert captured.bcc == ("hidden@example.com",)
    assert captured.subject == "Grüße an alle"


def test_mime_in_lines_of_base64(tenant: Tenant) -> None:
    assert outcome(tenant.post(base64.encodebytes(MIME), content_type="text/plain")) == OK
    assert tenant.captured[0].mime == MIME


@pytest.mark.parametrize("body", [b"", b"From: a\r\n", b"YQ", b"Y-__", b"YQ==YQ=="])
def test_mime_that_is_not_base64(tenant: Tenant, body: bytes) -> None:
    answer = tenant.post(body, content_type="text/plain")
    assert outcome(answer) == (400, "ErrorMimeContentInvalidBase64String")


@pytest.mark.parametrize(
    ("mime", "expected"),
    [
        (b"Subject: x\r\n\r\n", NO_RECIPIENT),
        (b"To: undisclosed-recipients:;\r\n\r\n", NO_RECIPIENT),
        (b"To: nobody\r\n\r\n", NO_RECIPIENT),
        (b"Bcc: a@example.com\r\n\r\n", OK),
        (b"To: a@example.com\r\nFrom: denied@example.com\r\n\r\n", (403, "ErrorSendAsDenied")),
        (b"To: a@example.com\r\nSender: denied@example.com\r\n\r\n", (403, "ErrorSendAsDenied")),
        (b'To: a@example.com\r\nFrom: "x@y" <scanner@example.com>\r\n\r\n', (403, "ErrorSendAsDenied")),
        ("To: Jürgen <jürgen@example.com>\r\n\r\n".encode(), OK),
        (b"To: a@example.com\r\nSubject: =?x-unknown?q?a?= \xff\r\n\r\n", OK),
        (
            b"To: " + b", ".join(b"u%d@example.com" % i for i in range(501)) + b"\r\n\r\n",
            (400, "ErrorExceededMaxRecipientLimit"),
        ),
    ],
)
def test_mime_rules(tenant: Tenant, mime: bytes, expected: tuple[int, str]) -> None:
    assert send_mime(tenant, mime) == expected
