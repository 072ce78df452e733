# SPDX-License-Identifier: MIT
"""Reply, and the catalogue of every reply that we give (RFC 5321 §4.2, RFC 3463). Knows no session and no Graph."""

from __future__ import annotations

from dataclasses import dataclass, field

_MAX_LINE = 512  # RFC 5321 §4.5.3.1.5, CR LF included


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. detail: subject.detail of the enhanced code, whose class follows from the code (RFC 3463 §2).

    Greeting, HELO and EHLO replies and 3xx carry no enhanced code (RFC 2034 §4): detail is empty there.
    close: the connection ends behind it. octets: the reply as sent.
    """

    code: int
    detail: str
    lines: tuple[str, ...]
    close: bool = False
    octets: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        enhanced = f"{self.enhanced} " if self.detail else ""
        last = len(self.lines) - 1
        rows = [
            f"{self.code}{' ' if number == last else '-'}{enhanced}{line}\r\n" for number, line in enumerate(self.lines)
        ]
        for row in rows:
            if not row[:-2].isascii() or not row[:-2].isprintable() or len(row) > _MAX_LINE:
                raise ValueError(f"not a reply line: {row!r}")
        object.__setattr__(self, "octets", "".join(rows).encode("ascii"))

    @property
    def enhanced(self) -> str:
        """`5.7.8`, or an empty string."""
        return f"{self.code // 100}.{self.detail}" if self.detail else ""

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced}".rstrip()


class Reject(Exception):
    """Raised by a check: the command is answered with this reply and changes nothing."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def _reply(code: int, detail: str, text: str, *, close: bool = False) -> Reply:
    return Reply(code, detail, (text,), close)


def greeting(hostname: str) -> Reply:
    """RFC 5321 §4.3.1: 220 with the host's name first."""
    return _reply(220, "", f"{hostname} ESMTP graph-smtp-relay")


def helo(hostname: str) -> Reply:
    """RFC 5321 §4.1.1.1: HELO is answered by one line."""
    return _reply(250, "", hostname)


def ehlo(hostname: str, extensions: tuple[str, ...]) -> Reply:
    """RFC 5321 §4.1.1.1: the host's name, then one extension a line."""
    return Reply(250, "", (hostname, *extensions))


def queued(message_id: str) -> Reply:
    """The one positive answer to message data."""
    return _reply(250, "0.0", f"Ok: queued as {message_id}")


OK = _reply(250, "0.0", "Ok")
BYE = _reply(221, "0.0", "Bye", close=True)
HELP = _reply(214, "0.0", "Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT")
CANNOT_VERIFY = _reply(252, "0.0", "Cannot verify; send the mail and see")  # RFC 5321 §3.5.3
MAIL_OK = _reply(250, "1.0", "Sender ok")
RCPT_OK = _reply(250, "1.5", "Recipient ok")
CHUNK_OK = _reply(250, "0.0", "Chunk received")
START_TLS = _reply(220, "0.0", "Ready to start TLS")  # RFC 3207 §4
START_DATA = _reply(354, "", "End data with <CR><LF>.<CR><LF>")

# AUTH: RFC 4954 §4 and §6
AUTH_OK = _reply(235, "7.0", "Authentication successful")
ASK_USER = _reply(334, "", "VXNlcm5hbWU6")
ASK_PASSWORD = _reply(334, "", "UGFzc3dvcmQ6")
ASK_PLAIN = _reply(334, "", "")
AUTH_CANCELLED = _reply(501, "7.0", "Authentication cancelled")
AUTH_MALFORMED = _reply(501, "5.4", "Cannot decode the authentication data")
AUTH_UNKNOWN_MECHANISM = _reply(504, "5.4", "Unknown authentication mechanism; use PLAIN or LOGIN")
TLS_REQUIRED_FOR_AUTH = _reply(538, "7.11", "Encryption required for authentication; use STARTTLS")
AUTH_REQUIRED = _reply(530, "7.0", "Authentication required")
AUTH_REFUSED = _reply(535, "7.8", "Authentication credentials invalid")
AUTH_UNAVAILABLE = _reply(454, "7.0", "Temporary authentication failure")

# Commands: RFC 5321 §4.2.4, §4.3.2
LINE_TOO_LONG = _reply(500, "5.2", "Line too long")
UNKNOWN_COMMAND = _reply(500, "5.2", "Command not recognized")
NOT_OFFERED = _reply(502, "5.1", "Command not implemented")
BAD_SEQUENCE = _reply(503, "5.1", "Bad sequence of commands")
SYNTAX = _reply(501, "5.4", "Syntax error in parameters or arguments")
BAD_SENDER = _reply(501, "1.7", "Bad sender address syntax")
BAD_RECIPIENT = _reply(553, "1.3", "Bad recipient address syntax")
TOO_MANY_RECIPIENTS = _reply(452, "5.3", "Too many recipients; send the rest in another transaction")
NO_ROOM = _reply(452, "3.1", "Too much mail at the moment, try again later")
SENDER_NOT_ALLOWED = _reply(550, "7.1", "Sender address not allowed for this login")
RECIPIENT_NOT_ALLOWED = _reply(550, "7.1", "Recipient address not allowed for this client")
TOO_LARGE = _reply(552, "3.4", "Message size exceeds the limit")

# The end of a connection: RFC 5321 §3.8
TOO_MANY_CONNECTIONS = _reply(421, "7.0", "Too many connections, try again later", close=True)
TOO_MANY_FAILED_LOGINS = _reply(421, "7.0", "Too many failed logins, closing", close=True)
TOO_MANY_BAD_COMMANDS = _reply(421, "7.0", "Too many bad commands, closing", close=True)
TIMED_OUT = _reply(421, "4.2", "Timeout, closing", close=True)
SHUTTING_DOWN = _reply(421, "3.2", "Service is shutting down, try again later", close=True)
INTERNAL_FAULT = _reply(421, "3.0", "Internal fault, try again later", close=True)
NETWORK_REFUSED = _reply(554, "7.1", "Your network may not use this relay", close=True)

# The outcome of a message; outcome.py says which one when
DELIVERY_THROTTLED = _reply(451, "4.5", "Microsoft 365 is throttling, try again later")
DELIVERY_UNREACHABLE = _reply(451, "4.1", "Microsoft 365 cannot be reached or failed, try again later")
DELIVERY_NOT_AUTHORIZED = _reply(451, "7.0", "Temporary authorization failure, try again later")
DELIVERY_INTERNAL_FAULT = _reply(451, "3.0", "Internal fault, try again later")
DELIVERY_LIMIT_REACHED = _reply(451, "7.28", "Sending limit of the mailbox reached, try again later")
MAILBOX_FULL = _reply(452, "2.2", "Mailbox of the sender is full")
SEND_AS_DENIED = _reply(550, "7.60", "Sender address not allowed for this mailbox")
DELIVERY_DENIED = _reply(550, "7.1", "Delivery not authorized")
SENDER_MAILBOX_UNKNOWN = _reply(550, "1.8", "The sending mailbox does not exist or is not in Exchange Online")
RECIPIENT_REFUSED = _reply(550, "1.3", "A recipient address was refused")
MESSAGE_TOO_LARGE_UPSTREAM = _reply(552, "3.4", "Message too large for delivery")
MESSAGE_REFUSED = _reply(554, "6.0", "Message refused")
