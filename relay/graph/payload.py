# SPDX-License-Identifier: MIT
"""Message → the octets of requests in JSON form (Graph: user-sendmail, message, fileAttachment, attachmentItem).

Knows the property names of Graph's message and what it refuses. Sends nothing; knows no token, no mailbox, no retry.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterable
from typing import Any

from relay.graph.body import Base64, Content, Piece
from relay.message.model import Address, Attachment, Message, Recipients

MAX_INTERNET_HEADERS = 5  # Graph answers InvalidInternetMessageHeaderCollection to six
_MAX_HEADER_VALUE = 995  # octets: what fits into one line of RFC 5322 §2.1.1 with the shortest name
_HEADER_NAME = re.compile(r"[xX]-[!-9;-~]+")
_CONTROLS = re.compile("[\x00-\x1f\x7f]+")
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_WORD_OCTETS = 45  # of text in one encoded word: 60 characters of base64, under the 75 of RFC 2047 §2

# MAPI properties for what the JSON form has no property for; internetMessageId is documented as writable in drafts.
_MESSAGE_ID = "String 0x1035"
_REFERENCES = "String 0x1039"
_IN_REPLY_TO = "String 0x1042"
_DELETE_AFTER_SUBMIT = "Boolean 0x0E01"  # PidTagDeleteAfterSubmit, [MS-OXOMSG]; nobody has confirmed it for Graph
# A property of our own in the mailbox, which no recipient sees: by it a draft is found whose id we never got.
_MARK = "String {6f1b3c0e-2d0a-4c55-9a5e-5d3c7e1f8a42} Name graph-smtp-relay"


def send_mail_json(
    message: Message, recipients: Recipients, from_: Address, *, save_to_sent: bool
) -> tuple[Content, tuple[str, ...]]:
    """The request body of sendMail in UTF-8, and the names of what of the message it leaves out."""
    members, left_out = _members(message, recipients, from_, _extended_properties(message))
    saved = "true" if save_to_sent else "false"
    encoded = f'{{"saveToSentItems":{saved},"message":{{{members}}}}}'.encode()
    if not message.attachments:
        return Content((encoded,)), left_out
    pieces: list[Piece] = [encoded[:-2]]
    separator = b',"attachments":['
    for attachment in message.attachments:
        pieces += (separator, *attachment_json(attachment).pieces)
        separator = b","
    pieces.append(b"]}}")
    return Content(tuple(pieces)), left_out


def draft_json(message: Message, recipients: Recipients, from_: Address, mark: str, *, keep_copy: bool) -> Content:
    """The message resource without attachments, for POST /messages.

    mark: a name for it that draft_filter() finds. keep_copy: else Exchange is asked to delete it once it is sent.
    """
    properties = [*_extended_properties(message), _property(_MARK, mark)]
    if not keep_copy:
        properties.append(_property(_DELETE_AFTER_SUBMIT, "true"))
    members, _ = _members(message, recipients, from_, properties)
    return Content((f"{{{members}}}".encode(),))


def draft_filter(mark: str) -> str:
    """The $filter for messages with this mark. Source: Graph, "Get singleValueLegacyExtendedProperty"."""
    return f"singleValueExtendedProperties/Any(ep: ep/id eq '{_MARK}' and ep/value eq '{mark}')"


def attachment_json(attachment: Attachment) -> Content:
    """The fileAttachment resource, content included."""
    head = _json(_file_attachment(attachment))[:-1] + ',"contentBytes":"'
    return Content((head.encode(), Base64(attachment.content), b'"}'))


def upload_session_json(attachment: Attachment) -> Content:
    """What createUploadSession wants to know of an attachment."""
    item: dict[str, Any] = {
        "attachmentType": "file",
        "name": attachment.name,
        "contentType": attachment.media_type,
        "size": len(attachment.content),
    }
    return Content((_json({"AttachmentItem": item | _inline(attachment)}).encode(),))


def _members(
    message: Message, recipients: Recipients, from_: Address, properties: list[str]
) -> tuple[str, tuple[str, ...]]:
    """The members of the message resource but for its attachments, and the names of what has no place in it.

    Written as text: building it of dicts first takes as long as encoding them, and both several times as long as this.
    """
    members = [
        f'"body":{{"contentType":"{message.body.kind}","content":{_json(message.body.content)}}}',
        f'"from":{_recipient(from_)}',
        f'"toRecipients":{_recipients(recipients.to)}',
    ]
    if message.subject is not None:
        members.append(f'"subject":{_json(message.subject)}')
    if recipients.cc:
        members.append(f'"ccRecipients":{_recipients(recipients.cc)}')
    if recipients.bcc:
        members.append(f'"bccRecipients":{_recipients(recipients.bcc)}')
    if message.reply_to:
        members.append(f'"replyTo":{_recipients(message.reply_to)}')
    if message.importance is not None:
        members.append(f'"importance":"{message.importance}"')
    if message.read_receipt:
        members.append('"isReadReceiptRequested":true')
    if message.delivery_receipt:
        members.append('"isDeliveryReceiptRequested":true')
    headers, headers_left_out = _internet_headers(message.x_headers)
    if headers:
        members.append(f'"internetMessageHeaders":{_json(headers)}')
    if properties:
        members.append(f'"singleValueExtendedProperties":[{",".join(properties)}]')
    left_out = [*message.not_carried, *message.other_headers]
    if message.sender is not None and message.sender.addr.lower() != from_.addr.lower():
        left_out.append("Sender")  # Graph sets it: the mailbox that sends
    if len(message.from_) > 1:
        left_out.append("From after the first address")
    return ",".join(members), tuple(dict.fromkeys([*left_out, *headers_left_out]))


def _recipient(address: Address) -> str:
    name = f',"name":{_json(address.name)}' if address.name else ""
    return f'{{"emailAddress":{{"address":{_json(address.addr)}{name}}}}}'


def _recipients(addresses: Iterable[Address]) -> str:
    return f"[{','.join([_recipient(address) for address in addresses])}]"


def _extended_properties(message: Message) -> list[str]:
    properties = []
    if message.message_id:
        properties.append(_property(_MESSAGE_ID, message.message_id))
    if message.references:
        properties.append(_property(_REFERENCES, message.references))
    if message.in_reply_to:
        properties.append(_property(_IN_REPLY_TO, message.in_reply_to))
    return properties


def _property(name: str, value: str) -> str:
    return f'{{"id":"{name}","value":{_json(value)}}}'


def _internet_headers(fields: Iterable[tuple[str, str]]) -> tuple[list[dict[str, str]], list[str]]:
    """The first five that Graph takes, and the names of the others."""
    taken: list[dict[str, str]] = []
    left_out: list[str] = []
    for name, value in fields:
        octets = _header_value(value)
        fits = _HEADER_NAME.fullmatch(name) and 0 < len(octets) <= _MAX_HEADER_VALUE
        if fits and len(taken) < MAX_INTERNET_HEADERS:
            taken.append({"name": name, "value": octets})
        else:
            left_out.append(name)
    return taken, left_out


def _header_value(value: str) -> str:
    """value on one line in ASCII, with encoded words where it is not (RFC 2047)."""
    value = _CONTROLS.sub(" ", value).strip()
    if value.isascii():
        return value
    words: list[bytes] = [b""]
    for character in value:  # a character is not parted between two words, RFC 2047 §5
        octets = character.encode()
        if len(words[-1]) + len(octets) > _WORD_OCTETS:
            words.append(b"")
        words[-1] += octets
    return " ".join(f"=?utf-8?B?{binascii.b2a_base64(word, newline=False).decode('ascii')}?=" for word in words)


def _file_attachment(attachment: Attachment) -> dict[str, Any]:
    """The fileAttachment resource but for contentBytes."""
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": attachment.name,
        "contentType": attachment.media_type,
    } | _inline(attachment)


def _inline(attachment: Attachment) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    if attachment.inline:
        properties["isInline"] = True
    if attachment.content_id:
        properties["contentId"] = attachment.content_id
    return properties
