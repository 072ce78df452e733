# SPDX-License-Identifier: MIT
"""Graph's sendMail, as strict as the real one or stricter: who may send, what is refused, with which code.

Knows no HTTP server. The shape of the JSON is schema.py's; here are the rules about mail. Where it is not known
what Graph does, the request is refused: a relay that passes here asks nothing odd of the real service.
Sources: Microsoft Graph v1.0 user-sendmail, outlook-send-mime-message, errors; user reports for most codes.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from datetime import datetime
from email import message_from_bytes
from typing import Any

from relay.clock import Clock
from relay.sandbox.capture import Captured, Origin, capture_json, capture_mime, header_addresses
from relay.sandbox.model import Answer, Request, SandboxSettings, json_answer
from relay.sandbox.schema import MESSAGE, READ_ERROR, GraphError, boolean, read_json, unknown_property
from relay.sandbox.tokens import Token, Tokens

MAX_BODY = 4 * 1024 * 1024
_MAX_RECIPIENTS = 500
_MAX_HEADERS = 5
_RECIPIENT_LISTS = ("toRecipients", "ccRecipients", "bccRecipients")

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
_STATUS_CODES = {
    400: "BadRequest",
    401: "InvalidAuthenticationToken",
    403: "ErrorAccessDenied",
    404: "ErrorInvalidUser",
    405: "BadRequest",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    429: "ApplicationThrottled",
    500: "ErrorInternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
    507: "ErrorQuotaExceeded",
}


def error_answer(request: Request, now: datetime, status: int, code: str = "", message: str = "") -> Answer:
    """Graph's error body. code: empty takes the usual one of that status."""
    error = {
        "code": code or _STATUS_CODES.get(status, "UnknownError"),
        "message": message or "The request was refused.",
        "innerError": {
            "date": f"{now:%Y-%m-%dT%H:%M:%S}",
            "request-id": request.request_id,
            "client-request-id": request.client_request_id,
        },
    }
    challenge = (("WWW-Authenticate", 'Bearer realm="", authorization_uri=""'),) if status == 401 else ()
    return json_answer(status, {"error": error}, *challenge)


class Graph:
    """The mail part of one tenant's Graph. capture: called with each message that is answered 202."""

    def __init__(
        self, settings: SandboxSettings, tokens: Tokens, clock: Clock, capture: Callable[[Captured], None]
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._clock = clock
        self._capture = capture

    def send_mail(self, request: Request) -> Answer:
        """POST /v1.0/users/{mailbox}/sendMail or /v1.0/me/sendMail."""
        try:
            token = self._authenticated(request)
            mailbox = self._sending_mailbox(request, token)
            origin = Origin(
                mailbox=mailbox,
                user=token.user,
                headers=request.headers,
                received_at=self._clock.now(),
                size=len(request.body),
            )
            captured = self._read(request, origin)
        except GraphError as error:
            return error_answer(request, self._clock.now(), error.status, error.code, error.message)
        self._capture(captured)
        return Answer(202)

    def token_user(self, request: Request) -> str:
        """The login behind a request's token, so that a scripted fault can be for one user; empty if none."""
        token = self._tokens.find(_bearer(request) or "")
        return token.user if token else ""

    def _authenticated(self, request: Request) -> Token:
        value = _bearer(request)
        if not value:
            raise GraphError(401, "InvalidAuthenticationToken", "Access token is empty.")
        token = self._tokens.find(value)
        if token is None:
            text = "Access token validation failure. Invalid audience, signature or a revoked grant."
            raise GraphError(401, "InvalidAuthenticationToken", text)
        if self._tokens.is_expired(token):
            text = "Lifetime validation failed, the token is expired."
            raise GraphError(401, "InvalidAuthenticationToken", text)
        return token

    def _sending_mailbox(self, request: Request, token: Token) -> str:
        """Whose mailbox sends, if this token may use it."""
        if "Mail.Send" not in token.permissions and "Mail.Send.Shared" not in token.permissions:
            raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        if request.segments[1] == "me":
            if not token.user:
                text = "/me request is only valid with delegated authentication flow."
                raise GraphError(400, "BadRequest", text)
            mailbox = token.user
        else:
            mailbox = request.segments[2]
        known = self._settings.mailboxes
        is_own = bool(token.user) and mailbox.casefold() in (token.user.casefold(), token.user_id)
        owner = token.user if is_own else mailbox
        if not mailbox or (known is not None and owner.casefold() not in {item.casefold() for item in known}):
            raise GraphError(404, "ErrorInvalidUser", "The requested user is invalid.")
        needed = "Mail.Send" if is_own or not token.user else "Mail.Send.Shared"
        if needed not in token.permissions:
            raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        return mailbox

    def _read(self, request: Request, origin: Origin) -> Captured:
        if len(request.body) > MAX_BODY:
            text = "The maximum request length supported is 4MB."
            raise GraphError(413, "RequestEntityTooLarge", text)
        media_type, _, parameters = request.headers.get("content-type", "").partition(";")
        media_type = media_type.strip().lower()
        if not media_type:
            text = "Write requests (excluding DELETE) must contain the Content-Type header declaration."
            raise GraphError(400, "BadRequest", text)
        if media_type == "text/plain":
            return read_mime_form(request.body, origin)
        if media_type != "application/json" or not re.fullmatch(
            r'(?i)\s*|\s*charset="?utf-8"?\s*|\s*odata\.metadata=minimal\s*', parameters
        ):
            raise GraphError(415, "UnsupportedMediaType", "The Content-Type of the request is not supported.")
        return read_json_form(request.body, origin)


def read_json_form(body: bytes, origin: Origin) -> Captured:
    """The message in a JSON payload. Raises GraphError."""
    payload = read_json(body)
    if not isinstance(payload, dict):
        raise GraphError(400, "BadRequest", "A JSON object was expected.")
    for name in payload:
        if name not in ("message", "saveToSentItems"):
            raise GraphError(400, READ_ERROR, unknown_property(name, "sendMail"))
    if not isinstance(payload.get("message"), dict):
        raise GraphError(400, "ErrorRequiredPropertyMissing", "Required property 'message' is missing.")
    message: dict[str, Any] = payload["message"]
    save_to_sent = payload.get("saveToSentItems", True)
    boolean(save_to_sent, "saveToSentItems")
    MESSAGE(message, "message")
    check_headers(message.get("internetMessageHeaders", []))
    check_extended_properties(message)
    for item in message.get("attachments", []):
        if not item["name"]:
            text = "Required property 'name' is missing."
            raise GraphError(400, "ErrorRequiredPropertyMissing", text)
    for name in ("from", "sender"):
        if message.get(name):
            address = message[name]["emailAddress"]
            check_sender(address.get("name") or "", address.get("address") or "", origin)
    lists = [item["emailAddress"].get("address") or "" for key in _RECIPIENT_LISTS for item in message.get(key, [])]
    check_recipients(lists)
    check_addresses(item["emailAddress"].get("address") or "" for item in message.get("replyTo", []))
    return capture_json(origin, message, bool(save_to_sent))


def read_mime_form(body: bytes, origin: Origin) -> Captured:
    """The message in a base64 payload, line breaks allowed. Raises GraphError."""
    octets = body.translate(None, b" \t\r\n")
    try:
        if not octets or len(octets) % 4:
            raise binascii.Error
        mime = binascii.a2b_base64(octets, strict_mode=True)
    except binascii.Error:
        text = "Invalid base64 string for MIME content."
        raise GraphError(400, "ErrorMimeContentInvalidBase64String", text) from None
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
    if denied or "@" in name:
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


def _bearer(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None
