# SPDX-License-Identifier: MIT
"""The state machine of one connection (RFC 5321 §4.1.4): a table of verbs, each with its checks and its action.

Session lives as long as the connection, Transaction as long as one mail transaction. What becomes of a message is
the backend's business, given as an argument; nothing here knows Graph. write_reply is the only writer of replies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from relay.identity import Client, Credentials, Identity, new_id
from relay.smtp import auth, command
from relay.smtp import reply as replies
from relay.smtp.command import Command
from relay.smtp.envelope import Envelope
from relay.smtp.lineio import DataTooLarge, Disconnected, LineIO, LineTooLong, TimedOut, TlsHello
from relay.smtp.reply import Reject, Reply

log = logging.getLogger(__name__)

MAX_FAILED_LOGINS = 3
MAX_BAD_COMMANDS = 20
_BAD_COMMAND_CODES = frozenset((500, 501, 502, 503))
# Commands of the RFCs that we do not offer: 502 instead of 500 (RFC 5321 §4.2.4)
_NOT_OFFERED = frozenset(
    ("EXPN", "TURN", "ETRN", "ATRN", "SEND", "SOML", "SAML", "BURL", "BDAT", "STARTTLS", "XCLIENT", "XFORWARD")
)


class Backend(Protocol):
    """What stands behind the protocol."""

    def authenticate(self, credentials: Credentials | None, client: Client) -> Identity:
        """Who this is; None asks for a client that did not log in. Raises Reject (530, 535, 454)."""
        ...

    def submit(self, envelope: Envelope, content: bytes, identity: Identity, client: Client) -> Reply:
        """Deliver, and say how it went. Never raises for what can happen."""
        ...


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What one session needs to know of the configuration."""

    hostname: str
    max_message_bytes: int
    max_recipients: int


@dataclass(slots=True)
class Transaction:
    """One mail transaction (RFC 5321 §3.3), from MAIL to the answer to the data, or RSET."""

    identity: Identity
    reverse_path: str
    message_id: str = field(default_factory=new_id)
    forward_paths: list[str] = field(default_factory=list)


class Session:
    """One connection, from greeting to close."""

    def __init__(self, line_io: LineIO, client: Client, backend: Backend, settings: SessionSettings) -> None:
        self.client = client
        self.idle = False  # waiting for the client's next line, with nothing in flight
        self.cut_short = False  # ended by us, while the client may still be sending
        self._io = line_io
        self._backend = backend
        self._settings = settings
        self._identity: Identity | None = None
        self._transaction: Transaction | None = None
        self._greeted = False
        self._closing = False
        self._draining = False
        self._failed_logins = 0
        self._bad_commands = 0
        self._verbs: dict[str, Callable[[str], Reply]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": lambda _: replies.OK,
            "HELP": lambda _: replies.HELP,
            "VRFY": self._vrfy,
            "QUIT": self._quit,
        }

    def run(self) -> None:
        """The whole conversation. Any fault ends this session alone, with 421 where it can still be said."""
        try:
            self.write_reply(replies.greeting(self._settings.hostname))
            while not self._closing:
                self._one_command()
            self._io.flush()
        except Disconnected:
            log.debug("client_gone", extra=self._facts())
        except TimedOut as timeout:
            self._say_timeout(timeout)
        except Exception:  # a bug costs this session, never the others
            log.exception("session_fault", extra=self._facts())
            self._farewell(replies.INTERNAL_FAULT)

    def drain(self) -> bool:
        """Called when the service stops. True: the session was idle and has been told 421; close its socket."""
        self._draining = True
        if self.idle and not self._closing:
            self._closing = True
            self._farewell(replies.SHUTTING_DOWN)
            return True
        return False

    def write_reply(self, reply: Reply) -> None:
        """The only way out for a reply: counted, logged, and the end of the session where it says so."""
        if log.isEnabledFor(logging.DEBUG):
            log.debug("smtp_reply", extra=self._facts(reply=str(reply)))
        self._io.write(reply.octets)
        self._closing = self._closing or reply.close
        if reply.code in _BAD_COMMAND_CODES:
            self._bad_commands += 1
            if self._bad_commands >= MAX_BAD_COMMANDS:
                self._end(replies.TOO_MANY_BAD_COMMANDS)
        elif reply.code == 535:
            self._failed_logins += 1
            if self._failed_logins >= MAX_FAILED_LOGINS:
                self._end(replies.TOO_MANY_FAILED_LOGINS)

    def _one_command(self) -> None:
        try:
            line = self._read_line()
            if line == b"":  # some devices send an empty line behind the data; the program we come from ignores it
                return
            reply = self._dispatch(line)
        except LineTooLong:
            reply = replies.LINE_TOO_LONG
        except TlsHello:
            reply = self._name_tls()
        except Reject as refusal:
            reply = refusal.reply
        self.write_reply(reply)

    def _read_line(self, limit: int | None = None) -> bytes:
        if self._draining:
            self._closing = True
            self._farewell(replies.SHUTTING_DOWN)
            raise Disconnected
        self.idle = True
        try:
            return self._io.read_line(limit)
        finally:
            self.idle = False

    def _dispatch(self, line: bytes) -> Reply:
        parsed = command.parse(line)
        action = self._verbs.get(parsed.verb)
        if log.isEnabledFor(logging.DEBUG):
            self._log_command(parsed, known=action is not None)
        if action is not None:
            return action(parsed.argument)
        return replies.NOT_OFFERED if parsed.verb in _NOT_OFFERED else replies.UNKNOWN_COMMAND

    # Verbs: each checks first, by raising Reject, and then acts.

    def _ehlo(self, _: str) -> Reply:
        self._greeted = True
        self._transaction = None
        extensions = (
            "PIPELINING",
            f"SIZE {self._settings.max_message_bytes}",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "AUTH PLAIN LOGIN",
            "AUTH=PLAIN LOGIN",  # the form that clients from before RFC 2554 look for
        )
        return replies.ehlo(self._settings.hostname, extensions)

    def _helo(self, _: str) -> Reply:
        self._greeted = True
        self._transaction = None
        return replies.helo(self._settings.hostname)

    def _auth(self, argument: str) -> Reply:
        if not self._greeted or self._identity is not None or self._transaction is not None:
            raise Reject(replies.BAD_SEQUENCE)  # RFC 4954 §4
        credentials = auth.exchange(argument, self._ask)
        self._identity = self._backend.authenticate(credentials, self.client)
        return replies.AUTH_OK

    def _ask(self, challenge: Reply) -> bytes:
        self.write_reply(challenge)
        return self._read_line(command.LONGEST_LINE)

    def _mail(self, argument: str) -> Reply:
        if not self._greeted or self._transaction is not None:
            raise Reject(replies.BAD_SEQUENCE)
        identity = self._identity or self._backend.authenticate(None, self.client)
        reverse_path, parameters = command.parse_mail(argument)
        if parameters.size is not None and parameters.size > self._settings.max_message_bytes:
            raise Reject(replies.TOO_LARGE)  # RFC 1870 §6.1
        self._note_ignored(parameters.ignored)
        self._transaction = Transaction(identity, reverse_path)
        return replies.MAIL_OK

    def _rcpt(self, argument: str) -> Reply:
        if self._transaction is None:
            raise Reject(replies.BAD_SEQUENCE)
        forward_path, ignored = command.parse_rcpt(argument)
        if len(self._transaction.forward_paths) >= self._settings.max_recipients:
            raise Reject(replies.TOO_MANY_RECIPIENTS)  # RFC 5321 §4.5.3.1.10
        self._note_ignored(ignored)
        self._transaction.forward_paths.append(forward_path)
        return replies.RCPT_OK

    def _data(self, argument: str) -> Reply:
        if argument:
            raise Reject(replies.SYNTAX)
        if self._transaction is None or not self._transaction.forward_paths:
            raise Reject(replies.BAD_SEQUENCE)
        self.write_reply(replies.START_DATA)
        transaction, self._transaction = self._transaction, None
        envelope = Envelope(transaction.message_id, transaction.reverse_path, tuple(transaction.forward_paths))
        try:
            content = self._io.read_data(self._settings.max_message_bytes)
        except DataTooLarge as fault:
            log.info("rejected", extra=self._too_large(envelope, transaction.identity, fault.size))
            return replies.TOO_LARGE
        return self._backend.submit(envelope, content, transaction.identity, self.client)

    def _rset(self, argument: str) -> Reply:
        if argument:
            raise Reject(replies.SYNTAX)  # RFC 5321 §4.1.1: verbs that take no parameters
        self._transaction = None
        return replies.OK

    def _vrfy(self, argument: str) -> Reply:
        if not argument:
            raise Reject(replies.SYNTAX)
        return replies.CANNOT_VERIFY

    def _quit(self, argument: str) -> Reply:
        if argument:
            raise Reject(replies.SYNTAX)
        return replies.BYE

    # Ends

    def _end(self, reply: Reply) -> None:
        self._io.write(reply.octets)
        self._closing = self.cut_short = True

    def _farewell(self, reply: Reply) -> None:
        self.cut_short = True
        try:
            self._io.write(reply.octets)
            self._io.flush()
        except Disconnected:
            log.debug("client_gone", extra=self._facts())

    def _name_tls(self) -> Reply:
        log.warning(
            "tls_on_plain_port",
            extra=self._facts(reason="the client speaks TLS from the first byte, this port does not"),
        )
        self._closing = self.cut_short = True
        return replies.UNKNOWN_COMMAND

    def _say_timeout(self, timeout: TimedOut) -> None:
        if timeout.waiting_for_dot:
            log.warning(
                "timeout",
                extra=self._facts(
                    reason="the client ends its message with a bare LF instead of CR LF and waits; "
                    "if it is an old device, put its address into bare_lf_networks"
                ),
            )
        else:
            log.info("timeout", extra=self._facts())
        self._farewell(replies.TIMED_OUT)

    # What the log gets

    def _facts(self, **more: object) -> dict[str, object]:
        return {"session": self.client.session, "client": self.client.address, **more}

    def _too_large(self, envelope: Envelope, identity: Identity, size: int) -> dict[str, object]:
        return self._facts(
            message_id=envelope.message_id,
            user=identity.user,
            mailbox=identity.mailbox,
            sender=envelope.reverse_path,
            recipients=len(envelope.forward_paths),
            size_bytes=size,
            attempts=0,
            reply=str(replies.TOO_LARGE),
            reason=f"larger than max_message_size ({self._settings.max_message_bytes} octets)",
        )

    def _log_command(self, parsed: Command, *, known: bool) -> None:
        # An unknown verb may be a password that arrived out of step, and AUTH holds one: neither is shown.
        if not known:
            shown = "(unknown)"
        elif parsed.verb == "AUTH":
            shown = "AUTH"
        else:
            shown = f"{parsed.verb} {parsed.argument}".rstrip()
        log.debug("smtp_command", extra=self._facts(command=shown))

    def _note_ignored(self, names: tuple[str, ...]) -> None:
        if names and log.isEnabledFor(logging.DEBUG):
            log.debug("parameters_ignored", extra=self._facts(parameters=list(names)))
