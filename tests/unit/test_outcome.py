# SPDX-License-Identifier: MIT
"""The table of contract §6: every error has a row, and the row is the right one."""

from __future__ import annotations

import pytest

from relay import outcome
from relay.graph import errors
from relay.graph.errors import GraphError, TokenError, UpstreamError
from relay.message.model import ContentError, MessageError, SenderNotAllowed


def leaves(kind: type[Exception]) -> set[type[Exception]]:
    below = [sub for sub in kind.__subclasses__() if not sub.__name__.startswith("_")]
    return {leaf for sub in below for leaf in leaves(sub)} if below else {kind}


ALL = leaves(UpstreamError) | leaves(ContentError)

DATA = {
    errors.Throttled: "451 4.4.5",
    errors.Congested: "451 4.4.5",
    errors.ServerBusy: "451 4.4.1",
    errors.StepUnclear: "451 4.4.1",
    errors.OutcomeUnknown: "451 4.4.1",
    errors.Unreachable: "451 4.4.1",
    errors.ItemNotFound: "451 4.4.1",
    errors.NotAuthorized: "451 4.7.0",
    errors.CredentialsRefused: "451 4.7.0",
    errors.TokenUnavailable: "451 4.7.0",
    errors.AppMisconfigured: "451 4.7.0",
    errors.SendAsDenied: "550 5.7.60",
    errors.AccessDenied: "550 5.7.1",
    errors.MailboxUnknown: "550 5.1.8",
    errors.MailboxFull: "452 4.2.2",
    errors.TooLarge: "552 5.3.4",
    errors.InvalidRecipients: "550 5.1.3",
    errors.SendingLimitReached: "451 4.7.28",
    errors.SubmissionBlocked: "550 5.7.1",
    errors.Refused: "554 5.6.0",
    MessageError: "554 5.6.0",
    SenderNotAllowed: "550 5.7.1",
}
AUTH = {
    errors.CredentialsRefused: "535 5.7.8",
    errors.TokenUnavailable: "454 4.7.0",
    errors.AppMisconfigured: "454 4.7.0",
}


def made(kind: type[Exception]) -> Exception:
    return kind("advice")


@pytest.mark.parametrize("kind", sorted(ALL, key=lambda kind: kind.__name__))
def test_every_error_has_a_row(kind: type[Exception]) -> None:
    assert kind in outcome.DATA_REPLIES, "add it to the table in outcome.py"
    assert str(outcome.data_reply(made(kind))) == DATA[kind], "and to this one"


@pytest.mark.parametrize("kind", sorted(leaves(TokenError), key=lambda kind: kind.__name__))
def test_every_token_error_has_a_row_for_auth(kind: type[TokenError]) -> None:
    assert str(outcome.auth_reply(kind("advice"), fallback=False)) == AUTH[kind]
    assert str(outcome.auth_reply(kind("advice"), fallback=True)) == "454 4.7.0", "the device is not at fault"


def test_no_row_is_left_over() -> None:
    assert set(outcome.DATA_REPLIES) == ALL
    assert set(outcome.AUTH_REPLIES) == leaves(TokenError)
    assert set(outcome.NEEDS_ACTION) <= ALL


def test_unknown_means_temporary() -> None:
    class New(GraphError):
        pass

    assert str(outcome.data_reply(New())) == "451 4.3.0"
    assert str(outcome.data_reply(RuntimeError())) == "451 4.3.0"


def test_no_reply_closes_the_connection() -> None:
    """Contract §3: an error never costs the connection where the client could go on."""
    assert not [reply for reply in (outcome.DATA_REPLIES | outcome.AUTH_REPLIES).values() if reply.close]


@pytest.mark.parametrize("kind", sorted(leaves(GraphError), key=lambda kind: kind.__name__))
def test_what_may_pass_is_never_said_to_be_for_good(kind: type[GraphError]) -> None:
    if kind.transient:
        assert outcome.data_reply(kind()).code < 500
