# SPDX-License-Identifier: MIT
"""Who stands where: the envelope says who gets a message, its headers only say how each is shown (RFC 5321 §2.3.1).

Pure. Knows addresses and the parsed message; knows no policy: whether a sender is allowed is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.message.address import canonical, is_address_again
from relay.message.model import Address, Message, Recipients


def partition(envelope: Sequence[str], message: Message) -> Recipients:
    """The envelope's recipients, each once, in To, Cc or Bcc.

    envelope: forward-paths without angle brackets. One that the headers name goes where they name it, To before Cc, in
    the header's order and with its display name; the others go to Bcc. With neither a To nor a Cc field a single
    recipient goes to To. The address is always written as in the envelope.
    """
    waiting: dict[str, str] = {}
    for addr in envelope:
        waiting.setdefault(canonical(addr), addr)
    if not message.has_to_or_cc and len(waiting) == 1:
        return Recipients(to=tuple(Address("", addr) for addr in waiting.values()))
    to = _take_named(waiting, message.to)
    cc = _take_named(waiting, message.cc)
    return Recipients(to, cc, tuple(Address("", addr) for addr in waiting.values()))


def _take_named(waiting: dict[str, str], named: Sequence[Address]) -> tuple[Address, ...]:
    """Those of named who wait, taken out of waiting."""
    taken = []
    for entry in named:
        addr = waiting.pop(canonical(entry.addr), None)
        if addr is not None:
            taken.append(Address(entry.name, addr))
    return tuple(taken)


def from_address(message: Message, reverse_path: str, mailbox: str) -> Address:
    """Who the message is from: its From field's first address, else the envelope's sender, else the mailbox.

    A display name that is an address is left out: Exchange answers it with ErrorSendAsDenied (users report it).
    reverse_path: without angle brackets; empty for <>.
    """
    if message.from_:
        first = message.from_[0]
        return Address("", first.addr) if is_address_again(first.name) else first
    return Address("", reverse_path or mailbox)
