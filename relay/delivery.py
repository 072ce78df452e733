# SPDX-License-Identifier: MIT
"""deliver(): one message from its octets to Graph's receipt: what it is, who it is from, in which form it goes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from relay.clock import Clock, Deadline
from relay.config import GraphConfig
from relay.graph.errors import MailboxUnknown, SendAsDenied, TooLarge
from relay.graph.large import LargeMail
from relay.graph.mail import Mailer, Receipt
from relay.graph.payload import send_mail_json
from relay.graph.sentitems import SentCopy
from relay.identity import Identity, is_allowed
from relay.message.lineends import normalised
from relay.message.model import Address, Message, Recipients, SenderNotAllowed
from relay.message.parse import parse
from relay.message.recipients import from_address, partition
from relay.message.rewrite import put_mailbox_in_from
from relay.smtp.envelope import Envelope

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Account:
    """What became of one message, for its log line; filled on the way, so that a failure can tell too."""

    form: str = "json"
    mailbox: str = ""
    subject: str | None = None
    not_carried: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    rewritten_from: str = ""


class Delivery:
    """Sends messages by the configuration."""

    def __init__(self, mailer: Mailer, large: LargeMail, config: GraphConfig, clock: Clock) -> None:
        self._mailer = mailer
        self._large = large
        self._config = config
        self._clock = clock

    def deliver(
        self, envelope: Envelope, content: bytes, identity: Identity, deadline: Deadline, account: Account
    ) -> Receipt:
        """Until Graph has taken it. Raises ContentError, UpstreamError; account says how far it came."""
        message = parse(normalised(content), strict_attachments=self._config.strict_attachments)
        account.subject, account.warnings = message.subject, message.warnings
        from_ = from_address(message, envelope.reverse_path, identity.mailbox)
        account.mailbox = identity.mailbox or from_.addr
        if not account.mailbox:
            raise MailboxUnknown("no From address says which mailbox is to send; set mailbox or default_mailbox")
        if message.from_ and not is_allowed(from_.addr, identity.allowed_from):
            raise SenderNotAllowed("the From header is not in allowed_from")
        if not message.message_id:  # by it the message is found again; the same for all tries
            domain = account.mailbox.rpartition("@")[2]
            message = replace(message, message_id=f"<{envelope.message_id}@{domain}>")
        if self._config.sender_rewrite == "always":
            message, from_ = self._rewrite(message, from_, account)
        try:
            return self._send(envelope, message, from_, identity, deadline, account)
        except SendAsDenied:
            if self._config.sender_rewrite != "on_denied" or from_.addr == account.mailbox:
                raise
        message, from_ = self._rewrite(message, from_, account)
        return self._send(envelope, message, from_, identity, deadline, account)

    def _rewrite(self, message: Message, from_: Address, account: Account) -> tuple[Message, Address]:
        rewritten, new_from = put_mailbox_in_from(message, from_, account.mailbox)
        if new_from != from_:
            account.rewritten_from = from_.addr
        return rewritten, new_from

    def _send(
        self,
        envelope: Envelope,
        message: Message,
        from_: Address,
        identity: Identity,
        deadline: Deadline,
        account: Account,
    ) -> Receipt:
        recipients = partition(envelope.forward_paths, message)
        content, account.not_carried = send_mail_json(
            message, recipients, from_, save_to_sent=self._config.save_to_sent
        )
        to_learn = False
        if len(content) <= self._large.limit_bytes:
            try:
                return self._mailer.send(
                    account.mailbox,
                    content,
                    "application/json",
                    identity.login,
                    deadline,
                    envelope.message_id,
                    copy=self._copy(message, recipients) if self._config.save_to_sent else None,
                )
            except TooLarge:
                if not message.attachments:  # then a draft would be as large
                    raise
                to_learn = True
        account.form = "draft"
        if not self._config.save_to_sent:
            facts = {"message_id": envelope.message_id, "mailbox": account.mailbox}
            log.info("copy_in_sent_items", extra={**facts, "reason": "a sent draft always leaves one"})
        receipt = self._large.send(
            account.mailbox, message, recipients, from_, identity.login, deadline, envelope.message_id
        )
        if to_learn:
            self._large.lower_limit(len(content), envelope.message_id)
        return receipt

    def _copy(self, message: Message, recipients: Recipients) -> SentCopy:
        addresses = (address.addr.casefold() for address in (*recipients.to, *recipients.cc, *recipients.bcc))
        return SentCopy(message.message_id, frozenset(addresses), self._clock.now())
