# SPDX-License-Identifier: MIT
"""One mail transaction, as it fills (RFC 5321 §3.3). Knows no command and no socket."""

from __future__ import annotations

from relay.identity import Identity, new_id
from relay.smtp.envelope import Envelope
from relay.spool import Spool


class Transaction:
    """One mail transaction (RFC 5321 §3.3), from MAIL to the answer to the data, or RSET."""

    __slots__ = ("chunks", "forward_paths", "identity", "message_id", "reverse_path", "utf8")

    def __init__(self, identity: Identity, reverse_path: str, utf8: bool) -> None:
        self.identity = identity
        self.reverse_path = reverse_path
        self.utf8 = utf8
        self.message_id = new_id()
        self.forward_paths: list[str] = []
        self.chunks: Spool | None = None  # of BDAT, from the first one on: the data has begun

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
