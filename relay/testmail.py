# SPDX-License-Identifier: MIT
"""The mail that `send-test` and `check --online --send-to` send."""

from __future__ import annotations

from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid


def message(sender: str, recipient: str, text: str) -> EmailMessage:
    """as_bytes() gives its octets. An address beyond ASCII stands in them as it is (RFC 6532)."""
    made = EmailMessage(policy=policy.SMTP if (sender + recipient).isascii() else policy.SMTPUTF8)
    made["From"], made["To"] = sender, recipient
    made["Subject"] = "Test of graph-smtp-relay"
    made["Date"] = format_datetime(datetime.now(UTC))
    domain = sender.rpartition("@")[2]
    made["Message-ID"] = make_msgid(domain=domain if domain.isascii() and domain else "localhost")
    made.set_content(text)
    return made
