# SPDX-License-Identifier: MIT
"""The body of sendMail: every property where Graph wants it, and nothing else."""

from __future__ import annotations

import base64
import json
from email.header import decode_header, make_header
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.graph.payload import send_mail_json
from relay.message.model import Address, Attachment, Body, Message, Recipients

BOB = Address("Bob", "bob@x")
NOBODY = Recipients()


def build(message: Message, recipients: Recipients = NOBODY, *, save_to_sent: bool = False) -> dict[str, Any]:
    content, _ = send_mail_json(message, recipients, BOB, save_to_sent=save_to_sent)
    octets = bytes(content)
    assert len(octets) == len(content)
    payload: dict[str, Any] = json.loads(octets.decode("utf-8"))
    return payload


def left_out(message: Message) -> tuple[str, ...]:
    return send_mail_json(message, NOBODY, BOB, save_to_sent=False)[1]


def test_the_least() -> None:
    assert build(Message()) == {
        "message": {
            "body": {"contentType": "text", "content": ""},
            "from": {"emailAddress": {"address": "bob@x", "name": "Bob"}},
            "toRecipients": [],
        },
        "saveToSentItems": False,
    }
    assert left_out(Message()) == ()


def test_all_there_is() -> None:
    message = Message(
        subject="Grüße",
        reply_to=(Address("", "r@x"),),
        body=Body("html", '<p class="a">é\u2028</p>'),
        attachments=(
            Attachment("a.pdf", "application/pdf", b"\0\xff"),
            Attachment('"é.png', "image/png", b"", inline=True, content_id="c@x"),
            Attachment("b.png", "image/png", b"xyz", content_id="d"),
        ),
        importance="low",
        read_receipt=True,
        delivery_receipt=True,
        message_id="<1@x>",
        in_reply_to="<0@x>",
        references="<a@x> <0@x>",
        x_headers=(("X-A", "1"),),
    )
    recipients = Recipients((Address("Ann", "ann@x"),), (Address("", "c@x"),), (Address("", "b@x"),))
    file = {"@odata.type": "#microsoft.graph.fileAttachment"}
    assert build(message, recipients, save_to_sent=True) == {
        "message": {
            "subject": "Grüße",
            "body": {"contentType": "html", "content": '<p class="a">é\u2028</p>'},
            "from": {"emailAddress": {"address": "bob@x", "name": "Bob"}},
            "toRecipients": [{"emailAddress": {"address": "ann@x", "name": "Ann"}}],
            "ccRecipients": [{"emailAddress": {"address": "c@x"}}],
            "bccRecipients": [{"emailAddress": {"address": "b@x"}}],
            "replyTo": [{"emailAddress": {"address": "r@x"}}],
            "importance": "low",
            "isReadReceiptRequested": True,
            "isDeliveryReceiptRequested": True,
            "internetMessageHeaders": [{"name": "X-A", "value": "1"}],
            "singleValueExtendedProperties": [
                {"id": "String 0x1035", "value": "<1@x>"},
                {"id": "String 0x1039", "value": "<a@x> <0@x>"},
                {"id": "String 0x1042", "value": "<0@x>"},
            ],
            "attachments": [
                {**file, "name": "a.pdf", "contentType": "application/pdf", "contentBytes": "AP8="},
                {
                    **file,
                    "name": '"é.png',
                    "contentType": "image/png",
                    "isInline": True,
                    "contentId": "c@x",
                    "contentBytes": "",
                },
                {**file, "name": "b.png", "contentType": "image/png", "contentId": "d", "contentBytes": "eHl6"},
            ],
        },
        "saveToSentItems": True,
    }
    assert left_out(message) == ()


def test_an_empty_subject_is_a_subject() -> None:
    assert build(Message(subject=""))["message"]["subject"] == ""


def test_at_most_five_headers_and_the_others_are_named() -> None:
    message = Message(x_headers=tuple((f"X-{n}", str(n)) for n in range(7)))
    assert [h["name"] for h in build(message)["message"]["internetMessageHeaders"]] == [
        "X-0",
        "X-1",
        "X-2",
        "X-3",
        "X-4",
    ]
    assert left_out(message) == ("X-5", "X-6")


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("X-A", "a b", "a b"),
        ("x-a", " a\r\n b\0\tc ", "a  b c"),
        ("X-A", "é", "=?utf-8?B?w6k=?="),
        ("X-A", "v" * 995, "v" * 995),
        ("X-A", "v" * 996, None),
        ("X-A", "", None),
        ("X-A", " \r\n", None),
        ("X-", "a", None),
        ("X-A:b", "a", None),
        ("Y-A", "a", None),
        ("X-é", "a", None),
    ],
)
def test_headers_that_graph_takes(name: str, value: str, written: str | None) -> None:
    message = Message(x_headers=((name, value), ("X-Last", "l")))
    headers = build(message)["message"]["internetMessageHeaders"]
    last = {"name": "X-Last", "value": "l"}
    assert headers == ([last] if written is None else [{"name": name, "value": written}, last])
    assert left_out(message) == ((name,) if written is None else ())


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=150))
def test_header_values_are_ascii_and_can_be_decoded(value: str) -> None:
    headers = build(Message(x_headers=(("X-A", "é" + value),)))["message"].get("internetMessageHeaders")
    if headers:
        assert headers[0]["value"].isascii()
        assert all(len(word) <= 75 for word in headers[0]["value"].split())
        assert str(make_header(decode_header(headers[0]["value"]))) == "é" + value


def test_what_is_left_out_is_named_once() -> None:
    message = Message(
        sender=Address("", "office@x"),
        from_=(BOB, Address("", "second@x")),
        not_carried=("text alternative",),
        other_headers=("Date", "List-Id"),
        x_headers=(("X-Empty", ""), ("X-Empty", "")),
    )
    assert left_out(message) == (
        "text alternative",
        "Date",
        "List-Id",
        "Sender",
        "From after the first address",
        "X-Empty",
    )
    assert left_out(Message(sender=Address("", "BOB@x"))) == ()


@given(st.lists(st.builds(Attachment, st.text(st.characters(codec="utf-8")), st.just("a/b"), st.binary())))
def test_attachments_are_base64_of_their_octets(attachments: list[Attachment]) -> None:
    found = build(Message(attachments=tuple(attachments)))["message"].get("attachments", [])
    assert [(a["name"], base64.b64decode(a["contentBytes"], validate=True)) for a in found] == [
        (a.name, a.content) for a in attachments
    ]
