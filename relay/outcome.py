# SPDX-License-Identifier: MIT
"""The one place that turns upstream and content errors into SMTP replies: two tables. Decides nothing else.

Unknown means temporary: the client's queue is the only queue. Permanent is said only when Graph, or the message itself,
leaves no doubt.
"""

from __future__ import annotations

from relay.graph import errors as graph
from relay.message.model import MessageError, SenderNotAllowed
from relay.smtp import reply as replies
from relay.smtp.reply import Reply

# To AUTH: 535 only where the device's own credentials are at fault, since many devices lock themselves up on it.
AUTH_REPLIES: dict[type[Exception], Reply] = {
    graph.CredentialsRefused: replies.AUTH_REFUSED,
    graph.TokenUnavailable: replies.AUTH_UNAVAILABLE,
    graph.AppMisconfigured: replies.AUTH_UNAVAILABLE,
}

# To the message data.
DATA_REPLIES: dict[type[Exception], Reply] = {
    MessageError: replies.MESSAGE_REFUSED,
    SenderNotAllowed: replies.SENDER_NOT_ALLOWED,
    graph.CredentialsRefused: replies.DELIVERY_NOT_AUTHORIZED,
    graph.TokenUnavailable: replies.DELIVERY_NOT_AUTHORIZED,
    graph.AppMisconfigured: replies.DELIVERY_NOT_AUTHORIZED,
    graph.Unreachable: replies.DELIVERY_UNREACHABLE,
    graph.OutcomeUnknown: replies.DELIVERY_UNREACHABLE,
    graph.StepUnclear: replies.DELIVERY_UNREACHABLE,
    graph.ServerBusy: replies.DELIVERY_UNREACHABLE,
    graph.ItemNotFound: replies.DELIVERY_UNREACHABLE,
    graph.Throttled: replies.DELIVERY_THROTTLED,
    graph.Congested: replies.DELIVERY_THROTTLED,
    graph.NotAuthorized: replies.DELIVERY_NOT_AUTHORIZED,
    graph.AccessDenied: replies.DELIVERY_DENIED,
    graph.SendAsDenied: replies.SEND_AS_DENIED,
    graph.MailboxUnknown: replies.SENDER_MAILBOX_UNKNOWN,
    graph.MailboxFull: replies.MAILBOX_FULL,
    graph.TooLarge: replies.MESSAGE_TOO_LARGE_UPSTREAM,
    graph.InvalidRecipients: replies.RECIPIENT_REFUSED,
    graph.SendingLimitReached: replies.DELIVERY_LIMIT_REACHED,
    graph.SubmissionBlocked: replies.DELIVERY_DENIED,
    graph.Refused: replies.MESSAGE_REFUSED,
}

# Behind these, an administrator has to act: they are logged as errors of their own too.
NEEDS_ACTION: tuple[type[Exception], ...] = (
    graph.AppMisconfigured,
    graph.NotAuthorized,
    graph.AccessDenied,
    graph.MailboxUnknown,
    graph.MailboxFull,
    graph.SubmissionBlocked,
)


def auth_reply(fault: graph.TokenError, *, fallback: bool) -> Reply:
    """The answer to AUTH. fallback: the credentials were the relay's own, so the device's cannot be at fault."""
    return replies.AUTH_UNAVAILABLE if fallback else AUTH_REPLIES.get(type(fault), replies.AUTH_UNAVAILABLE)


def data_reply(fault: Exception) -> Reply:
    """The answer to the message data."""
    known = (DATA_REPLIES[kind] for kind in type(fault).__mro__ if kind in DATA_REPLIES)
    return next(known, replies.DELIVERY_INTERNAL_FAULT)
