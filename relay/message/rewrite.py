# SPDX-License-Identifier: MIT
"""Changes to a parsed message that were asked for: the mailbox in From (sender_rewrite). Pure."""

from __future__ import annotations

import dataclasses

from relay.message.address import canonical
from relay.message.model import Address, Message


def put_mailbox_in_from(message: Message, from_: Address, mailbox: str) -> tuple[Message, Address]:
    """The message and From with the mailbox as sender: the display name stays, the original goes into Reply-To.

    A Reply-To that is there already is left alone (RFC 5322 §3.6.2 gives it the author's word). A Sender is left out:
    with the mailbox in From there is nobody else who sends (§3.6.2 again), and Exchange would refuse the other name.
    """
    if canonical(from_.addr) == canonical(mailbox):
        return message, from_
    rewritten = dataclasses.replace(message, reply_to=message.reply_to or (from_,), sender=None)
    return rewritten, Address(from_.name, mailbox)
