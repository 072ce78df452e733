# SPDX-License-Identifier: MIT
"""The waist between SMTP and Graph: authenticate(), submit(), and the one log line a message."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from relay import outcome
from relay.accounts import Accounts, LoginRefused, LoginRequired
from relay.clock import Clock, Deadline
from relay.config import GraphConfig
from relay.graph.errors import GraphError, TokenError, TooLarge, UpstreamError
from relay.graph.mail import Mailer, Receipt
from relay.graph.payload import send_mail_json
from relay.graph.tokens import TokenSource
from relay.identity import Client, Credentials, Identity
from relay.message.model import Message, MessageError
from relay.message.parse import parse
from relay.message.recipients import from_address, partition
from relay.smtp import reply as replies
from relay.smtp.envelope import Envelope
from relay.smtp.reply import Reject, Reply

log = logging.getLogger(__name__)

AUTH_TIMEOUT_S = 30.0


@dataclass(slots=True)
class _Attempt:
    """What is known so far of one message, for its log line."""

    envelope: Envelope
    identity: Identity
    client: Client
    size_bytes: int
    started: float
    form: str = "json"
    not_carried: tuple[str, ...] = ()
    subject: str | None = None


class Submission:
    """The backend of the SMTP side."""

    def __init__(
        self, accounts: Accounts, tokens: TokenSource, mailer: Mailer, config: GraphConfig, clock: Clock
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._mailer = mailer
        self._config = config
        self._clock = clock

    def authenticate(self, credentials: Credentials | None, client: Client) -> Identity:
        """Who this client is. Raises Reject: 530, 535, 454."""
        facts = {"session": client.session, "client": client.address}
        if credentials is None:
            try:
                return self._accounts.anonymous(client)
            except LoginRequired as refusal:
                log.info("login_required", extra={**facts, "reason": str(refusal)})
                raise Reject(replies.AUTH_REQUIRED) from None
        facts["user"] = credentials.user
        try:
            identity = self._accounts.logged_in(credentials, client)
        except LoginRefused as refusal:
            log.warning("auth_failed", extra={**facts, "reply": str(replies.AUTH_REFUSED), "reason": str(refusal)})
            raise Reject(replies.AUTH_REFUSED) from None
        try:
            self._tokens.get(identity.login, Deadline(self._clock, AUTH_TIMEOUT_S))
        except TokenError as fault:
            reply = outcome.auth_reply(fault, fallback=identity.fallback)
            log.log(
                logging.WARNING if reply is replies.AUTH_REFUSED else logging.ERROR,
                "auth_failed" if reply is replies.AUTH_REFUSED else "auth_unavailable",
                extra={**facts, "reply": str(reply), "entra_code": fault.entra_code or None, "reason": fault.advice},
            )
            raise Reject(reply) from None
        if identity.fallback:
            log.warning(
                "fallback_login", extra={**facts, "user": identity.user, "reason": "empty login, fallback used"}
            )
        log.debug("authenticated", extra=facts)
        return identity

    def submit(self, envelope: Envelope, content: bytes, identity: Identity, client: Client) -> Reply:
        """Deliver, and say how it went. Never raises for what can happen; a bug is a 451 and a traceback in the log."""
        attempt = _Attempt(envelope, identity, client, len(content), self._clock.monotonic())
        deadline = Deadline(self._clock, self._config.submit_timeout_s)
        try:
            receipt = self._deliver(attempt, content, deadline)
        except (UpstreamError, MessageError) as fault:
            return self._not_delivered(attempt, fault)
        except Exception:  # nothing was answered yet: the client keeps its message and tries again
            log.exception("submission_fault", extra={"message_id": envelope.message_id, "session": client.session})
            reply = replies.DELIVERY_INTERNAL_FAULT
            self._log_line("deferred", attempt, reply, {"reason": "a fault of the relay; see submission_fault"})
            return reply
        reply = replies.queued(envelope.message_id)
        facts = {
            "attempts": receipt.attempts,
            "graph_request_id": receipt.request_id,
            "possible_duplicate": receipt.possible_duplicate or None,
        }
        self._log_line("delivered", attempt, reply, facts)
        return reply

    def _deliver(self, attempt: _Attempt, content: bytes, deadline: Deadline) -> Receipt:
        envelope, identity = attempt.envelope, attempt.identity
        message = parse(content, strict_attachments=self._config.strict_attachments)
        attempt.subject = message.subject
        self._log_warnings(attempt, message)
        octets, attempt.not_carried = send_mail_json(
            message,
            partition(envelope.forward_paths, message),
            from_address(message, envelope.reverse_path, identity.mailbox),
            save_to_sent=self._config.save_to_sent,
        )
        if len(octets) > self._config.single_request_limit_bytes:
            raise TooLarge(
                f"the request of {len(octets)} octets is over single_request_limit "
                f"({self._config.single_request_limit_bytes}); upload sessions are not available in this version"
            )
        return self._mailer.send(
            identity.mailbox, octets, "application/json", identity.login, deadline, envelope.message_id
        )

    def _not_delivered(self, attempt: _Attempt, fault: UpstreamError | MessageError) -> Reply:
        reply = outcome.data_reply(fault)
        facts: dict[str, object] = {"reason": str(fault)}
        if isinstance(fault, GraphError):
            facts |= {
                "attempts": fault.attempts,
                "graph_request_id": fault.request_id or None,
                "status": fault.status or None,
                "graph_code": fault.code or None,
                "possible_duplicate": fault.possible_duplicate or None,
            }
        elif isinstance(fault, TokenError):
            facts["entra_code"] = fault.entra_code or None
        self._log_line("deferred" if reply.code < 500 else "rejected", attempt, reply, facts)
        if isinstance(fault, outcome.NEEDS_ACTION) or (attempt.identity.fallback and isinstance(fault, TokenError)):
            tied = {"message_id": attempt.envelope.message_id, "session": attempt.client.session}
            log.error("action_needed", extra={**tied, "mailbox": attempt.identity.mailbox, **facts})
        return reply

    def _log_warnings(self, attempt: _Attempt, message: Message) -> None:
        for warning in message.warnings:
            log.warning(
                "message_mended",
                extra={
                    "message_id": attempt.envelope.message_id,
                    "session": attempt.client.session,
                    "reason": warning,
                },
            )

    def _log_line(self, event: str, attempt: _Attempt, reply: Reply, facts: dict[str, object]) -> None:
        log.info(
            event,
            extra={
                "message_id": attempt.envelope.message_id,
                "session": attempt.client.session,
                "client": attempt.client.address,
                "user": attempt.identity.user,
                "mailbox": attempt.identity.mailbox,
                "sender": attempt.envelope.reverse_path,
                "recipients": len(attempt.envelope.forward_paths),
                "size_bytes": attempt.size_bytes,
                "form": attempt.form,
                "attempts": 0,
                "duration_ms": round((self._clock.monotonic() - attempt.started) * 1000, 1),
                "reply": str(reply),
                "not_carried": list(attempt.not_carried) or None,
                **facts,
            },
        )
        if log.isEnabledFor(logging.DEBUG):
            log.debug("subject", extra={"message_id": attempt.envelope.message_id, "subject": attempt.subject})
