# SPDX-License-Identifier: MIT
"""deliver(): one message from its octets to Graph's receipt: what it is, who it is from, in which form it goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, cast

from relay.clock import Clock, Deadline
from relay.config import GraphConfig
from relay.graph.body import Base64, Content
from relay.graph.errors import MailboxUnknown, Refused, SendAsDenied, TooLarge, UpstreamError
from relay.graph.large import LargeMail
from relay.graph.mail import Mailer, Receipt
from relay.graph.payload import send_mail_json
from relay.graph.sentitems import SentCopy
from relay.identity import Identity, is_allowed
from relay.message.address import canonical
from relay.message.form import KEPT_COPY, Form, choose_form, is_sealed
from relay.message.mimeform import Stamp, mime_form
from relay.message.model import Address, Message, Recipients, SenderNotAllowed
from relay.message.parse import read
from relay.message.recipients import from_address, partition
from relay.message.rewrite import put_mailbox_in_from
from relay.resends import Earlier
from relay.smtp.envelope import Envelope
from relay.spool import Octets, Spooled

T = TypeVar("T")
_LARGE_BYTES = 262_144  # some 5 ms of parsing
_ATTACHMENT_BYTES = 512  # as long as so many octets it takes to write what goes before one
Doing = Callable[[Callable[[], Any]], Any]
_NO_DRAFT = "Graph refused the message for its size, and for a reason of its own the draft that was tried instead"
_CONTENT_TYPES: dict[str, str] = {"json": "application/json", "mime": "text/plain"}


@dataclass(slots=True)
class Account:
    """What became of one message, for its log line; filled on the way, so that a failure can tell too."""

    form: Form | Literal["draft"] = "json"
    form_reason: str = ""
    mailbox: str = ""
    subject: str | None = None
    not_carried: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    rewritten_from: str = ""


class _Mail(NamedTuple):
    """One message on its way. content: as it came, but for its line ends; message: what it says, or is to say now.

    stamp: unique, for its Message-ID where it brings none. in_doubt_since: it came before then, and may have gone.
    """

    message_id: str
    stamp: str
    in_doubt_since: float | None
    content: Octets
    message: Message
    recipients: Recipients
    from_: Address
    identity: Identity
    mailbox: str


def _here(work: Callable[[], Any]) -> Any:
    return work()


def _behind(earlier: UpstreamError, send: Callable[[], Receipt]) -> Receipt:
    """What send gives or raises, with the tries and the doubt of those before it, which ended in the earlier fault."""
    try:
        receipt = send()
    except UpstreamError as failure:
        failure.attempts += earlier.attempts
        failure.possible_duplicate |= earlier.possible_duplicate
        raise
    return receipt._replace(
        attempts=receipt.attempts + earlier.attempts,
        possible_duplicate=receipt.possible_duplicate or earlier.possible_duplicate,
    )


class Delivery:
    """Sends messages by the configuration."""

    def __init__(
        self,
        mailer: Mailer,
        large: LargeMail,
        config: GraphConfig,
        clock: Clock,
        in_thread: Doing = _here,
        in_process: Doing = _here,
    ) -> None:
        """in_thread, in_process: do work in a thread, or in another process, and give what it gave."""
        self._mailer = mailer
        self._large = large
        self._config = config
        self._clock = clock
        self._in_thread = in_thread
        self._in_process = in_process

    def _aside(self, octets: int, work: Callable[[], T]) -> T:
        """What work gives; many octets are worked on in a thread, or they would stop everybody else."""
        return work() if octets < _LARGE_BYTES else cast(T, self._in_thread(work))

    def deliver(
        self,
        envelope: Envelope,
        content: Octets,
        identity: Identity,
        deadline: Deadline,
        account: Account,
        *,
        earlier: Earlier | None = None,
    ) -> Receipt:
        """Until Graph has taken it. Raises ContentError, UpstreamError; account says how far it came.

        earlier: the same message, of which nobody knows whether it has gone; it is looked for first.
        """
        mail = self._read(envelope, content, identity, account, earlier)
        if self._config.sender_rewrite == "always":
            mail = self._rewrite(mail, account)
        try:
            return self._send(mail, deadline, account)
        except SendAsDenied as fault:
            denied = fault
            if self._config.sender_rewrite != "on_denied" or canonical(mail.from_.addr) == canonical(mail.mailbox):
                raise
        return _behind(denied, lambda: self._send(self._rewrite(mail, account), deadline, account))

    def _read(
        self, envelope: Envelope, content: Octets, identity: Identity, account: Account, earlier: Earlier | None
    ) -> _Mail:
        """What is to be sent, from whom and to whom; refused here when it must not be."""
        content, message = self._parsed(content)
        account.subject, account.warnings = message.subject, message.warnings
        from_ = from_address(message, envelope.reverse_path, identity.mailbox)
        account.mailbox = identity.mailbox or from_.addr
        if not account.mailbox:
            raise MailboxUnknown("no From address says which mailbox is to send; set mailbox or default_mailbox")
        if identity.allowed_from and not all(is_allowed(one.addr, identity.allowed_from) for one in message.from_):
            raise SenderNotAllowed("the From header is not in allowed_from")
        stamp = earlier.message_id if earlier else envelope.message_id
        if not message.message_id:  # by it the message is found again; the same for all tries
            domain = account.mailbox.rpartition("@")[2]
            message = message._replace(message_id=f"<{stamp}@{domain}>")
        return _Mail(
            envelope.message_id,
            stamp,
            earlier.in_doubt_since if earlier else None,
            content,
            message,
            partition(envelope.forward_paths, message),
            from_,
            identity,
            account.mailbox,
        )

    def _parsed(self, content: Octets) -> tuple[Octets, Message]:
        """What is so large that it lies in a file takes so long that threads would come into each other's way."""
        if isinstance(content, bytes) and len(content) < _LARGE_BYTES:
            return read(content, strict_attachments=self._config.strict_attachments)
        work = partial(read, content, strict_attachments=self._config.strict_attachments)
        if isinstance(content, Spooled):
            return cast(tuple[Octets, Message], self._in_process(work))
        return cast(tuple[Octets, Message], self._in_thread(work))

    def _rewrite(self, mail: _Mail, account: Account) -> _Mail:
        message, from_ = put_mailbox_in_from(mail.message, mail.from_, mail.mailbox)
        if from_ != mail.from_:
            account.rewritten_from = mail.from_.addr
        return mail._replace(message=message, from_=from_)

    def _send(self, mail: _Mail, deadline: Deadline, account: Account) -> Receipt:
        choice = choose_form(mail.message, self._config.format, save_to_sent=self._config.save_to_sent)
        account.form, account.form_reason = choice.form, choice.reason
        if choice.form == "json" or len(mail.content) <= self._large.limit_bytes:
            content = self._written(mail, choice.form, choice.reason, account)
        else:
            content = Content((Base64(mail.content),))  # what the MIME form takes, and a little less
        if len(content) > self._large.limit_bytes and choice.json_will_do:
            content = self._written(mail, "json", "too large for MIME in one request", account)
        is_large = len(content) > self._large.limit_bytes
        login = mail.identity.login
        copy = self._copy(mail, deadline) if self._leaves_copy("draft" if is_large else account.form) else None
        if copy is not None and self._has_gone(mail, copy, deadline):
            return Receipt("", 0, possible_duplicate=False, found=True)
        if is_large:
            return self._send_large(mail, len(content), deadline, account)
        content_type = _CONTENT_TYPES[account.form]
        try:
            return self._mailer.send(mail.mailbox, content, content_type, login, deadline, mail.message_id, copy=copy)
        except TooLarge as refusal:
            if not mail.message.attachments or is_sealed(mail.message):  # a draft would be as large, or broken
                raise
            refused = refusal
        try:
            receipt = _behind(refused, lambda: self._send_large(mail, len(content), deadline, account))
        except (MailboxUnknown, Refused) as failure:  # the first answer was neither, so this one is about drafts
            told = TooLarge(_NO_DRAFT, status=failure.status, code=failure.code, request_id=failure.request_id)
            told.attempts, told.possible_duplicate = failure.attempts, failure.possible_duplicate
            raise told from None
        self._large.lower_limit(len(content), mail.message_id)
        return receipt

    def _leaves_copy(self, form: Form | Literal["draft"]) -> bool:
        """Whether one stays in Sent Items. With save_to_sent off, JSON leaves none, nor a draft that asks for that."""
        if self._config.save_to_sent:
            return True
        return form == "mime" or (form == "draft" and not self._config.delete_sent_drafts)

    def _copy(self, mail: _Mail, deadline: Deadline) -> SentCopy:
        """By what the copy in Sent Items is known."""
        named = mail.recipients
        addresses = (address.addr.casefold() for address in (*named.to, *named.cc, *named.bcc))
        now = self._clock.now()
        until = now + timedelta(seconds=deadline.remaining())
        return SentCopy(mail.message.message_id, frozenset(addresses), now, until)

    def _has_gone(self, mail: _Mail, copy: SentCopy, deadline: Deadline) -> bool:
        """Whether there was doubt of this message before, and it has gone. Raises UpstreamError: the doubt stays."""
        if mail.in_doubt_since is None:
            return False
        ago = timedelta(seconds=self._clock.monotonic() - mail.in_doubt_since)
        earlier = dataclasses.replace(copy, not_before=copy.not_before - ago, not_after=copy.not_after - ago)
        return self._mailer.was_sent(mail.mailbox, earlier, mail.identity.login, deadline, mail.message_id)

    def _written(self, mail: _Mail, form: Form, reason: str, account: Account) -> Content:
        """The body of a sendMail request in this form, which the log line then names."""
        account.form, account.form_reason = form, reason
        if form == "json":
            save = self._config.save_to_sent
            content, account.not_carried = self._aside(
                # Attachments are written while they are sent, but for their names.
                len(mail.message.body.content) + _ATTACHMENT_BYTES * len(mail.message.attachments),
                lambda: send_mail_json(mail.message, mail.recipients, mail.from_, save_to_sent=save),
            )
            return content
        stamp = Stamp(mail.mailbox, self._clock.now(), mail.stamp)
        mime, account.not_carried = self._aside(
            len(mail.content),
            lambda: mime_form(bytes(mail.content), mail.message, mail.recipients, mail.from_, stamp),
        )
        return Content((Base64(mime),))

    def _send_large(self, mail: _Mail, size: int, deadline: Deadline, account: Account) -> Receipt:
        """A message that one request cannot hold: as a draft, in JSON, attachment by attachment."""
        if is_sealed(mail.message):
            raise TooLarge(
                f"the request of {size} octets is over single_request_limit ({self._large.limit_bytes}), and "
                "what is signed or encrypted cannot be cut into a draft and attachments"
            )
        keep_copy = self._leaves_copy("draft")
        copy = "" if self._config.save_to_sent else KEPT_COPY if keep_copy else "; Exchange is asked to keep no copy"
        self._written(mail, "json", f"too large for one request{copy}", account)  # for what JSON does not carry
        account.form = "draft"
        return self._large.send(
            mail.mailbox,
            mail.message,
            mail.recipients,
            mail.from_,
            mail.identity.login,
            deadline,
            mail.message_id,
            keep_copy=keep_copy,
        )
