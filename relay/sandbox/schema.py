# SPDX-License-Identifier: MIT
"""The JSON shape of a sendMail payload: property names, JSON types, enumerations. Knows no rule about mail.

Graph reads a payload by its OData metadata, so that one misspelt property refuses the whole message; so does
this. A check takes a value and the name to complain about, and raises GraphError, which never holds the value.
Sources: Microsoft Graph v1.0 resource pages message, fileAttachment, itemAttachment; OData JSON format 4.01.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

Check = Callable[[object, str], None]
READ_ERROR = "RequestBodyRead"


class GraphError(Exception):
    """A refusal: HTTP status, Graph's error code and a message that holds nothing of the mail."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.message = message


def read_json(octets: bytes) -> Any:
    """The JSON value of a body. Stricter than json.loads: UTF-8, no NaN, no property twice."""
    if not octets:
        raise GraphError(400, "BadRequest", "Empty Payload. JSON content expected.")
    try:
        return json.loads(octets.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        text = "Unable to read JSON request payload. Please ensure payload is of valid JSON format."
        raise GraphError(400, "BadRequest", text) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise GraphError(400, READ_ERROR, "Multiple properties with the same name were detected.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unexpected(name: str, wanted: str) -> GraphError:
    return GraphError(400, READ_ERROR, f"An unexpected node was found for '{name}'. A '{wanted}' node was expected.")


def _not_convertible(name: str, type_name: str) -> GraphError:
    return GraphError(400, READ_ERROR, f"Cannot convert the literal of '{name}' to the expected type '{type_name}'.")


def string(value: object, name: str) -> None:
    """A string or null that can be written as UTF-8 and holds no NUL."""
    if value is None:
        return
    if not isinstance(value, str):
        raise _unexpected(name, "PrimitiveValue")
    if "\0" in value:
        raise _not_convertible(name, "Edm.String")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate
            raise _not_convertible(name, "Edm.String") from None


def boolean(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise _not_convertible(name, "Edm.Boolean")


def integer(value: object, name: str) -> None:
    if type(value) is not int:
        raise _not_convertible(name, "Edm.Int32")


def binary(value: object, name: str) -> None:
    """Base64 with its padding and nothing else (RFC 4648 §4)."""
    if not isinstance(value, str) or not value.isascii() or len(value) % 4:
        raise _not_convertible(name, "Edm.Binary")
    try:
        binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error:
        raise _not_convertible(name, "Edm.Binary") from None


def enumeration(type_name: str, members: Iterable[str], *, any_case: bool = False) -> Check:
    allowed = frozenset(members)

    def check(value: object, name: str) -> None:
        if not isinstance(value, str) or (value.lower() if any_case else value) not in allowed:
            raise _not_convertible(name, type_name)

    return check


def collection(item: Check) -> Check:
    """An array, never null."""

    def check(value: object, name: str) -> None:
        if not isinstance(value, list):
            raise _unexpected(name, "StartArray")
        for entry in value:
            item(entry, name)

    return check


def entity(type_name: str, properties: Mapping[str, Check], *, required: Iterable[str] = ()) -> Check:
    """An object with no other properties than these; null only where the property above is not required."""
    needed = tuple(required)

    def check(value: object, name: str) -> None:
        if not isinstance(value, dict):
            raise _unexpected(name, "StartObject")
        for key, content in value.items():
            if key == "@odata.type":
                if content != f"#{type_name}":
                    raise GraphError(400, READ_ERROR, f"The type in '{name}/@odata.type' is not '{type_name}'.")
                continue
            rule = properties.get(key)
            if rule is None:
                raise GraphError(400, READ_ERROR, unknown_property(key, type_name))
            rule(content, key)
        for key in needed:
            if not value.get(key) and value.get(key) != "":
                raise GraphError(400, "ErrorRequiredPropertyMissing", f"Required property '{key}' is missing.")

    return check


def unknown_property(name: str, type_name: str) -> str:
    """Graph's sentence about a property that it does not know."""
    shown = name.encode("unicode_escape").decode("ascii")[:80]
    return (
        f"The property '{shown}' does not exist on type '{type_name}'. Make sure to only use property names "
        "that are defined by the type or mark the type as open type."
    )


def attachment(value: object, name: str) -> None:
    """A fileAttachment or an itemAttachment: the abstract type between them cannot be made."""
    kind = value.get("@odata.type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _ATTACHMENTS:
        raise GraphError(400, READ_ERROR, f"'{name}' needs an '@odata.type' that can be instantiated.")
    _ATTACHMENTS[kind](value, name)


def _item(value: object, name: str) -> None:
    kind = value.get("@odata.type") if isinstance(value, dict) else None
    if kind == "#microsoft.graph.message":
        MESSAGE(value, name)
    elif kind not in ("#microsoft.graph.event", "#microsoft.graph.contact"):
        raise GraphError(400, READ_ERROR, f"'{name}' needs an '@odata.type' that can be instantiated.")


_GRAPH = "microsoft.graph"
_EMAIL_ADDRESS = entity(f"{_GRAPH}.emailAddress", {"name": string, "address": string})
_RECIPIENT = entity(f"{_GRAPH}.recipient", {"emailAddress": _EMAIL_ADDRESS}, required=["emailAddress"])
_BODY = entity(
    f"{_GRAPH}.itemBody",
    {"contentType": enumeration(f"{_GRAPH}.bodyType", ["text", "html"], any_case=True), "content": string},
)
_DATE_TIME = entity(f"{_GRAPH}.dateTimeTimeZone", {"dateTime": string, "timeZone": string})
_FLAG = entity(
    f"{_GRAPH}.followupFlag",
    {
        "flagStatus": enumeration(f"{_GRAPH}.followupFlagStatus", ["notFlagged", "complete", "flagged"]),
        "completedDateTime": _DATE_TIME,
        "dueDateTime": _DATE_TIME,
        "startDateTime": _DATE_TIME,
    },
)
_HEADER = entity(f"{_GRAPH}.internetMessageHeader", {"name": string, "value": string}, required=["name", "value"])
_SINGLE_VALUE = entity(
    f"{_GRAPH}.singleValueLegacyExtendedProperty", {"id": string, "value": string}, required=["id", "value"]
)
_MULTI_VALUE = entity(
    f"{_GRAPH}.multiValueLegacyExtendedProperty",
    {"id": string, "value": collection(string)},
    required=["id", "value"],
)
_ATTACHMENT_PROPERTIES: dict[str, Check] = {
    "id": string,
    "name": string,
    "contentType": string,
    "size": integer,
    "isInline": boolean,
    "lastModifiedDateTime": string,
}
_ATTACHMENTS = {
    f"#{_GRAPH}.fileAttachment": entity(
        f"{_GRAPH}.fileAttachment",
        {**_ATTACHMENT_PROPERTIES, "contentBytes": binary, "contentId": string, "contentLocation": string},
        required=["name", "contentBytes"],
    ),
    f"#{_GRAPH}.itemAttachment": entity(
        f"{_GRAPH}.itemAttachment", {**_ATTACHMENT_PROPERTIES, "item": _item}, required=["name", "item"]
    ),
}
ATTACHMENT_ITEM = entity(
    f"{_GRAPH}.attachmentItem",
    {
        "attachmentType": enumeration(f"{_GRAPH}.attachmentType", ["file", "item", "reference"]),
        "name": string,
        "contentType": string,
        "size": integer,
        "isInline": boolean,
        "contentId": string,
    },
    required=["attachmentType", "name", "size"],
)
MESSAGE = entity(
    f"{_GRAPH}.message",
    {
        "id": string,
        "subject": string,
        "body": _BODY,
        "uniqueBody": _BODY,
        "bodyPreview": string,
        "from": _RECIPIENT,
        "sender": _RECIPIENT,
        "toRecipients": collection(_RECIPIENT),
        "ccRecipients": collection(_RECIPIENT),
        "bccRecipients": collection(_RECIPIENT),
        "replyTo": collection(_RECIPIENT),
        "importance": enumeration(f"{_GRAPH}.importance", ["low", "normal", "high"]),
        "inferenceClassification": enumeration(f"{_GRAPH}.inferenceClassificationType", ["focused", "other"]),
        "isDeliveryReceiptRequested": boolean,
        "isReadReceiptRequested": boolean,
        "isRead": boolean,
        "isDraft": boolean,
        "hasAttachments": boolean,
        "attachments": collection(attachment),
        "internetMessageHeaders": collection(_HEADER),
        "internetMessageId": string,
        "singleValueExtendedProperties": collection(_SINGLE_VALUE),
        "multiValueExtendedProperties": collection(_MULTI_VALUE),
        "categories": collection(string),
        "flag": _FLAG,
        "changeKey": string,
        "conversationId": string,
        "conversationIndex": binary,
        "parentFolderId": string,
        "createdDateTime": string,
        "lastModifiedDateTime": string,
        "receivedDateTime": string,
        "sentDateTime": string,
        "webLink": string,
    },
)
