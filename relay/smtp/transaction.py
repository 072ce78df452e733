# SPDX-License-Identifier: MIT
"""One mail transaction, as it fills (RFC 5321 §3.3). Knows no command and no socket."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.identity import Identity, new_id
from relay.smtp.budget import Reservation
from relay.smtp.envelope import Envelope
from relay.spool import Spool


@dataclass(slots=True)
class Transaction:
    """One mail transaction (RFC 5321 §3.3), from MAIL to the answer to the data, or RSET."""

    identity: Identity
    reverse_path: str
    reservation: Reservation
    utf8: bool = False
    message_id: str = field(default_factory=new_id)
    forward_paths: list[str] = field(default_factory=list)
    chunks: Spool = field(default_factory=lambda: Spool(digested=True))  # of BDAT
    chunking: bool = False  # a first BDAT was seen: the data has begun

    def facts(self) -> dict[str, object]:
        """What a log line says of it."""
        return {
            "message_id": self.message_id,
            "user": self.identity.user,
            "mailbox": self.identity.mailbox,
            "sender": self.reverse_path,
            "recipients": len(self.forward_paths),
        }

    def envelope(self) -> Envelope:
        """What is handed down with the content."""
        return Envelope(self.message_id, self.reverse_path, tuple(self.forward_paths))
