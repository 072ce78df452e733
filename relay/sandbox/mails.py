# SPDX-License-Identifier: MIT
"""The captured mails as the admin page shows them: text, HTML, names of the attachments. Judges nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from email import message_from_bytes
from functools import partial
from typing import Any

from relay.sandbox.capture import Captured, json_attachments, mime_attachments, part_text

MOST_MAILS = 50


def mails(received: int, captured: Iterable[Captured]) -> list[dict[str, Any]]:
    """The last of them, newest first, each with its number in this run."""
    last = list(captured)[-MOST_MAILS:]
    return [_mail(received - back, one) for back, one in enumerate(reversed(last))]


def _mail(number: int, captured: Captured) -> dict[str, Any]:
    text, html = _mime_bodies(captured.mime) if captured.mime is not None else _json_bodies(captured.message or {})
    attachments = mime_attachments(captured.mime) if captured.mime is not None else json_attachments(captured)
    return {
        "number": number,
        "at": f"{captured.received_at:%Y-%m-%d %H:%M:%S}",
        "from": captured.sender,
        "mailbox": captured.mailbox,
        "form": captured.form,
        "to": ", ".join(captured.to),
        "cc": ", ".join(captured.cc),
        "bcc": ", ".join(captured.bcc),
        "subject": captured.subject,
        "text": text,
        "html": html,
        "attachments": list(attachments),
        "source": partial(_source, captured),  # asked for seldom, and it may be large
    }


def _source(captured: Captured) -> str:
    """What Graph got: the MIME form as it came, or the JSON form with one value a line."""
    if captured.mime is not None:
        return captured.mime.decode("utf-8", "replace")
    return json.dumps(captured.message, indent=2, ensure_ascii=False)


def _json_bodies(message: dict[str, Any]) -> tuple[str, str]:
    """(text, HTML)."""
    body = message.get("body") or {}
    content = body.get("content") or ""
    return ("", content) if (body.get("contentType") or "").lower() == "html" else (content, "")


def _mime_bodies(mime: bytes) -> tuple[str, str]:
    """(text, HTML): the first part of each kind that is no attachment."""
    found = {"text/plain": "", "text/html": ""}
    for part in message_from_bytes(mime).walk():
        kind = part.get_content_type()
        if kind in found and not found[kind] and part.get_content_disposition() != "attachment":
            found[kind] = part_text(part)
    return found["text/plain"], found["text/html"]
