# SPDX-License-Identifier: MIT
"""The waist between SMTP and Graph: authenticate(), submit(), and the one log line a message."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from relay import outcome
from relay.authentication import Authenticator
from relay.clock import Clock, Deadline
from relay.delivery import Account, Delivery
from relay.graph.errors import GraphError, TokenError, UpstreamError
from relay.identity import Client, Credentials, Identity
from relay.message.model import ContentError
from relay.smtp import reply as replies
from relay.smtp.envelope import Envelope
from relay.smtp.reply import Reply

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Attempt:
    """What is known so far of one message, for its log line."""

    envelope: Envelope
    identity: Identity
    client: Client
    size_bytes: int
    started: float
    account: Account = field(default_factory=Account)


class Submission:
    """The backend of the SMTP side."""

    def __init__(self, authenticator: Authenticator, delivery: Delivery, submit_timeout_s: float, clock: Clock) -> None:
        self._authenticator = authenticator
        self._delivery = delivery
        self._timeout_s = submit_timeout_s
        self._clock = clock

    def authenticate(self, credentials: Credentials | None, client: Client) -> Identity:
        """Who this client is. Raises Reject: 530, 535, 454, 421."""
        if credentials is None:
            return self._authenticator.anonymous(client)
        return self._authenticator.log_in(credentials, client)

    def submit(self, envelope: Envelope, content: bytes, identity: Identity, client: Client) -> Reply:
        """Deliver, and say how it went. Never raises for what can happen; a bug is a 451 and a traceback in the log."""
        attempt = _Attempt(envelope, identity, client, len(content), self._clock.monotonic())
        deadline = Deadline(self._clock, self._timeout_s)
        try:
            receipt = self._delivery.deliver(envelope, content, identity, deadline, attempt.account)
        except (UpstreamError, ContentError) as fault:
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

    def _not_delivered(self, attempt: _Attempt, fault: UpstreamError | ContentError) -> Reply:
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
            mailbox = attempt.account.mailbox or attempt.identity.mailbox
            log.error("action_needed", extra={**tied, "mailbox": mailbox, **facts})
        return reply

    def _log_line(self, event: str, attempt: _Attempt, reply: Reply, facts: dict[str, object]) -> None:
        account = attempt.account
        names = {"message_id": attempt.envelope.message_id, "session": attempt.client.session}
        for warning in account.warnings:
            log.warning("message_mended", extra={**names, "reason": warning})
        log.info(
            event,
            extra={
                **names,
                "client": attempt.client.address,
                "user": attempt.identity.user,
                "mailbox": account.mailbox or attempt.identity.mailbox,
                "sender": attempt.envelope.reverse_path,
                "recipients": len(attempt.envelope.forward_paths),
                "size_bytes": attempt.size_bytes,
                "form": account.form,
                "attempts": 0,
                "duration_ms": round((self._clock.monotonic() - attempt.started) * 1000, 1),
                "reply": str(reply),
                "rewritten_from": account.rewritten_from or None,
                "not_carried": list(account.not_carried) or None,
                **facts,
            },
        )
        if log.isEnabledFor(logging.DEBUG):
            log.debug("subject", extra={**names, "subject": account.subject})
