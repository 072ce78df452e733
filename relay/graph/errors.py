# SPDX-License-Identifier: MIT
"""What can go wrong upstream, as facts. What a client is told of it is outcome.py's business alone.

UpstreamError
 ├─ TokenError                  Entra ID gave no token
 │   ├─ CredentialsRefused          the login itself: wrong, expired, disabled, MFA, conditional access
 │   ├─ TokenUnavailable            out of reach, throttling, account locked for a while
 │   └─ AppMisconfigured            the app's registration, consent, tenant or the relay's configuration
 └─ GraphError                  Graph, or the way to it
     ├─ Unreachable                 before the body was sent: DNS, connect, TLS, proxy
     ├─ OutcomeUnknown              time-out or reset after the body, 500, 502, 504: it may have been sent
     ├─ StepUnclear                 the same behind a step that sends nothing: a draft, an upload
     ├─ ServerBusy                  503 and its like
     ├─ Throttled                   429, over the mailbox's concurrency
     ├─ Congested                   not asked at all: the mailbox's turn would come too late
     ├─ NotAuthorized               401, or a claims challenge: the token
     ├─ AccessDenied                403
     ├─ SendAsDenied                403 ErrorSendAsDenied
     ├─ MailboxUnknown              404
     ├─ ItemNotFound                404 of a draft just made
     ├─ MailboxFull                 the sender's mailbox is over its quota
     ├─ TooLarge                    413, or 200 without sending
     ├─ InvalidRecipients           400 ErrorInvalidRecipients
     ├─ SendingLimitReached         a daily or hourly limit
     ├─ SubmissionBlocked           account suspended, submission blocked
     └─ Refused                     any other 4xx
"""

from __future__ import annotations

from typing import Any, ClassVar

FEDERATED = "federated"
"""Said of a fault of the identity provider that a domain has instead of Entra ID."""

PAUSED = ("AADSTS50053", "AADSTS50196")
"""By these Entra ID asks to be left alone for a while: an account that is locked, a login that came too often."""


class UpstreamError(Exception):
    """advice: one sentence for the log that says what is wrong and what to mend. Never holds upstream text.

    retry_after_s: None when no time was named. attempts: requests to Graph so far. possible_duplicate: one of them may
    have sent the message. These two are set by whom it passes.
    """

    may_have_been_sent: ClassVar[bool] = False

    def __init__(self, advice: str, retry_after_s: float | None = None) -> None:
        super().__init__(advice)
        self.advice = advice
        self.retry_after_s = retry_after_s
        self.attempts = 0
        self.possible_duplicate = False

    @property
    def transient(self) -> bool:
        """Whether a later try may succeed."""
        return False


class TokenError(UpstreamError):
    """entra_code: `AADSTS50126`, an OAuth error word, FEDERATED, or empty."""

    def __init__(self, advice: str, entra_code: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(advice, retry_after_s)
        self.entra_code = entra_code


class CredentialsRefused(TokenError):
    pass


class TokenUnavailable(TokenError):
    @property
    def transient(self) -> bool:
        return self.entra_code not in PAUSED


class AppMisconfigured(TokenError):
    pass


class GraphError(UpstreamError):
    """status: HTTP, 0 when there was no answer."""

    transient: ClassVar[bool] = False
    default_advice: ClassVar[str] = ""

    def __init__(
        self,
        advice: str = "",
        *,
        status: int = 0,
        code: str = "",
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(advice or self.default_advice, retry_after_s)
        self.status = status
        self.code = code
        self.request_id = request_id


class Unreachable(GraphError):
    transient = True
    default_advice = "Graph cannot be reached; check DNS, firewall, https_proxy and ca_bundle"


class OutcomeUnknown(GraphError):
    transient = True
    may_have_been_sent = True
    default_advice = "no clear answer from Graph; the message may have been sent, look into the recipient's mailbox or a message trace"


class StepUnclear(GraphError):
    transient = True
    default_advice = "no clear answer from Graph while a large message was being uploaded; nothing was sent yet"


class ServerBusy(GraphError):
    transient = True
    default_advice = "Graph is busy; if it lasts, look at the service health page of Microsoft 365"


class Throttled(GraphError):
    transient = True
    default_advice = "Graph throttles this mailbox; spread the load over time or over several mailboxes"


class Congested(GraphError):
    default_advice = "too many messages wait for this mailbox; spread the load over time or over several mailboxes"


class NotAuthorized(GraphError):
    default_advice = "Graph refused the token; if it refuses a fresh one too, check the app's permission Mail.Send, its consent and conditional access"


class AccessDenied(GraphError):
    default_advice = (
        "Graph denies access; check that the app has Mail.Send of the right type (delegated for flow password) with admin "
        "consent, and that no application access policy or RBAC scope leaves this mailbox out; changes take up to two hours"
    )


class SendAsDenied(GraphError):
    default_advice = "the mailbox may not send as this From address; grant it Send As in Exchange, or set the device's sender to the mailbox"


class MailboxUnknown(GraphError):
    default_advice = (
        "the sending mailbox does not exist or has no Exchange Online licence (new mailboxes take about 15 minutes)"
    )


class ItemNotFound(GraphError):
    transient = True
    default_advice = "Graph does not find the draft that was just made"


class MailboxFull(GraphError):
    default_advice = "the sending mailbox is full; empty it or set a retention policy"


class TooLarge(GraphError):
    default_advice = "Graph refused the message for its size; the mailbox has a limit of its own (MaxSendSize in Exchange, 35 MB unless changed) that counts what is encoded"


class InvalidRecipients(GraphError):
    default_advice = "Graph refused a recipient address, and with it the whole message"


class SendingLimitReached(GraphError):
    default_advice = (
        "a sending limit of the mailbox or tenant is reached; it recovers within a day, spread bulk mail over time"
    )


class SubmissionBlocked(GraphError):
    default_advice = "Microsoft blocked this mailbox from sending; look at restricted entities in the Defender portal"


class Refused(GraphError):
    default_advice = "Graph refused the request; report it with the Graph code if it does not explain itself"


# Microsoft asks to branch on the code and never on the text (Graph, "Error responses").
_BY_CODE: dict[str, type[GraphError]] = {
    "invalidauthenticationtoken": NotAuthorized,
    "invalidaudienceforresource": NotAuthorized,
    "unauthenticated": NotAuthorized,
    "insufficient_claims": NotAuthorized,
    "insufficientclaims": NotAuthorized,
    "erroraccessdenied": AccessDenied,
    "accessdenied": AccessDenied,
    "extensionerror": AccessDenied,
    "errorsendasdenied": SendAsDenied,
    "errorinvaliduser": MailboxUnknown,
    "errornonexistentmailbox": MailboxUnknown,
    "request_resourcenotfound": MailboxUnknown,
    "resourcenotfound": MailboxUnknown,
    "mailboxnotenabledforrestapi": MailboxUnknown,
    "mailboxnotsupportedforrestapi": MailboxUnknown,
    "erroritemnotfound": ItemNotFound,
    "errorinvalidrecipients": InvalidRecipients,
    "errormessagesizeexceeded": TooLarge,
    "requestbodytoolarge": TooLarge,
    "requestentitytoolarge": TooLarge,
    "applicationthrottled": Throttled,
    "toomanyrequests": Throttled,
    "activitylimitreached": Throttled,
    "mailboxconcurrency": Throttled,
    "errorserverbusy": ServerBusy,
    "serviceunavailable": ServerBusy,
    "commandconcurrencylimitreached": ServerBusy,
    "errorapiquarantined": ServerBusy,
    "errorinternalservererror": OutcomeUnknown,
    "errorinternalservertransienterror": OutcomeUnknown,
    "errorquotaexceeded": MailboxFull,
    "quotalimitreached": MailboxFull,
    "errorsubmissionquotaexceeded": SendingLimitReached,
    "errorexceededmessagelimit": SendingLimitReached,
    "errorexceededmaxrecipientlimit": SendingLimitReached,
    "errormessagesubmissionblocked": SubmissionBlocked,
    "erroraccountsuspend": SubmissionBlocked,
    "erroraccountsuspended": SubmissionBlocked,
    "errormessageblocked": SubmissionBlocked,
}

_BY_STATUS: dict[int, type[GraphError]] = {
    200: TooLarge,  # over-size MIME was answered so, and nothing sent
    401: NotAuthorized,
    403: AccessDenied,
    404: MailboxUnknown,
    408: ServerBusy,
    413: TooLarge,
    429: Throttled,
    500: OutcomeUnknown,
    502: OutcomeUnknown,
    503: ServerBusy,
    504: OutcomeUnknown,
}


def from_answer(status: int, body: Any, request_id: str, retry_after_s: float | None) -> GraphError:
    """The error that an answer other than 202 stands for. body: decoded JSON, or None. Codes go before the status."""
    codes = _codes(body)
    # Inner errors are more specific than the one they stand in (Graph, "Error responses").
    known = next((c for c in reversed(codes) if c.lower() in _BY_CODE), "")
    code = known or (codes[0] if codes else "")
    kind = _BY_CODE[known.lower()] if known else _by_status(status)
    if kind is Refused and _says_too_large(body):
        kind = TooLarge
    if kind is ServerBusy and status == 429:  # whichever part is too busy for it, it is throttling
        kind = Throttled
    return kind(status=status, code=code, request_id=request_id, retry_after_s=retry_after_s)


def harmless(failure: GraphError) -> GraphError:
    """The same failure of a request that sends no message, whatever became of it."""
    if not isinstance(failure, OutcomeUnknown):
        return failure
    told = StepUnclear(
        status=failure.status, code=failure.code, request_id=failure.request_id, retry_after_s=failure.retry_after_s
    )
    told.attempts = failure.attempts
    return told


def of_an_item(failure: GraphError) -> GraphError:
    """The same failure in a mailbox that is known to be there: a 404 that does not name it is about something in it."""
    if not isinstance(failure, MailboxUnknown) or failure.code.lower() in _BY_CODE:
        return failure
    return ItemNotFound(
        status=failure.status, code=failure.code, request_id=failure.request_id, retry_after_s=failure.retry_after_s
    )


def _by_status(status: int) -> type[GraphError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return Refused
    return ServerBusy if status >= 300 else OutcomeUnknown


def _codes(body: Any) -> list[str]:
    """error.code, then the innerError codes below it, at most eight deep."""
    found: list[str] = []
    node = body.get("error") if isinstance(body, dict) else None
    while isinstance(node, dict) and len(found) < 8:
        code = node.get("code")
        found.append(code[:80] if isinstance(code, str) else "")
        node = node.get("innerError") or node.get("innererror")
    return [code for code in found if code]


def _says_too_large(body: Any) -> bool:
    # The one place where the text decides: the 4 MB refusal has come as a plain BadRequest without a code of its own.
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return isinstance(message, str) and "maximum request length" in message.lower()
