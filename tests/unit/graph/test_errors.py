# SPDX-License-Identifier: MIT
"""Answers of Graph and the errors they stand for: the code goes before the status, and nothing raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.graph import errors
from relay.graph.errors import GraphError, UpstreamError, from_answer


def body(*codes: str, message: str = "") -> dict[str, Any]:
    """An error object with innerError below it for every further code."""
    node: dict[str, Any] = {}
    for code in reversed(codes):
        node = {"code": code, "message": message, **({"innerError": node} if node else {})}
    return {"error": node}


def answer(status: int, content: Any = None) -> GraphError:
    return from_answer(status, content, "request-1", None)


# Microsoft's codes as met on the way of sendMail, with the status they come with.
CODES = [
    (400, "ErrorInvalidRecipients", errors.InvalidRecipients),
    (400, "ErrorMimeContentInvalidBase64String", errors.Refused),
    (400, "ErrorMimeContentInvalid", errors.Refused),
    (400, "RequestBodyRead", errors.Refused),
    (400, "InvalidInternetMessageHeader", errors.Refused),
    (400, "InvalidInternetMessageHeaderCollection", errors.Refused),
    (400, "ErrorMessageSizeExceeded", errors.TooLarge),
    (400, "RequestBodyTooLarge", errors.TooLarge),
    (401, "InvalidAuthenticationToken", errors.NotAuthorized),
    (403, "ErrorAccessDenied", errors.AccessDenied),
    (403, "extensionError", errors.AccessDenied),
    (403, "ErrorSendAsDenied", errors.SendAsDenied),
    (403, "insufficient_claims", errors.NotAuthorized),
    (404, "ErrorInvalidUser", errors.MailboxUnknown),
    (404, "ErrorNonExistentMailbox", errors.MailboxUnknown),
    (404, "Request_ResourceNotFound", errors.MailboxUnknown),
    (404, "MailboxNotEnabledForRESTAPI", errors.MailboxUnknown),
    (404, "ErrorItemNotFound", errors.ItemNotFound),
    (429, "ApplicationThrottled", errors.Throttled),
    (429, "TooManyRequests", errors.Throttled),
    (429, "activityLimitReached", errors.Throttled),
    (500, "ErrorInternalServerError", errors.OutcomeUnknown),
    (500, "ErrorInternalServerTransientError", errors.OutcomeUnknown),
    (500, "UnknownError", errors.OutcomeUnknown),
    (500, "ErrorApiQuarantined", errors.ServerBusy),
    (503, "ErrorServerBusy", errors.ServerBusy),
    (503, "ServiceUnavailable", errors.ServerBusy),
    (503, "CommandConcurrencyLimitReached", errors.ServerBusy),
    (507, "ErrorQuotaExceeded", errors.MailboxFull),
    (507, "quotaLimitReached", errors.MailboxFull),
    (400, "ErrorSubmissionQuotaExceeded", errors.SendingLimitReached),
    (429, "ErrorExceededMessageLimit", errors.SendingLimitReached),
    (400, "ErrorExceededMaxRecipientLimit", errors.SendingLimitReached),
    (400, "ErrorMessageSubmissionBlocked", errors.SubmissionBlocked),
    (403, "ErrorAccountSuspend", errors.SubmissionBlocked),
    (403, "ErrorMessageBlocked", errors.SubmissionBlocked),
]
STATUSES = [
    (200, errors.TooLarge),
    (201, errors.OutcomeUnknown),
    (204, errors.OutcomeUnknown),
    (302, errors.ServerBusy),
    (400, errors.Refused),
    (401, errors.NotAuthorized),
    (403, errors.AccessDenied),
    (404, errors.MailboxUnknown),
    (405, errors.Refused),
    (409, errors.Refused),
    (413, errors.TooLarge),
    (422, errors.Refused),
    (429, errors.Throttled),
    (500, errors.OutcomeUnknown),
    (501, errors.ServerBusy),
    (502, errors.OutcomeUnknown),
    (503, errors.ServerBusy),
    (504, errors.OutcomeUnknown),
    (509, errors.ServerBusy),
    (599, errors.ServerBusy),
]


@pytest.mark.parametrize(("status", "code", "kind"), CODES, ids=lambda value: value if isinstance(value, str) else None)
def test_codes(status: int, code: str, kind: type[GraphError]) -> None:
    for spelling in (code, code.lower(), code.upper()):
        found = answer(status, body(spelling))
        assert type(found) is kind
        assert (found.status, found.code, found.request_id) == (status, spelling, "request-1")


@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_statuses(status: int, kind: type[GraphError]) -> None:
    for content in (None, {}, {"error": {}}, body("SomethingNew"), body("")):
        assert type(answer(status, content)) is kind


@pytest.mark.parametrize("code", ["ErrorServerBusy", "ServiceUnavailable", "CommandConcurrencyLimitReached"])
def test_a_429_is_throttling_whatever_is_too_busy(code: str) -> None:
    assert type(answer(429, body(code))) is errors.Throttled


@pytest.mark.parametrize("code", ["", "NotFound"])
def test_a_404_in_a_mailbox_that_is_there(code: str) -> None:
    told = errors.of_an_item(answer(404, body(code)))
    assert type(told) is errors.ItemNotFound
    assert (told.status, told.code, told.request_id) == (404, code, "request-1")


@pytest.mark.parametrize(("status", "code"), [(404, "MailboxNotEnabledForRESTAPI"), (403, ""), (503, "")])
def test_what_names_the_mailbox_stays_as_it_is(status: int, code: str) -> None:
    failure = answer(status, body(code))
    assert errors.of_an_item(failure) is failure


def test_the_code_goes_before_the_status() -> None:
    assert type(answer(429, body("ErrorExceededMessageLimit"))) is errors.SendingLimitReached
    assert type(answer(500, body("ErrorSendAsDenied"))) is errors.SendAsDenied
    assert type(answer(400, body("ErrorItemNotFound"))) is errors.ItemNotFound


def test_the_most_detailed_code_that_is_known_decides() -> None:
    """Graph, "Error responses": inner errors are more specific than the one they stand in."""
    assert type(answer(403, body("AccessDenied", "ErrorSendAsDenied"))) is errors.SendAsDenied
    assert type(answer(400, body("BadRequest", "ErrorInvalidRecipients"))) is errors.InvalidRecipients
    found = answer(403, body("ErrorSendAsDenied", "SomethingNew"))
    assert (type(found), found.code) == (errors.SendAsDenied, "ErrorSendAsDenied")
    found = answer(403, body("New", "Newer"))
    assert (type(found), found.code) == (errors.AccessDenied, "New")


def test_the_older_spelling_of_inner_error() -> None:
    content = {"error": {"code": "x", "innererror": {"code": "ErrorSendAsDenied"}}}
    assert type(answer(403, content)) is errors.SendAsDenied


def test_the_text_of_the_4_mb_refusal() -> None:
    text = "The maximum request length supported is 4MB."
    assert type(answer(400, body("BadRequest", message=text))) is errors.TooLarge
    assert type(answer(400, body("ErrorInvalidRecipients", message=text))) is errors.InvalidRecipients
    assert type(answer(503, body("x", message=text))) is errors.ServerBusy


json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "innerError", "message"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.integers(100, 999), json)
def test_any_answer_is_an_error_and_raises_nothing(status: int, content: Any) -> None:
    found = answer(status, content)
    assert isinstance(found, GraphError)
    assert found.advice


def test_a_code_without_end_is_cut() -> None:
    assert len(answer(400, body("x" * 10_000)).code) <= 100
    deep = body(*["New"] * 500)
    assert type(answer(400, deep)) is errors.Refused


def test_upstream_text_is_in_no_error() -> None:
    found = answer(400, body("BadRequest", message="S3CRET"))
    assert "S3CRET" not in f"{found} {found!r} {found.__dict__}"


def subclasses(kind: type[UpstreamError]) -> set[type[UpstreamError]]:
    below = [sub for sub in kind.__subclasses__() if not sub.__name__.startswith("_")]
    return {kind, *(further for sub in below for further in subclasses(sub))}


@pytest.mark.parametrize("kind", sorted(subclasses(GraphError) - {GraphError}, key=lambda kind: kind.__name__))
def test_each_graph_error_says_what_to_do(kind: type[GraphError]) -> None:
    assert kind().advice
    assert kind("other").advice == str(kind("other")) == "other"
    assert kind.__name__ in (errors.__doc__ or ""), "the tree in the docstring is drawn whole"


def test_which_may_be_tried_again_and_which_may_have_gone() -> None:
    kinds = subclasses(GraphError) - {GraphError}
    assert {kind.__name__ for kind in kinds if kind.transient} == {  # type: ignore[attr-defined]
        "Unreachable",
        "OutcomeUnknown",
        "StepUnclear",
        "ServerBusy",
        "Throttled",
        "ItemNotFound",
    }
    assert {kind.__name__ for kind in kinds if kind.may_have_been_sent} == {"OutcomeUnknown"}  # type: ignore[attr-defined]
