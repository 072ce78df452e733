# SPDX-License-Identifier: MIT
"""What Graph demands of a message, as strict as the real one or stricter: sizes, senders, recipients, headers.

The shape of the JSON is schema.py's; here are the rules about mail. Where it is not known what Graph does, the
message is refused: a relay that passes here asks nothing odd of the real service.
Sources: Microsoft Graph v1.0 user-sendmail, outlook-send-mime-message, errors; user reports for most codes.
"""

from __future__ import annotations

import binascii
import re
from email import message_from_bytes
from typing import Any

from relay.sandbox.capture import Captured, Origin, capture_json, capture_mime, header_addresses
from relay.sandbox.model import Request
from relay.sandbox.schema import MESSAGE, READ_ERROR, GraphError, boolean, read_json, unknown_property

MAX_BODY = 4 * 1024 * 1024
_MAX_RECIPIENTS = 500
_MAX_HEADERS = 5
_RECIPIENT_LISTS = ("toRecipients", "ccRecipients", "bccRecipients")

_JSON_PARAMETERS = re.compile(r'(?i)\s*|\s*charset="?utf-8"?\s*|\s*odata\.metadata=minimal\s*')
_ATOMS = r'[^\s\x00-\x20\x7f@<>(),;:\\"\[\]]+'
_ADDRESS = re.compile(rf'(?:"(?:[^"\\\r\n]|\\.)+"|{_ATOMS})@(?:\[[^\]\s]+\]|{_ATOMS})')
_HEADER_NAME = re.compile(r"[xX]-[!-9;-~]+")
_PROPERTY_TYPES = (
    "ApplicationTime|Binary|Boolean|CLSID|Currency|Double|Error|Float|Integer|Long|Null|Object|Short|SystemTime|String"
)
_GUID = r"\{[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}"
_PROPERTY_ID = re.compile(
    rf"(?:{_PROPERTY_TYPES}) (?:0x[0-9a-fA-F]{{1,4}}|{_GUID} (?:Name [^\x00-\x1f]+|Id 0x[0-9a-fA-F]{{1,8}}))"
)


def media_type(request: Request) -> str:
    """application/json or text/plain, of a body that is not too large. Raises GraphError."""
    if len(request.body) > MAX_BODY:
        raise GraphError(413, "RequestEntityTooLarge", "The maximum request length supported is 4MB.")
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if not kind:
        text = "Write requests (excluding DELETE) must contain the Content-Type header declaration."
        raise GraphError(400, "BadRequest", text)
    if kind != "text/plain" and (kind != "application/json" or not _JSON_PARAMETERS.fullmatch(parameters)):
        raise GraphError(415, "UnsupportedMediaType", "The Content-Type of the request is not supported.")
    return kind


def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in a body. Raises GraphError."""
    if media_type(request) != "application/json":
        raise GraphError(415, "UnsupportedMediaType", "The Content-Type of the request is not supported.")
    return _object(request.body)


def _object(body: bytes) -> dict[str, Any]:
    payload = read_json(body)
    if not isinstance(payload, dict):
        raise GraphError(400, "BadRequest", "A JSON object was expected.")
    return payload


def read_json_form(body: bytes, origin: Origin) -> Captured:
    """The message in a JSON payload of sendMail. Raises GraphError."""
    payload = _object(body)
    for name in payload:
        if name not in ("message", "saveToSentItems"):
            raise GraphError(400, READ_ERROR, unknown_property(name, "sendMail"))
    if not isinstance(payload.get("message"), dict):
        raise GraphError(400, "ErrorRequiredPropertyMissing", "Required property 'message' is missing.")
    message: dict[str, Any] = payload["message"]
    save_to_sent = payload.get("saveToSentItems", True)
    boolean(save_to_sent, "saveToSentItems")
    check_message(message)
    return capture_ready_json(message, origin, bool(save_to_sent))


def check_message(message: dict[str, Any]) -> None:
    """A message resource that may be stored; whether it may be sent is seen when it is."""
    MESSAGE(message, "message")
    check_headers(message.get("internetMessageHeaders", []))
    check_extended_properties(message)
    for item in message.get("attachments", []):
        check_attachment_name(item)
    for key in (*_RECIPIENT_LISTS, "replyTo"):
        check_addresses(item["emailAddress"].get("address") or "" for item in message.get(key, []))


def check_attachment_name(attachment: dict[str, Any]) -> None:
    if not attachment["name"]:
        raise GraphError(400, "ErrorRequiredPropertyMissing", "Required property 'name' is missing.")


def capture_ready_json(message: dict[str, Any], origin: Origin, save_to_sent: bool) -> Captured:
    """The record of a message that is being sent, if its sender and recipients are allowed."""
    for name in ("from", "sender"):
        if message.get(name):
            address = message[name]["emailAddress"]
            check_sender(address.get("name") or "", address.get("address") or "", origin)
    lists = [item["emailAddress"].get("address") or "" for key in _RECIPIENT_LISTS for item in message.get(key, [])]
    check_recipients(lists)
    return capture_json(origin, message, save_to_sent)


def read_mime(body: bytes) -> bytes:
    """The message in a base64 payload, line breaks allowed. Raises GraphError."""
    octets = body.translate(None, b" \t\r\n")
    try:
        if not octets or len(octets) % 4:
            raise binascii.Error
        return binascii.a2b_base64(octets, strict_mode=True)
    except binascii.Error:
        text = "Invalid base64 string for MIME content."
        raise GraphError(400, "ErrorMimeContentInvalidBase64String", text) from None


def read_mime_form(body: bytes, origin: Origin) -> Captured:
    """The message in a MIME payload of sendMail. Raises GraphError."""
    return capture_ready_mime(read_mime(body), origin)


def capture_ready_mime(mime: bytes, origin: Origin) -> Captured:
    """The record of a message that is being sent, if its sender and recipients are allowed."""
    message = message_from_bytes(mime)
    for sender in (item for name in ("From", "Sender") for item in header_addresses(message, name)):
        check_sender(sender.name, sender.addr, origin)
    check_recipients([item.addr for name in ("To", "Cc", "Bcc") for item in header_addresses(message, name)])
    return capture_mime(origin, mime)


def check_sender(name: str, address: str, origin: Origin) -> None:
    """Exchange's Send As. Any From is granted here, but one that begins with `denied`: that is somebody else."""
    check_addresses([address])
    own = {origin.mailbox.casefold(), origin.user.casefold()}
    denied = address.casefold() not in own and address.lower().startswith("denied")
    # A display name that is an address again is what a forger writes: Exchange answers it like a forgery.
    if denied or _ADDRESS.fullmatch(name.strip(" '\"<>()[]")):
        text = "The user account does not have the right to send mail on behalf of the specified sending account."
        raise GraphError(403, "ErrorSendAsDenied", text)


def check_recipients(addresses: list[str]) -> None:
    """One is needed, 500 are allowed, and a single bad one refuses the message."""
    if not addresses:
        raise GraphError(400, "ErrorInvalidRecipients", "At least one recipient is required.")
    if len(addresses) > _MAX_RECIPIENTS:
        text = f"The message has more than {_MAX_RECIPIENTS} recipients."
        raise GraphError(400, "ErrorExceededMaxRecipientLimit", text)
    check_addresses(addresses)


def check_addresses(addresses: Any) -> None:
    for address in addresses:
        if not _ADDRESS.fullmatch(address):
            text = "At least one recipient isn't valid. All recipients must be resolved before submission."
            raise GraphError(400, "ErrorInvalidRecipients", text)


def check_headers(headers: list[dict[str, str]]) -> None:
    """Five at the most, all of them X-, each on one line."""
    if len(headers) > _MAX_HEADERS:
        text = f"Maximum number of headers in one message should be less than or equal to {_MAX_HEADERS}."
        raise GraphError(400, "InvalidInternetMessageHeaderCollection", text)
    for header in headers:
        if not _HEADER_NAME.fullmatch(header["name"]):
            text = "The internet message header name should start with 'x-' or 'X-'."
            raise GraphError(400, "InvalidInternetMessageHeader", text)
        if "\r" in header["value"] or "\n" in header["value"]:
            text = "The internet message header value holds a line break."
            raise GraphError(400, "InvalidInternetMessageHeader", text)


def check_extended_properties(message: dict[str, Any]) -> None:
    """The id says type and property: `String 0x1035`, `String {guid} Name x`, `String {guid} Id 0x8001`."""
    for item in message.get("singleValueExtendedProperties", []):
        if not _PROPERTY_ID.fullmatch(item["id"]):
            raise GraphError(400, "ErrorInvalidExtendedProperty", "PropertyId values may only be in a known form.")
