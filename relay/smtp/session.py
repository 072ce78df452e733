# SPDX-License-Identifier: MIT
"""The state machine of one connection (RFC 5321 §4.1.4): a table of verbs, each with its checks and its action.

Session lives as long as the connection, Transaction as long as one mail transaction. What becomes of a message is
the backend's business, given as an argument; nothing here knows Graph. write_reply is the only writer of replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relay.identity import Client, Identity, is_allowed
from relay.smtp import auth, command, sessionlog
from relay.smtp import reply as replies
from relay.smtp.backend import Backend, SessionSettings
from relay.smtp.envelope import Envelope
from relay.smtp.lineio import (
    DataRefused,
    DataTooLarge,
    Disconnected,
    LineIO,
    LineTooLong,
    TimedOut,
    TlsFailed,
    TlsHello,
)
from relay.smtp.reply import Reject, Reply
from relay.smtp.transaction import Transaction
from relay.spool import Octets, Spool

MAX_FAILED_LOGINS = 3
MAX_BAD_COMMANDS = 20
LINGER_S = 1.0
_BAD_COMMAND_CODES = frozenset((500, 501, 502, 503))
# RFC 9112 §3.2: every request has it. The request line is no such sign, since a web page can make that one too long.
_HTTP_HOST = "HOST:"
# Commands of the RFCs that we do not offer: 502 instead of 500 (RFC 5321 §4.2.4)
_NOT_OFFERED = frozenset(
    ("EXPN", "TURN", "ETRN", "ATRN", "SEND", "SOML", "SAML", "BURL", "STARTTLS", "XCLIENT", "XFORWARD")
)


class Session:
    """One connection, from greeting to close."""

    def __init__(
        self,
        line_io: LineIO,
        client: Client,
        backend: Backend,
        settings: SessionSettings,
        *,
        implicit_tls: bool = False,
    ) -> None:
        """implicit_tls: the handshake comes before the greeting (RFC 8314 §3)."""
        self.client = client
        self.idle = False  # waiting for the client's next line, with nothing in flight
        self.cut_short = False  # ended by us, while the client may still be sending
        self._io = line_io
        self._backend = backend
        self._settings = settings
        self._identity: Identity | None = None
        self._transaction: Transaction | None = None
        self._reservation = settings.budget.reservation()  # of the transaction that there is
        self._unanswered: Envelope | None = None  # submitted, and the reply has not left yet
        self._goes_on = False  # the client has sent a command behind the message: it is there
        self._implicit_tls = implicit_tls
        self._logs_dialogue = False
        self._in_tls = False
        self._greeted = False
        self._handshaking = False
        self._closing = False
        self._draining = False
        self._failed_logins = 0
        self._bad_commands = 0

    def run(self) -> None:
        """The whole conversation. Any fault ends this session alone, with 421 where it can still be said."""
        self._logs_dialogue = sessionlog.shows_dialogue()
        try:
            if self._implicit_tls:
                self._start_tls()
            self.write_reply(self._settings.greeting)
            while not self._closing:
                self._one_command()
            self._io.flush()
        except Disconnected as gone:
            sessionlog.gone(self.client, waiting_for_dot=gone.waiting_for_dot)
        except TlsFailed as failure:
            if not self._draining:
                sessionlog.noted(self.client, "tls_failed", str(failure))
        except TimedOut as timeout:
            self._say_timeout(timeout)
        except Exception:  # a bug costs this session, never the others
            sessionlog.fault(self.client)
            self._farewell(replies.INTERNAL_FAULT)
        finally:
            self._drop_transaction()
            if self._unanswered is not None:
                self._backend.answered(self._unanswered, self.client, heard=False)

    def close(self) -> None:
        """The end of the connection, once run() is over."""
        try:
            if self.cut_short:
                self._io.linger(LINGER_S)
        finally:
            self._io.close()

    def drain(self) -> bool:
        """Called when the service stops. An idle session is told 421 and ended; True then. Others end by themselves."""
        self._draining = True
        if self._handshaking:  # nothing can be said within it
            self._io.hang_up()
            return True
        if self.idle and not self._closing:
            self._closing = True
            self._farewell(replies.SHUTTING_DOWN)
            self._io.hang_up()
            return True
        return False

    def cut(self) -> None:
        """Called when the time to stop is up: whatever is in flight, the client is told to come back."""
        self._farewell(replies.SHUTTING_DOWN)

    def write_reply(self, reply: Reply) -> None:
        """The only way out for a reply: counted, logged, and the end of the session where it says so."""
        if self._logs_dialogue:
            sessionlog.said(self.client, "smtp_reply", reply=str(reply))
        self._io.write(reply.octets)
        if reply.close:
            self._closing = True
            self.cut_short = self.cut_short or reply is not replies.BYE
        if reply.code in _BAD_COMMAND_CODES:
            self._bad_commands += 1
            if self._bad_commands >= MAX_BAD_COMMANDS:
                self.write_reply(replies.TOO_MANY_BAD_COMMANDS)
        elif reply.code == 535:
            self._failed_logins += 1
            if self._failed_logins >= MAX_FAILED_LOGINS:
                self.write_reply(replies.TOO_MANY_FAILED_LOGINS)

    def _one_command(self) -> None:
        reply: Reply | None = None
        try:
            line = self._read_line()
            if line != b"":  # some devices send an empty line behind the data; the program we come from ignores it
                reply = self._dispatch(line)
        except LineTooLong:
            reply = replies.LINE_TOO_LONG
        except TlsHello:
            reply = self._name_tls()
        except Reject as refusal:
            reply = refusal.reply
        if reply is not None:
            self.write_reply(reply)
        else:
            self._goes_on = False  # no command: it says nothing of who is there
        if self._unanswered is not None:
            self._hand_over(self._unanswered)
        if reply is replies.START_TLS:
            self._start_tls()

    def _read_line(self, limit: int | None = None) -> bytes:
        self._io.give_way()
        between_chunks = self._transaction is not None and self._transaction.chunks is not None
        if self._draining and not between_chunks:
            self._closing = True
            self._farewell(replies.SHUTTING_DOWN)
            raise Disconnected
        self.idle = not between_chunks
        try:
            return self._io.read_line(limit)
        finally:
            self.idle = False

    def _dispatch(self, line: bytes) -> Reply:
        parsed = command.parse(line)
        action = _ACTIONS.get(parsed.verb)
        if parsed.verb == "STARTTLS" and self._settings.tls is None:
            action = None
        if self._logs_dialogue:
            sessionlog.command(self.client, parsed, known=action is not None)
        if action is not None:
            return action(self, parsed.argument)
        if parsed.verb.startswith(_HTTP_HOST):
            self._name_http()
        return replies.NOT_OFFERED if parsed.verb in _NOT_OFFERED else replies.UNKNOWN_COMMAND

    # Verbs: each checks first, by raising Reject, and then acts.

    def _ehlo(self, _: str) -> Reply:
        self._greeted = True
        self._drop_transaction()
        return self._settings.ehlo_in_tls if self._in_tls else self._settings.ehlo

    def _helo(self, _: str) -> Reply:
        self._greeted = True
        self._drop_transaction()
        return self._settings.helo

    def _starttls(self, argument: str) -> Reply:
        if argument:
            raise Reject(replies.SYNTAX)
        if self._in_tls:
            raise Reject(replies.BAD_SEQUENCE)
        return replies.START_TLS  # the handshake follows behind the reply

    def _start_tls(self) -> None:
        """RFC 3207 §4.2: whatever was said before the handshake is forgotten."""
        if self._settings.tls is None:  # a reload took the certificate away from a port that listens yet
            raise TlsFailed("tls.cert_file is not set any more; restart to close this port")
        self._handshaking = True
        try:
            self._io.start_tls(self._settings.tls)
        finally:
            self._handshaking = False
        self._in_tls = True
        self._greeted = False
        self._identity = None
        self._drop_transaction()
        if self._logs_dialogue:
            sessionlog.said(self.client, "tls_started", tls=self._io.tls_version())

    def _auth(self, argument: str) -> Reply:
        if self._settings.tls_missing(in_tls=self._in_tls):
            reason = "AUTH outside of TLS; for a device that has no TLS see tls.require_for_auth"
            sessionlog.noted(self.client, "tls_required", reason)
            raise Reject(replies.TLS_REQUIRED_FOR_AUTH)
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
        transaction = Transaction(identity, reverse_path, parameters.utf8)
        size = parameters.size or 0
        if size > self._settings.max_message_bytes:
            return self._refused(transaction, replies.TOO_LARGE, size)  # RFC 1870 §6.1
        if not self._settings.budget.has_room(size):
            return self._refused(transaction, replies.NO_ROOM, size)
        if reverse_path and not is_allowed(reverse_path, identity.allowed_from):
            sessionlog.address_refused(self.client, "allowed_from", identity)
            raise Reject(replies.SENDER_NOT_ALLOWED)
        if parameters.ignored and self._logs_dialogue:
            sessionlog.said(self.client, "parameters_ignored", parameters=list(parameters.ignored))
        self._transaction = transaction
        return replies.MAIL_OK

    def _rcpt(self, argument: str) -> Reply:
        transaction = self._transaction
        if transaction is None or transaction.chunks is not None:
            raise Reject(replies.BAD_SEQUENCE)
        forward_path, ignored = command.parse_rcpt(argument, utf8=transaction.utf8)
        if len(transaction.forward_paths) >= self._settings.max_recipients:
            raise Reject(replies.TOO_MANY_RECIPIENTS)  # RFC 5321 §4.5.3.1.10
        if not is_allowed(forward_path, transaction.identity.allowed_recipients):
            sessionlog.address_refused(self.client, "allowed_recipients", transaction.identity)
            raise Reject(replies.RECIPIENT_NOT_ALLOWED)
        if ignored and self._logs_dialogue:
            sessionlog.said(self.client, "parameters_ignored", parameters=list(ignored))
        transaction.forward_paths.append(forward_path)
        return replies.RCPT_OK

    def _data(self, argument: str) -> Reply:
        if argument:
            raise Reject(replies.SYNTAX)
        transaction = self._transaction
        if transaction is None or not transaction.forward_paths or transaction.chunks is not None:
            raise Reject(replies.BAD_SEQUENCE)
        if not self._settings.budget.has_room(1):
            self._drop_transaction()
            return self._refused(transaction, replies.NO_ROOM, 0)
        self.write_reply(replies.START_DATA)
        try:
            content = self._io.read_data(self._settings.max_message_bytes, self._reservation)
            return self._submit(transaction, content)
        except DataRefused as refusal:
            return self._refused(transaction, _reply_to(refusal), refusal.size)
        finally:
            self._drop_transaction()

    def _bdat(self, argument: str) -> Reply:
        """RFC 3030 §2: the octets behind the command are read whatever the answer will be, or framing is lost."""
        size, last = command.parse_bdat(argument)
        transaction = self._transaction
        if last is None:
            self._io.read_chunk(size)
            if size or (transaction is not None and transaction.chunks is not None):
                self._drop_transaction()  # or a LAST behind it would send a message with a hole in it
            raise Reject(replies.SYNTAX)
        if transaction is None or not transaction.forward_paths:
            self._io.read_chunk(size)
            raise Reject(replies.BAD_SEQUENCE)
        chunks = Spool(digested=True) if transaction.chunks is None else transaction.chunks
        whole = len(chunks) + size
        try:
            if whole > self._settings.max_message_bytes:
                self._io.read_chunk(size)
                raise DataTooLarge(whole)
            self._io.read_chunk(size, chunks, self._reservation)
        except DataRefused as refusal:
            self._drop_transaction()
            return self._refused(transaction, _reply_to(refusal), whole)
        transaction.chunks = chunks
        if not last:
            return replies.CHUNK_OK
        try:
            return self._submit(transaction, chunks.finish())
        finally:
            self._drop_transaction()

    def _submit(self, transaction: Transaction, content: Octets) -> Reply:
        self._unanswered = envelope = transaction.envelope()
        try:
            # What was pipelined with the data is not answered as late as that: clients wait less for it.
            self._io.flush()
        finally:  # who is gone by now has still handed over a whole message, and may not come again
            reply = self._backend.submit(envelope, content, transaction.identity, self.client, self._io.is_gone)
        return reply

    def _hand_over(self, envelope: Envelope) -> None:
        """Send the reply to the message now, and tell the backend whether anybody was there to take it.

        Writing to a connection that the client has closed mostly succeeds, so it is asked for first. With a command
        that is here already, such as a pipelined QUIT, the reply leaves together with the reply to that.
        """
        if self._io.has_line() and not self._goes_on and not self._draining:
            self._goes_on = True
            return
        heard = self._goes_on or not self._io.is_gone()
        self._io.flush()
        self._unanswered, self._goes_on = None, False
        self._backend.answered(envelope, self.client, heard=heard)

    def _drop_transaction(self) -> None:
        if self._transaction is not None:
            self._reservation.release()
            self._transaction = None

    def _rset(self, argument: str) -> Reply:
        if argument:
            raise Reject(replies.SYNTAX)  # RFC 5321 §4.1.1: verbs that take no parameters
        self._drop_transaction()
        return replies.OK

    def _vrfy(self, argument: str) -> Reply:
        if not argument:
            raise Reject(replies.SYNTAX)
        return replies.CANNOT_VERIFY

    def _quit(self, argument: str) -> Reply:
        if argument:
            raise Reject(replies.SYNTAX)
        return replies.BYE

    def _refused(self, transaction: Transaction, reply: Reply, size: int) -> Reply:
        """Message data that never came as far as the backend: its one log line is written here."""
        event, facts = sessionlog.refused(self.client, transaction, reply, size)
        self._settings.refused(event, facts, tuple(transaction.forward_paths))
        return reply

    # Ends

    def _farewell(self, reply: Reply) -> None:
        self.write_reply(reply)
        try:
            self._io.flush()
        except Disconnected:
            sessionlog.said(self.client, "client_gone")

    def _name_tls(self) -> Reply:
        sessionlog.warned(
            self.client, "tls_on_plain_port", "the client speaks TLS from the first byte, this port does not"
        )
        self._closing = self.cut_short = True
        return replies.UNKNOWN_COMMAND

    def _name_http(self) -> None:
        """Its header lines would be few enough for what stands behind them, such as a mail, to be heard as commands."""
        sessionlog.warned(
            self.client, "http_on_smtp_port", "the client speaks HTTP; a web page may have tried to send mail by it"
        )
        self._bad_commands = MAX_BAD_COMMANDS

    def _say_timeout(self, timeout: TimedOut) -> None:
        sessionlog.timed_out(self.client, waiting_for_dot=timeout.waiting_for_dot)
        self._farewell(replies.TIMED_OUT)


def _reply_to(refusal: DataRefused) -> Reply:
    return replies.TOO_LARGE if isinstance(refusal, DataTooLarge) else replies.NO_ROOM


# One for all sessions: bound methods that a session holds keep it in memory until the next collection of garbage.
_ACTIONS: Mapping[str, Callable[[Session, str], Reply]] = {
    "EHLO": Session._ehlo,
    "HELO": Session._helo,
    "STARTTLS": Session._starttls,
    "AUTH": Session._auth,
    "MAIL": Session._mail,
    "RCPT": Session._rcpt,
    "DATA": Session._data,
    "BDAT": Session._bdat,
    "RSET": Session._rset,
    "NOOP": lambda session, _: replies.OK,
    "HELP": lambda session, _: replies.HELP,
    "VRFY": Session._vrfy,
    "QUIT": Session._quit,
}
