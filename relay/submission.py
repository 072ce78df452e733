# SPDX-License-Identifier: MIT
"""The waist between SMTP and Graph: authenticate(), submit(), and the one log line a message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from relay import outcome
from relay.authentication import Authenticator
from relay.clock import Clock, Deadline
from relay.delivery import Account, Delivery
from relay.graph.errors import GraphError, TokenError, UpstreamError
from relay.identity import Client, Credentials, Identity
from relay.message.model import ContentError
from relay.resends import Earlier, Resends, SentAgain, StillOnItsWay
from relay.smtp import reply as replies
from relay.smtp.envelope import Envelope
from relay.smtp.reply import Reply
from relay.spool import Octets, digest_of
from relay.stats import Result, Stats

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Attempt:
    """What is known so far of one message, for its log line."""

    envelope: Envelope
    identity: Identity
    client: Client
    size_bytes: int
    deadline: Deadline
    started: float
    account: Account = field(default_factory=Account)
    earlier: Earlier | None = None  # what it is a re-send of
    in_doubt_since: float | None = None  # when it, or the earlier one, was handed in that may have gone


class Submission:
    """The backend of the SMTP side."""

    def __init__(
        self,
        authenticator: Authenticator,
        delivery: Delivery,
        resends: Resends,
        submit_timeout_s: float,
        clock: Clock,
        stats: Stats | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._delivery = delivery
        self._resends = resends
        self._timeout_s = submit_timeout_s
        self._clock = clock
        self._stats = stats or Stats(clock)

    def authenticate(self, credentials: Credentials | None, client: Client) -> Identity:
        """Who this client is. Raises Reject: 530, 535, 454, 421."""
        if credentials is None:
            return self._authenticator.anonymous(client)
        return self._authenticator.log_in(credentials, client)

    def submit(
        self, envelope: Envelope, content: Octets, identity: Identity, client: Client, gone: Callable[[], bool]
    ) -> Reply:
        """Deliver, and say how it went. Never raises for what can happen; a bug is a 451 and a traceback in the log."""
        deadline = Deadline(self._clock, self._timeout_s)
        attempt = _Attempt(envelope, identity, client, len(content), deadline, self._clock.monotonic())
        reply = replies.DELIVERY_INTERNAL_FAULT
        try:
            parts = _parts(envelope, content, identity)
            asked = self._clock.monotonic()
            try:
                attempt.earlier = earlier = self._resends.begin(envelope.message_id, parts, gone, deadline)
            finally:
                deadline.spent["waited"] = self._clock.monotonic() - asked
            if earlier is not None and earlier.in_doubt_since is None:
                reply = self._answer_resend(attempt, earlier)
            else:
                attempt.in_doubt_since = earlier.in_doubt_since if earlier else None
                reply = self._deliver(attempt, content)
        except StillOnItsWay:
            reply = replies.DELIVERY_UNREACHABLE
            reason = "the same message came before and is still on its way; its client hung up and sent it again"
            self._log_line("deferred", attempt, reply, {"reason": reason})
        except SentAgain:
            reply = replies.DELIVERY_UNREACHABLE
            reason = "its client hung up and has sent it again; that one is on its way"
            self._log_line("deferred", attempt, reply, {"reason": reason})
        except Exception:  # nothing was answered yet: the client keeps its message and tries again
            log.exception("submission_fault", extra={"message_id": envelope.message_id, "session": client.session})
            self._log_line("deferred", attempt, reply, {"reason": "a fault of the relay; see submission_fault"})
        except BaseException:  # its greenlet is ended from outside: shutdown_timeout is over, and 421 was said already
            in_doubt = "graph" in deadline.spent
            reason = "cut off at the stop; the client was told to send it again"
            # How often Graph was asked only its own side knows; a line that said 0 would deny the doubt beside it.
            facts = {"reason": reason, "attempts": int(in_doubt), "possible_duplicate": in_doubt or None}
            self._log_line("deferred", attempt, replies.SHUTTING_DOWN, facts)
            raise
        finally:
            in_doubt_since = attempt.in_doubt_since if reply.code < 500 else None
            self._resends.settled(envelope.message_id, delivered=reply.code == 250, in_doubt_since=in_doubt_since)
        return reply

    def answered(self, envelope: Envelope, client: Client, *, heard: bool) -> None:
        """Follows each submit(). heard: the client was there to take the reply."""
        if self._resends.answered(envelope.message_id, heard=heard):
            log.info(
                "client_hung_up",
                extra={
                    "message_id": envelope.message_id,
                    "session": client.session,
                    "client": client.address,
                    "reason": "before its 250; if it sends the same message again within ten minutes, that one gets "
                    "its 250 without a second delivery",
                },
            )

    def _deliver(self, attempt: _Attempt, content: Octets) -> Reply:
        envelope = attempt.envelope
        try:
            receipt = self._delivery.deliver(
                envelope, content, attempt.identity, attempt.deadline, attempt.account, earlier=attempt.earlier
            )
        except (UpstreamError, ContentError) as fault:
            return self._not_delivered(attempt, fault)
        reply = replies.queued(envelope.message_id)
        facts = {
            "attempts": receipt.attempts,
            "graph_request_id": receipt.request_id,
            "possible_duplicate": receipt.possible_duplicate or None,
            "found_in_sent_items": receipt.found or None,
            "resend_of": attempt.earlier.message_id if attempt.earlier and not receipt.attempts else None,
        }
        self._log_line("delivered", attempt, reply, facts)
        return reply

    def _answer_resend(self, attempt: _Attempt, earlier: Earlier) -> Reply:
        """The client's own re-send of a message that was delivered: the answer that it missed."""
        reply = replies.queued(attempt.envelope.message_id)
        self._log_line("delivered", attempt, reply, {"form": None, "resend_of": earlier.message_id})
        return reply

    def _not_delivered(self, attempt: _Attempt, fault: UpstreamError | ContentError) -> Reply:
        reply = outcome.data_reply(fault)
        facts: dict[str, object] = {"reason": str(fault)}
        if isinstance(fault, UpstreamError):
            facts |= {"attempts": fault.attempts, "possible_duplicate": fault.possible_duplicate or None}
            if fault.possible_duplicate:
                attempt.in_doubt_since = attempt.started
        if isinstance(fault, GraphError):
            facts |= {
                "graph_request_id": fault.request_id or None,
                "status": fault.status or None,
                "graph_code": fault.code or None,
            }
        elif isinstance(fault, TokenError):
            facts["entra_code"] = fault.entra_code or None
        self._log_line("deferred" if reply.code < 500 else "rejected", attempt, reply, facts)
        if isinstance(fault, outcome.NEEDS_ACTION) or (attempt.identity.fallback and isinstance(fault, TokenError)):
            tied = {"message_id": attempt.envelope.message_id, "session": attempt.client.session}
            mailbox = attempt.account.mailbox or attempt.identity.mailbox
            log.error("action_needed", extra={**tied, "mailbox": mailbox, **facts})
            self._stats.problem("action_needed", {"mailbox": mailbox, **facts}, urgent=True)
        return reply

    def _log_line(self, event: Result, attempt: _Attempt, reply: Reply, facts: dict[str, object]) -> None:
        account = attempt.account
        names = {"message_id": attempt.envelope.message_id, "session": attempt.client.session}
        for warning in account.warnings:
            log.warning("message_mended", extra={**names, "reason": warning})
        line_facts = {
            **names,
            "client": attempt.client.address,
            "user": attempt.identity.user,
            "mailbox": account.mailbox or attempt.identity.mailbox,
            "sender": attempt.envelope.reverse_path,
            "recipients": len(attempt.envelope.forward_paths),
            "size_bytes": attempt.size_bytes,
            "form": account.form,
            "form_reason": account.form_reason or None,
            "attempts": 0,
            "duration_ms": _milliseconds(self._clock.monotonic() - attempt.started),
            **{f"{name}_ms": _milliseconds(seconds) for name, seconds in attempt.deadline.spent.items()},
            "reply": str(reply),
            "rewritten_from": account.rewritten_from or None,
            "not_carried": list(account.not_carried) or None,
            **facts,
        }
        if log.isEnabledFor(logging.INFO):
            # What log.info(event, extra=line_facts) does, which takes them one by one: five times as long.
            record = logging.makeLogRecord(line_facts)
            record.name, record.levelno, record.levelname, record.msg = log.name, logging.INFO, "INFO", event
            log.handle(record)
        self._stats.message(event, line_facts, attempt.envelope.forward_paths)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("subject", extra={**names, "subject": account.subject})


def _milliseconds(seconds: float) -> float:
    """To a tenth. round() takes three times as long: it writes the number out and reads it again."""
    return int(seconds * 10_000 + 0.5) / 10


def _parts(envelope: Envelope, content: Octets, identity: Identity) -> list[bytes]:
    """What makes a message the same as another: session user, envelope and octets."""
    words = identity.user, envelope.reverse_path, envelope.forward_paths
    return [repr(words).encode(), digest_of(content)]  # no two read alike, and repr() escapes lone surrogates
