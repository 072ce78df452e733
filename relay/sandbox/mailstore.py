# SPDX-License-Identifier: MIT
"""What lies in the mailboxes: drafts with all they hold, and of what was sent just enough to be found again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

from relay.sandbox.capture import Captured, JsonObject, header_values
from relay.sandbox.schema import GraphError

_MOST_SENT = 10_000
_MESSAGE_ID = "string 0x1035"


@dataclass(slots=True, kw_only=True)
class Item:
    """A message in a mailbox. immutable: its id was asked for as one that stays when it moves."""

    id: str
    mailbox: str
    message: JsonObject = field(repr=False)
    mime: bytes | None = field(default=None, repr=False)
    attachments: list[JsonObject] = field(default_factory=list, repr=False)
    is_draft: bool = True
    immutable: bool = False
    internet_message_id: str = ""
    sent_at: str = ""
    recipients: dict[str, list[str]] = field(default_factory=dict)  # of what was sent, by the name of their property
    octets: int = 0  # of the HTTP bodies that made it

    def shown(self, names: list[str] | None) -> JsonObject:
        """The message resource as GET gives it; names: those of $select."""
        resource: JsonObject = {
            "isDraft": self.is_draft,
            "internetMessageId": self.internet_message_id,
            "subject": self.message.get("subject") or "",
            "hasAttachments": bool(self.attachments),
        }
        if self.sent_at:
            resource["sentDateTime"] = self.sent_at
        for name, addresses in self.recipients.items():
            resource[name] = [{"emailAddress": {"name": address, "address": address}} for address in addresses]
        chosen = resource if names is None else {name: value for name, value in resource.items() if name in names}
        return {"@odata.etag": 'W/"CQAAAA=="', "id": self.id, **chosen}

    def property_value(self, name: str) -> str | None:
        """The value of a single-value extended property."""
        for item in self.message.get("singleValueExtendedProperties") or ():
            if item["id"].casefold() == name.casefold():
                return str(item["value"])
        return None


class MailStore:
    """All mailboxes."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def add_draft(self, mailbox: str, message: JsonObject, mime: bytes | None, *, immutable: bool, octets: int) -> Item:
        attachments = message.pop("attachments", [])
        item = Item(
            id=_new_id(),
            mailbox=mailbox.casefold(),
            message=message,
            mime=mime,
            attachments=attachments,
            immutable=immutable,
            octets=octets,
        )
        item.internet_message_id = _internet_message_id(item)
        self._items[item.id] = item
        return item

    def find(self, mailbox: str, item_id: str) -> Item:
        """Raises GraphError where it is not in this mailbox."""
        item = self._items.get(item_id)
        if item is None or item.mailbox != mailbox.casefold():
            raise GraphError(404, "ErrorItemNotFound", "The specified object was not found in the store.")
        return item

    def find_draft(self, mailbox: str, item_id: str) -> Item:
        """As find(), but only what has not been sent."""
        item = self.find(mailbox, item_id)
        if not item.is_draft:
            raise GraphError(404, "ErrorItemNotFound", "The specified object was not found in the store.")
        return item

    def delete(self, item: Item) -> None:
        del self._items[item.id]

    def all_of(self, mailbox: str) -> Iterator[Item]:
        return (item for item in list(self._items.values()) if item.mailbox == mailbox.casefold())

    def drafts(self) -> list[Item]:
        """What was made and neither sent nor deleted, in all mailboxes."""
        return [item for item in self._items.values() if item.is_draft]

    def move_to_sent(self, item: Item, captured: Captured) -> None:
        """It is a draft no more. Its id changes with the folder, unless it was asked for as one that does not."""
        self.delete(item)
        item.id = item.id if item.immutable else _new_id()
        item.attachments = []
        self._keep(item, captured)

    def keep_sent(self, captured: Captured) -> None:
        """The copy of a message that was sent in one request."""
        message = {name: value for name, value in (captured.message or {}).items() if name != "attachments"}
        item = Item(id=_new_id(), mailbox=captured.mailbox.casefold(), message=message, mime=captured.mime)
        item.internet_message_id = _internet_message_id(item)
        self._keep(item, captured)

    def clear(self) -> None:
        self._items.clear()

    def _keep(self, item: Item, captured: Captured) -> None:
        item.sent_at = captured.received_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        item.recipients = {
            "toRecipients": list(captured.to),
            "ccRecipients": list(captured.cc),
            "bccRecipients": list(captured.bcc),
        }
        item.is_draft, item.mime = False, None
        self._items[item.id] = item
        self._trim()

    def _trim(self) -> None:
        if len(self._items) > _MOST_SENT:
            oldest = next((item for item in self._items.values() if not item.is_draft), None)
            if oldest is not None:
                self.delete(oldest)


def _new_id() -> str:
    return f"AAMk{secrets.token_urlsafe(30)}="


def _internet_message_id(item: Item) -> str:
    """The one given, by whichever way; else one of the service's own."""
    given: Any = item.message.get("internetMessageId") or item.property_value(_MESSAGE_ID)
    if item.mime is not None:
        given = next(iter(header_values(message_from_bytes(item.mime), "Message-ID")), "")
    return given or f"<{secrets.token_hex(12)}@sandbox.example>"
