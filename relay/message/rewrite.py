# SPDX-License-Identifier: MIT
"""Changes to a parsed message that were asked for: the mailbox in From (sender_rewrite). Pure."""

from __future__ import annotations

from relay.message.address import canonical
from relay.message.model import Address, Message


def put_mailbox_in_from(message: Message, from_: Address, mailbox: str) -> tuple[Message, Address]:
    """The message and From with the mailbox as sender: the display name stays, the original goes into Reply-To.

    A Reply-To that is there already is left alone (RFC 5322 §3.6.2 gives it the author's word).
    """
    if canonical(from_.addr) == canonical(mailbox):
        return message, from_
    return message._replace(reply_to=message.reply_to or (from_,)), Address(from_.name, mailbox)
