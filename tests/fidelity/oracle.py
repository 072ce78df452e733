# SPDX-License-Identifier: MIT
"""Did all of a message arrive? What Graph got, compared part by part with an independent reading of what was sent."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from relay.sandbox.capture import Captured
from tests.fidelity.reading import Part, parts_of


def check(sent: bytes, captured: Captured, not_carried: Sequence[str], envelope: Sequence[str]) -> None:
    """Fails with what is missing. sent: with CR LF."""
    arrived = [*captured.to, *captured.cc, *captured.bcc]
    assert sorted(map(str.lower, arrived)) == sorted(map(str.lower, envelope))
    parts = parts_of(sent)
    if captured.mime is not None:
        check_mime(parts, captured.mime)
    else:
        assert captured.message is not None
        check_json(parts, captured.message, not_carried)


def check_mime(parts: Sequence[Part], mime: bytes) -> None:
    """Same parts, in the same order, octet by octet; text with an uncertain charset has a certain one now."""
    found = parts_of(mime)
    assert [part._replace(text=None) for part in found] == [part._replace(text=None) for part in parts]
    for before, after in zip(parts, found, strict=True):
        assert before.text is None or after.text == before.text
    assert mime.partition(b"\r\n\r\n")[0].isascii()
    assert mime.count(b"\n") == mime.count(b"\r") == mime.count(b"\r\n")


def check_json(parts: Sequence[Part], message: dict[str, Any], not_carried: Sequence[str]) -> None:
    """Each part is in the body, or an attachment of its own in the same order; nothing is there that was not sent."""
    attachments = list(message.get("attachments", ()))
    for part in parts:
        if attachments and _is(part, attachments[0]):
            attachments.pop(0)
        else:
            assert _is_in_body(part, message["body"], not_carried), f"{part.kind} {part.name!r} is missing"
    assert attachments == []


def _is(part: Part, attachment: dict[str, Any]) -> bool:
    content = base64.b64decode(attachment["contentBytes"])
    same = content == part.content
    if part.kind.startswith("message/"):  # the library writes these anew, with its own line ends
        same = b"".join(content.split()) == b"".join(part.content.split())
    if _stands_beside_the_body(part, attachment["name"]) and part.text is not None:  # a file has no charset: UTF-8
        same = content.decode("utf-8-sig") == part.text.removeprefix("\ufeff")
    return (
        same
        and attachment["contentType"] == part.kind
        and (attachment["name"] == part.name if part.name else _is_made_up(attachment["name"], part))
        and attachment.get("contentId", "") == part.content_id
    )


def _is_made_up(name: str, part: Part) -> bool:
    """A nameless text beside the body is ATT00001; else it may be an alternative with the octets of a named part."""
    beside_body = part.kind in ("text/plain", "text/html") and part.disposition != "attachment"
    return name.startswith("ATT") if beside_body else bool(name)


def _stands_beside_the_body(part: Part, name: str) -> bool:
    return part.kind in ("text/plain", "text/html") and not part.name and name.startswith("ATT")


def _is_in_body(part: Part, body: dict[str, str], not_carried: Sequence[str]) -> bool:
    if part.kind not in ("text/plain", "text/html") or part.disposition == "attachment":
        return False
    if part.kind == "text/plain" and body["contentType"] == "html":
        return "text alternative" in not_carried
    if part.text is None:  # a guess was needed; no letter may be lost by it
        return "\ufffd" not in body["content"] and len(body["content"].strip()) > 0
    text = part.text.removeprefix("\ufeff")
    if part.kind == "text/html":
        return body == {"contentType": "html", "content": text}
    return text.rstrip("\r\n") in body["content"]
