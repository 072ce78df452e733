# SPDX-License-Identifier: MIT
"""A delivery whose requests end in the sandbox's reading of them, without a socket: what would Graph have got?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

from relay.clock import Clock, Deadline
from relay.config import GraphConfig
from relay.credentials import Secret
from relay.delivery import Account, Delivery
from relay.graph.body import Content
from relay.graph.client import GraphClient
from relay.graph.errors import SendAsDenied
from relay.graph.large import LargeMail
from relay.graph.mail import Receipt
from relay.graph.retry import RetryPolicy
from relay.graph.sentitems import SentCopy
from relay.identity import Credentials, Identity
from relay.sandbox.capture import Captured, Origin
from relay.sandbox.rules import read_json_form, read_mime_form
from relay.sandbox.schema import GraphError
from relay.smtp.envelope import Envelope
from tests.support.clock import FakeClock
from tests.support.tenant_session import GRAPH_URL, TenantSession, TenantTokens
from tests.unit.sandbox.tenant import Tenant

MAILBOX = "scanner@example.com"
LOGIN = Credentials(MAILBOX, Secret("x"))


class SandboxMailer:
    """Stands for graph.mail.Mailer. captured: what was accepted; a sender that is refused is the error it is there."""

    def __init__(self) -> None:
        self.captured: list[Captured] = []

    def send(
        self,
        mailbox: str,
        content: Content,
        content_type: str,
        login: Credentials,
        deadline: Deadline,
        message_id: str,
        *,
        copy: SentCopy | None,
    ) -> Receipt:
        origin = Origin(
            mailbox=mailbox,
            user=login.user,
            headers={"content-type": content_type},
            received_at=datetime(2026, 3, 1, tzinfo=UTC),
            size=len(content),
        )
        read = {"application/json": read_json_form, "text/plain": read_mime_form}[content_type]
        try:
            self.captured.append(read(bytes(content), origin))
        except GraphError as error:
            if error.code == "ErrorSendAsDenied":
                raise SendAsDenied(status=error.status, code=error.code) from None
            raise AssertionError(f"{error.code}: {error.message}") from None
        return Receipt("r-1", 1, False)


def no_large_mail(config: GraphConfig, clock: Clock) -> LargeMail:
    """For messages that one request holds, or that are refused without one."""
    return LargeMail(None, None, RetryPolicy(1, 0.5), clock, config.single_request_limit_bytes)  # type: ignore[arg-type]


def large_mail(tenant: Tenant, config: GraphConfig, clock: Clock) -> LargeMail:
    """For drafts in this tenant."""
    client = GraphClient(TenantSession(tenant), GRAPH_URL, lambda _: nullcontext())  # type: ignore[arg-type]
    tokens: Any = TenantTokens(tenant)
    return LargeMail(client, tokens, RetryPolicy(1, 0.5), clock, config.single_request_limit_bytes)


def deliver(
    content: bytes,
    *to: str,
    reverse_path: str = MAILBOX,
    mailbox: str = MAILBOX,
    allowed_from: Sequence[str] = (),
    account: Account | None = None,
    **config: Any,
) -> tuple[Captured, Account]:
    """What Graph got of a message, and what the log is told of it. config: fields of GraphConfig."""
    mailer, clock, settings = SandboxMailer(), FakeClock(), GraphConfig(**config)
    tenant = Tenant(permissions=frozenset({"Mail.Send", "Mail.ReadWrite"}))
    account = account or Account()
    Delivery(mailer, large_mail(tenant, settings, clock), settings, clock).deliver(  # type: ignore[arg-type]
        Envelope("0123456789ABCDEF", reverse_path, to or ("a@example.com",)),
        content,
        Identity(MAILBOX, mailbox, LOGIN, allowed_from=tuple(allowed_from)),
        Deadline(clock, 60),
        account,
    )
    return [*mailer.captured, *tenant.captured][-1], account
