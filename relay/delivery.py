# SPDX-License-Identifier: MIT
"""deliver(): one message from its octets to Graph's receipt: what it is, who it is from, in which form it goes."""

from __future__ import annotations

import binascii
import dataclasses
from dataclasses import dataclass

from relay.clock import Clock, Deadline
from relay.config import GraphConfig
from relay.graph.errors import MailboxUnknown, SendAsDenied, TooLarge
from relay.graph.mail import Mailer, Receipt
from relay.graph.payload import send_mail_json
from relay.identity import Identity, is_allowed
from relay.message.form import Form, choose_form
from relay.message.lineends import normalised
from relay.message.mimeform import Stamp, mime_form
from relay.message.model import Address, Message, Recipients, SenderNotAllowed
from relay.message.parse import parse
from relay.message.recipients import from_address, partition
from relay.message.rewrite import put_mailbox_in_from
from relay.smtp.envelope import Envelope

_CONTENT_TYPES: dict[Form, str] = {"json": "application/json", "mime": "text/plain"}


@dataclass(slots=True)
class Account:
    """What became of one message, for its log line; filled on the way, so that a failure can tell too."""

    form: Form = "json"
    form_reason: str = ""
    mailbox: str = ""
    subject: str | None = None
    not_carried: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    rewritten_from: str = ""


@dataclass(frozen=True, slots=True)
class _Mail:
    """One message on its way. content: as it came, but for its line ends; message: what it says, or is to say now."""

    message_id: str
    content: bytes
    message: Message
    recipients: Recipients
    from_: Address
    identity: Identity
    mailbox: str


class Delivery:
    """Sends messages by the configuration."""

    def __init__(self, mailer: Mailer, config: GraphConfig, clock: Clock) -> None:
        self._mailer = mailer
        self._config = config
        self._clock = clock

    def deliver(
        self, envelope: Envelope, content: bytes, identity: Identity, deadline: Deadline, account: Account
    ) -> Receipt:
        """Until Graph has taken it. Raises ContentError, UpstreamError; account says how far it came."""
        mail = self._read(envelope, content, identity, account)
        if self._config.sender_rewrite == "always":
            mail = self._rewrite(mail, account)
        try:
            return self._send(mail, deadline, account)
        except SendAsDenied:
            if self._config.sender_rewrite != "on_denied" or mail.from_.addr.lower() == mail.mailbox.lower():
                raise
        return self._send(self._rewrite(mail, account), deadline, account)

    def _read(self, envelope: Envelope, content: bytes, identity: Identity, account: Account) -> _Mail:
        """What is to be sent, from whom and to whom; refused here when it must not be."""
        content = normalised(content)
        message = parse(content, strict_attachments=self._config.strict_attachments)
        account.subject, account.warnings = message.subject, message.warnings
        from_ = from_address(message, envelope.reverse_path, identity.mailbox)
        account.mailbox = identity.mailbox or from_.addr
        if not account.mailbox:
            raise MailboxUnknown("no From address says which mailbox is to send; set mailbox or default_mailbox")
        if message.from_ and not is_allowed(from_.addr, identity.allowed_from):
            raise SenderNotAllowed("the From header is not in allowed_from")
        recipients = partition(envelope.forward_paths, message)
        return _Mail(envelope.message_id, content, message, recipients, from_, identity, account.mailbox)

    def _rewrite(self, mail: _Mail, account: Account) -> _Mail:
        message, from_ = put_mailbox_in_from(mail.message, mail.from_, mail.mailbox)
        if from_ != mail.from_:
            account.rewritten_from = mail.from_.addr
        return dataclasses.replace(mail, message=message, from_=from_)

    def _send(self, mail: _Mail, deadline: Deadline, account: Account) -> Receipt:
        choice = choose_form(mail.message, self._config.format, save_to_sent=self._config.save_to_sent)
        octets = self._written(mail, choice.form, choice.reason, account)
        if len(octets) > self._config.single_request_limit_bytes and choice.json_will_do:
            octets = self._written(mail, "json", "too large for MIME in one request", account)
        if len(octets) > self._config.single_request_limit_bytes:
            return self._send_large(mail, len(octets), deadline, account)
        content_type = _CONTENT_TYPES[account.form]
        return self._mailer.send(mail.mailbox, octets, content_type, mail.identity.login, deadline, mail.message_id)

    def _written(self, mail: _Mail, form: Form, reason: str, account: Account) -> bytes:
        """The body of a sendMail request in this form, which the log line then names."""
        account.form, account.form_reason = form, reason
        if form == "json":
            octets, account.not_carried = send_mail_json(
                mail.message, mail.recipients, mail.from_, save_to_sent=self._config.save_to_sent
            )
            return octets
        stamp = Stamp(mail.mailbox, self._clock.now(), mail.message_id)
        mime, account.not_carried = mime_form(mail.content, mail.message, mail.recipients, mail.from_, stamp)
        return binascii.b2a_base64(mime, newline=False)

    def _send_large(self, mail: _Mail, size: int, deadline: Deadline, account: Account) -> Receipt:
        """A message that one request cannot hold: a draft and upload sessions, one day."""
        raise TooLarge(
            f"the request of {size} octets is over single_request_limit "
            f"({self._config.single_request_limit_bytes}); upload sessions are not available in this version"
        )
