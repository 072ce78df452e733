# SPDX-License-Identifier: MIT
"""Large mail against the sandbox's own logic, on a clock that does not wait: every octet arrives, once, or nothing."""

from __future__ import annotations

import base64
import random
from contextlib import nullcontext
from typing import Any

import pytest

from relay.clock import Deadline
from relay.graph import draft as draft_module
from relay.graph import errors
from relay.graph.client import Answer, GraphClient
from relay.graph.denials import DENIED_FOR_S
from relay.graph.draft import CLEAN_UP_S, UPLOAD_FROM_BYTES, UPLOAD_LEAST_BYTES
from relay.graph.errors import GraphError
from relay.graph.large import LEFT_FOR_S, LargeMail
from relay.graph.mail import Receipt
from relay.graph.retry import RetryPolicy
from relay.graph.upload import CHUNK_BYTES, upload_url
from relay.message.model import Address, Attachment, Body, Message, Recipients
from tests.support.clock import FakeClock
from tests.support.dialog import all_records, check_records
from tests.support.tenant_session import GRAPH_URL, LOGIN, TenantSession, TenantTokens
from tests.unit.sandbox.tenant import Tenant

MAILBOX = "scanner@example.com"
BOTH = frozenset({"Mail.Send", "Mail.ReadWrite"})
TO = Recipients(to=(Address("Ann", "ann@example.org"),), bcc=(Address("", "bcc@example.org"),))
PATTERN = random.Random(1).randbytes(9_000_000)
STEPS = ("draft", "attachment", "uploadSession", "upload", "send")


def file(size: int, name: str = "a.pdf", **more: Any) -> Attachment:
    return Attachment(name, "application/pdf", PATTERN[:size], **more)


def mail(*attachments: Attachment, **properties: Any) -> Message:
    return Message(subject="Scan", body=Body("text", "Grüße"), attachments=attachments, **properties)


SMALL_AND_LARGE = mail(file(10, "small"), file(5_000_000, "large"), file(20, "last"))


class Scene:
    def __init__(self, *, attempts: int = 3, timeout_s: float = 110, limit: int = 4_000_000, **settings: Any) -> None:
        self.clock = FakeClock()
        self.tenant = Tenant(**{"permissions": BOTH, **settings})
        self.session = TenantSession(self.tenant)
        self.tokens = TenantTokens(self.tenant)
        self.timeout_s = timeout_s
        self.large = LargeMail(
            GraphClient(self.session, GRAPH_URL, lambda _: nullcontext()),  # type: ignore[arg-type]
            self.tokens,  # type: ignore[arg-type]
            RetryPolicy(attempts, 0.5),
            self.clock,
            limit,
            draw=lambda: 0.0,
        )

    def send(self, message: Message = SMALL_AND_LARGE, mailbox: str = MAILBOX) -> Receipt:
        deadline = Deadline(self.clock, self.timeout_s)
        return self.large.send(mailbox, message, TO, Address("", mailbox), LOGIN, deadline, "MESSAGE1")

    def failing(self, message: Message = SMALL_AND_LARGE, mailbox: str = MAILBOX) -> GraphError:
        with pytest.raises(GraphError) as caught:
            self.send(message, mailbox)
        return caught.value

    def delivered(self) -> list[list[tuple[str, bytes]]]:
        """Of each message that was sent, the attachments."""
        return [
            [(item["name"], base64.b64decode(item["contentBytes"])) for item in captured.message["attachments"]]
            for captured in self.tenant.captured
            if captured.message is not None
        ]

    def left(self) -> int:
        return len(self.tenant.graph.store.drafts())


def attached(message: Message) -> list[tuple[str, bytes]]:
    return [(attachment.name, attachment.content) for attachment in message.attachments]


def test_every_attachment_arrives_in_its_order() -> None:
    sizes = (
        10,
        0,
        UPLOAD_FROM_BYTES - 1,
        UPLOAD_FROM_BYTES,
        UPLOAD_FROM_BYTES + 1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES,
        2 * CHUNK_BYTES + 1,
    )
    message = mail(*(file(size, f"file {size}") for size in sizes))
    scene = Scene()
    assert scene.send(message) == Receipt(f"id-{len(scene.session.calls)}", 1, False)
    assert scene.delivered() == [attached(message)]
    assert scene.left() == 0
    assert scene.session.kinds().count("uploadSession") == 7
    assert scene.session.kinds().count("upload") == 1 + 1 + 1 + 1 + 2 + 2 + 3
    assert scene.clock.sleeps == []


def test_the_message_is_the_one_that_sendmail_would_have_got() -> None:
    inline = file(3_500_000, "i.png", inline=True, content_id="c@x")
    message = mail(inline, message_id="<1@x>", importance="high", x_headers=(("X-A", "1"),))
    scene = Scene()
    scene.send(message)
    (captured,) = scene.tenant.captured
    assert (captured.form, captured.subject, captured.sender) == ("draft", "Scan", MAILBOX)
    assert (captured.to, captured.bcc) == (("ann@example.org",), ("bcc@example.org",))
    assert captured.message is not None
    assert captured.message["importance"] == "high"
    assert captured.message["internetMessageHeaders"] == [{"name": "X-A", "value": "1"}]
    properties = {item["id"]: item["value"] for item in captured.message["singleValueExtendedProperties"]}
    assert properties.pop("String 0x1035") == "<1@x>"
    assert list(properties.values()) == ["MESSAGE1"], "our mark"
    (found,) = captured.message["attachments"]
    assert (found["isInline"], found["contentId"], found["contentType"]) == (True, "c@x", "application/pdf")


def test_the_upload_url_is_followed_without_a_token() -> None:
    scene = Scene()
    scene.send()
    uploads = [call for call in scene.session.calls if call.kind == "upload"]
    assert [call.headers["Content-Range"] for call in uploads] == [
        "bytes 0-3999999/5000000",
        "bytes 4000000-4999999/5000000",
    ]
    for call in uploads:
        assert call.url.startswith("https://localhost:8443/")
        assert "authorization" not in {name.lower() for name in call.headers}
    others = [call for call in scene.session.calls if call.kind != "upload"]
    assert all(call.headers["Authorization"] for call in others)


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://outlook.office.com/api/x?authtoken=1", True),
        ("http://127.0.0.1:8080/x", True),
        ("http://[::1]:8080/x", True),
        ("http://localhost/x", True),
        ("http://outlook.office.com/x", False),
        ("http://127.0.0.1@outlook.office.com/x", False),
        ("http://[localhost/x", False),
        ("ftp://localhost/x", False),
        ("//localhost/x", False),
    ],
)
def test_an_upload_goes_nowhere_in_clear(url: str, taken: bool) -> None:
    """But on loopback, where graph_url may do without TLS as well."""
    answer = Answer(201, {"uploadUrl": url}, "")
    if taken:
        assert upload_url(answer) == url
    else:
        with pytest.raises(errors.StepUnclear):
            upload_url(answer)


FAULTS = [
    {"status": 503},
    {"status": 429, "retry_after": "2"},
    {"status": 500},
    {"status": 500, "accept": True},
    {"status": 504, "accept": True},
    {"reset": "after_body"},
    {"reset": "after_body", "accept": True},
    {"hang": True, "accept": True},
    {"status": 404, "code": "ErrorItemNotFound"},
    {"status": 401},
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("kind", STEPS)
def test_a_passing_fault_at_any_step(kind: str, fault: dict[str, Any]) -> None:
    """Whether the service did what it failed to tell of or not: each attachment is there once, and one message."""
    scene = Scene()
    scene.session.fault(kind=kind, **fault)
    with all_records() as records:
        receipt = scene.send()
    check_records(records)
    assert scene.delivered() == [attached(SMALL_AND_LARGE)]
    assert scene.left() == 0
    assert not receipt.possible_duplicate
    assert receipt.attempts == (1 if fault.get("status") == 401 and kind != "upload" else 2)
    if kind != "send":
        assert max(scene.clock.sleeps) <= 2, "nothing was sent yet, so there is nothing to wait for"


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("status", [400, 404, 409, 410, 416])
def test_an_upload_that_is_out_of_step_asks_where_it_stands(status: int, accept: bool) -> None:
    scene = Scene()
    scene.session.fault(kind="upload", status=status, accept=accept)
    scene.send()
    assert scene.delivered() == [attached(SMALL_AND_LARGE)]
    assert "uploadState" in scene.session.kinds()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "ErrorMessageSizeExceeded", errors.TooLarge),
        (403, "ErrorQuotaExceeded", errors.MailboxFull),
        (403, "ErrorSubmissionQuotaExceeded", errors.SendingLimitReached),
        (403, "ErrorAccountSuspend", errors.SubmissionBlocked),
    ],
)
def test_an_upload_that_is_refused_by_a_code_is_not_out_of_step(status: int, code: str, kind: type[GraphError]) -> None:
    scene = Scene()
    scene.session.fault(kind="upload", status=status, code=code, count=-1)
    assert type(scene.failing()) is kind
    assert scene.session.kinds().count("upload") == 1
    assert scene.left() == 0


@pytest.mark.parametrize("kind", ["attachment", "uploadSession", "send"])
def test_a_404_behind_the_creation_that_does_not_name_the_mailbox(kind: str) -> None:
    """The draft may take a moment to be there, and nothing more is wrong."""
    scene = Scene()
    scene.session.fault(kind=kind, status=404, code="NotFound")
    assert scene.send().attempts == 2
    assert scene.delivered() == [attached(SMALL_AND_LARGE)]
    scene = Scene()
    scene.session.fault(kind=kind, status=404, code="NotFound", count=-1)
    assert type(scene.failing()) is errors.ItemNotFound
    assert scene.left() == 0


@pytest.mark.parametrize("accept", [False, True])
def test_a_200_that_shows_no_attachment_is_looked_behind(accept: bool) -> None:
    """A page of whoever stands in between, for instance: the attachment would be missing and nobody told."""
    scene = Scene()
    scene.session.fault(kind="attachment", status=200, accept=accept)
    scene.send()
    assert scene.delivered() == [attached(SMALL_AND_LARGE)]


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("kind", STEPS)
def test_faults_at_any_one_request(kind: str, number: int) -> None:
    """The n-th request of each kind is done and its answer lost; so is the first try to find out."""
    scene = Scene(attempts=4)
    seen = 0

    def on_call(called: str) -> None:
        nonlocal seen
        if called == kind:
            seen += 1
            if seen == number:
                scene.session.fault(kind=kind, reset="after_body", accept=True)
                for look in ("uploadState", "attachments", "draftState", "search"):
                    scene.session.fault(kind=look, status=503)

    scene.session.on_call = on_call
    message = mail(*(file(size, str(size)) for size in (5, 3_000_000, 6, 9_000_000)))
    scene.send(message)
    assert scene.delivered() == [attached(message)]
    assert scene.left() == 0


@pytest.mark.parametrize("status", [400, 403, 413, 507])
@pytest.mark.parametrize("kind", STEPS)
def test_what_is_for_good_leaves_no_draft(kind: str, status: int) -> None:
    scene = Scene()
    scene.session.fault(kind=kind, status=status, count=-1, code="" if status != 403 else "ErrorSendAsDenied")
    failure = scene.failing()
    assert scene.tenant.captured == []
    assert scene.left() == 0
    assert not failure.may_have_been_sent
    assert ("deleteDraft" in scene.session.kinds()) == (kind != "draft")


@pytest.mark.parametrize("kind", STEPS)
def test_what_does_not_pass_is_tried_so_often_and_leaves_no_draft(kind: str) -> None:
    scene = Scene(attempts=4)
    scene.session.fault(kind=kind, status=503, count=-1)
    failure = scene.failing()
    assert type(failure) is errors.ServerBusy
    assert failure.attempts == 4
    assert scene.session.kinds().count(kind) == 4
    assert scene.left() == 0


def test_not_found_right_behind_the_creation() -> None:
    scene = Scene()
    scene.session.fault(kind="attachment", status=404, code="ErrorItemNotFound", count=2)
    assert scene.send().attempts == 3
    assert scene.clock.sleeps == [0.5, 1.0]


def test_sent_and_not_told() -> None:
    scene = Scene()
    scene.session.fault(kind="send", reset="after_body", accept=True)
    assert scene.send() == Receipt("", 2, False)
    assert scene.session.kinds()[-2:] == ["send", "draftState"]
    assert scene.clock.sleeps == [5]
    assert len(scene.tenant.captured) == 1


def test_not_sent_and_not_told() -> None:
    scene = Scene()
    scene.session.fault(kind="send", reset="after_body")
    assert scene.send().attempts == 2
    assert scene.session.kinds()[-3:] == ["send", "draftState", "send"]
    assert len(scene.tenant.captured) == 1


def test_never_told_and_never_sent() -> None:
    scene = Scene()
    scene.session.fault(kind="send", reset="after_body", count=-1)
    failure = scene.failing()
    assert type(failure) is errors.StepUnclear, "it is known that nothing was sent"
    assert not failure.possible_duplicate
    assert failure.attempts == 3
    assert scene.left() == 0


def test_sent_at_the_last_moment_is_found_out_past_the_deadline() -> None:
    scene = Scene(timeout_s=4)  # which holds no retry of an unknown outcome
    scene.session.fault(kind="send", hang=True, accept=True)
    scene.session.on_call = lambda kind: scene.clock.advance(4) if kind == "send" else None
    assert scene.send().attempts == 1
    assert len(scene.tenant.captured) == 1


def test_nobody_tells_whether_it_was_sent() -> None:
    scene = Scene()
    scene.session.fault(kind="send", hang=True, count=-1)
    scene.session.fault(kind="draftState", status=503, count=-1)
    with all_records() as records:
        failure = scene.failing()
    assert failure.possible_duplicate
    assert scene.left() == 1, "it may be the copy in Sent Items"
    assert "draft_left_behind" in [record.getMessage() for record in records]


def test_a_draft_that_moved_is_known_by_its_404() -> None:
    """Where the service pays no attention to the wish for an id that stays."""
    scene = Scene()

    def forget(kind: str) -> None:
        for item in scene.tenant.graph.store.drafts():
            item.immutable = False

    scene.session.on_call = forget
    scene.session.fault(kind="send", reset="after_body", accept=True)
    assert scene.send().attempts == 2
    assert len(scene.tenant.captured) == 1


def test_a_draft_whose_id_never_came_is_found_by_its_mark() -> None:
    scene = Scene()
    other = scene.tenant.graph.store.add_draft(MAILBOX, {"subject": "mine"}, None, immutable=True, octets=1)
    scene.session.fault(kind="draft", reset="after_body", accept=True, count=2)
    scene.send()
    assert scene.tenant.graph.store.drafts() == [other]
    assert scene.session.kinds()[-3:] == ["search", "deleteDraft", "deleteDraft"]
    assert len(scene.tenant.captured) == 1

    scene.session.fault(kind="draft", reset="after_body", accept=True, count=3)
    scene.failing()
    assert scene.tenant.graph.store.drafts() == [other]


class Killed(BaseException):
    """As gevent.GreenletExit: no Exception."""


@pytest.mark.parametrize("kind", ["attachment", "uploadSession", "upload", "send"])
def test_a_killed_greenlet_deletes_its_draft(kind: str) -> None:
    scene = Scene()

    def kill(called: str) -> None:
        if called == kind:
            raise Killed

    scene.session.on_call = kill
    with pytest.raises(Killed):
        scene.send()
    assert scene.left() == 0
    assert scene.tenant.captured == []


def test_killed_while_the_draft_is_made() -> None:
    scene = Scene()

    def kill(called: str) -> None:
        if called == "draft":
            properties = [
                {"id": "String {6f1b3c0e-2d0a-4c55-9a5e-5d3c7e1f8a42} Name graph-smtp-relay", "value": "MESSAGE1"}
            ]
            message = {"singleValueExtendedProperties": properties}
            scene.tenant.graph.store.add_draft(MAILBOX, message, None, immutable=True, octets=1)
            raise Killed

    scene.session.on_call = kill
    with pytest.raises(Killed):
        scene.send()
    assert scene.left() == 0


def test_the_deadline_ends_it_and_the_draft_is_deleted_all_the_same() -> None:
    scene = Scene(timeout_s=30)
    scene.session.on_call = lambda kind: scene.clock.advance(31) if kind == "upload" else None
    scene.session.fault(kind="upload", status=503, count=-1)
    scene.failing()
    assert scene.left() == 0
    (deleted,) = [call for call in scene.session.calls if call.kind == "deleteDraft"]
    assert 0 < deleted.timeout_s <= CLEAN_UP_S


def test_what_went_after_all_is_not_deleted_from_sent_items() -> None:
    """Its id is still that of the draft, and Graph told only at the very last what it is."""
    scene = Scene()
    scene.session.fault(kind="send", status=500, accept=True)
    scene.session.fault(kind="draftState", status=503, count=5)
    assert type(scene.failing()) is errors.ServerBusy
    assert "deleteDraft" not in scene.session.kinds()
    (copy,) = scene.tenant.graph.store.all_of(MAILBOX)
    assert not copy.is_draft


def test_what_was_unclear_and_not_sent_is_deleted() -> None:
    scene = Scene()
    scene.session.fault(kind="send", status=500)
    scene.session.fault(kind="draftState", status=503, count=5)
    assert type(scene.failing()) is errors.ServerBusy
    assert scene.left() == 0


@pytest.mark.parametrize(("timeout_s", "in_doubt", "waits"), [(110, False, [5.0]), (4, True, [])])
def test_a_draft_just_behind_an_unclear_sending_says_nothing(
    timeout_s: float, in_doubt: bool, waits: list[float]
) -> None:
    """A request that nobody waits for any more may be at work still: it is looked for later, or the doubt stays."""
    scene = Scene(attempts=1, timeout_s=timeout_s)
    scene.session.fault(kind="send", status=500)
    assert scene.failing().possible_duplicate == in_doubt
    assert scene.clock.sleeps == waits
    assert scene.left() == 0


def test_a_draft_that_cannot_be_deleted_is_named_in_the_log() -> None:
    scene = Scene()
    scene.session.fault(kind="send", status=403, code="ErrorSendAsDenied")
    scene.session.fault(kind="deleteDraft", status=503, count=-1)
    with all_records() as records:
        assert type(scene.failing()) is errors.SendAsDenied, "not the failure of the deletion"
    (record,) = [record for record in records if record.getMessage() == "draft_left_behind"]
    assert record.__dict__["mailbox"] == MAILBOX
    assert scene.session.kinds().count("deleteDraft") == 3
    check_records(records)


def test_a_draft_that_cannot_be_deleted_is_tried_again_for_an_hour() -> None:
    scene = Scene()
    scene.session.fault(kind="send", status=403, code="ErrorSendAsDenied", count=2)
    scene.session.fault(kind="deleteDraft", status=503, count=9)
    scene.failing()
    scene.failing()
    with all_records() as records:
        scene.large.delete_left()
        assert scene.session.kinds().count("deleteDraft") == 9, "one of them, for the others would wait in vain"
        assert scene.left() == 2
        scene.clock.advance(LEFT_FOR_S / 2)
        scene.large.delete_left()
        assert scene.left() == 0
        scene.large.delete_left()
    assert scene.session.kinds().count("deleteDraft") == 11
    assert [record.getMessage() for record in records].count("draft_cleaned_up") == 2
    scene.session.fault(kind="send", status=403, code="ErrorSendAsDenied")
    scene.session.fault(kind="deleteDraft", status=503, count=6)
    scene.failing()
    scene.clock.advance(LEFT_FOR_S)
    scene.large.delete_left()
    scene.large.delete_left()
    assert scene.session.kinds().count("deleteDraft") == 17, "not for ever"


def test_what_was_left_before_a_reload_is_deleted_behind_it() -> None:
    old, new = Scene(), Scene()
    old.session.fault(kind="send", status=403, code="ErrorSendAsDenied", count=2)
    old.session.fault(kind="deleteDraft", status=503, count=6)
    old.failing()
    new.large.take_over(old.large)
    old.failing()  # a session that had begun before
    assert old.left() == 2
    new.large.delete_left()
    assert old.left() == 0


def test_what_was_sent_after_all_is_not_deleted_later() -> None:
    scene = Scene()
    scene.session.fault(kind="send", hang=True, accept=True)
    scene.session.fault(kind="draftState", status=503, count=9)
    scene.failing()
    before = scene.session.kinds().count("deleteDraft")
    for _ in range(3):
        scene.large.delete_left()
    assert len(scene.tenant.captured) == 1
    assert scene.session.kinds().count("deleteDraft") == before


def test_without_the_permission() -> None:
    scene = Scene(permissions=frozenset({"Mail.Send"}))
    with all_records() as records:
        failure = scene.failing()
    assert type(failure) is errors.TooLarge
    assert "Mail.ReadWrite" in failure.advice
    assert (failure.status, failure.code, failure.attempts) == (403, "ErrorAccessDenied", 1)
    assert [record.getMessage() for record in records] == ["large_mail_denied"]
    check_records(records)

    scene.clock.advance(DENIED_FOR_S - 1)
    with all_records() as records:
        again = scene.failing(mailbox=MAILBOX.upper())
    assert (type(again), again.advice, again.attempts) == (errors.TooLarge, failure.advice, 0)
    assert records == []
    assert scene.session.kinds() == ["draft"], "no second try"
    scene.failing(mailbox="other@example.com")
    assert scene.session.kinds() == ["draft", "draft"]

    scene.clock.advance(1)
    scene.large.purge()
    scene.failing()
    assert scene.session.kinds() == ["draft"] * 3


def test_a_mailbox_whose_upload_sessions_are_denied() -> None:
    scene = Scene()
    scene.session.fault(kind="uploadSession", status=403)
    assert type(scene.failing()) is errors.TooLarge
    assert scene.left() == 0
    assert scene.failing().attempts == 0


def test_a_text_over_the_limit() -> None:
    scene = Scene()
    failure = scene.failing(Message(body=Body("text", "x" * 4_000_000), attachments=(file(1),)))
    assert (type(failure), failure.attempts) == (errors.TooLarge, 0)
    assert scene.session.calls == []


def test_an_attachment_that_one_request_does_not_hold_after_all() -> None:
    scene = Scene()
    scene.session.fault(kind="attachment", status=413, count=-1)
    message = mail(file(UPLOAD_LEAST_BYTES))
    scene.send(message)
    assert scene.delivered() == [attached(message)]
    assert scene.session.kinds() == ["draft", "attachment", "uploadSession", "upload", "send"]
    assert type(scene.failing(mail(file(UPLOAD_LEAST_BYTES - 1)))) is errors.TooLarge


def test_an_attachment_that_is_too_small_for_a_session_after_all() -> None:
    scene = Scene()
    code = "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"
    scene.session.fault(kind="uploadSession", status=400, code=code, count=-1)
    message = mail(file(UPLOAD_FROM_BYTES), file(10))
    scene.send(message)
    assert scene.delivered() == [attached(message)]
    assert scene.session.kinds() == ["draft", "uploadSession", "attachment", "attachment", "send"]


def test_a_session_that_is_lost_is_opened_anew() -> None:
    scene = Scene()

    def lose(kind: str) -> None:
        if scene.session.kinds().count("upload") == 1 and kind == "upload":
            scene.tenant.graph.uploads.clear()

    scene.session.on_call = lose
    scene.send()
    assert scene.delivered() == [attached(SMALL_AND_LARGE)]
    assert scene.session.kinds().count("uploadSession") == 2


def test_many_attachments_are_counted_beyond_a_page() -> None:
    scene = Scene()
    message = mail(*(file(n, str(n)) for n in range(25)), file(3_000_000, "large"))
    scene.session.fault(kind="upload", reset="after_body", accept=True)
    scene.send(message)
    assert scene.delivered() == [attached(message)]


def altered(scene: Scene, kind: str, body: bytes) -> None:
    """Let each answer of this kind have another body."""
    original = scene.session.send

    def send(request: Any, **options: Any) -> Any:
        response = original(request, **options)
        if scene.session.calls[-1].kind == kind:
            response.content = body
        return response

    scene.session.send = send  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("draft", b"{}"),
        ("draft", b'{"id": 7}'),
        ("draft", b"[]"),
        ("draft", b"<html>"),
        ("uploadSession", b"{}"),
        ("uploadSession", b'{"uploadUrl": "http://plain.example/x"}'),
        ("upload", b'{"nextExpectedRanges": ["0-"]}'),
        ("upload", b'{"nextExpectedRanges": ["5000000"]}'),
    ],
)
def test_answers_that_make_no_sense(kind: str, body: bytes) -> None:
    """They count as failed tries, end, and leave nothing behind."""
    scene = Scene()
    altered(scene, kind, body)
    if kind == "upload":
        altered(scene, "uploadState", b'{"NextExpectedRanges": ["0"]}')
        message = mail(file(5_000_000))
    else:
        message = SMALL_AND_LARGE
    failure = scene.failing(message)
    assert isinstance(failure, errors.StepUnclear)
    assert scene.left() == 0


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"nextExpectedRanges": []}', b'{"nextExpectedRanges": ["4000000-4999999"]}']
)
def test_answers_that_say_less_than_they_should(body: bytes) -> None:
    scene = Scene()
    altered(scene, "upload", body)
    scene.send()
    assert scene.delivered() == [attached(SMALL_AND_LARGE)]


def test_the_limit_only_goes_down() -> None:
    scene = Scene()
    with all_records() as records:
        scene.large.lower_limit(3_000_000, "MESSAGE1")
    assert scene.large.limit_bytes == 2_999_999
    check_records(records)
    assert [record.getMessage() for record in records] == ["limit_lowered"]
    scene.large.lower_limit(3_500_000, "MESSAGE1")
    assert scene.large.limit_bytes == 2_999_999
    scene.large.lower_limit(1, "MESSAGE1")
    assert scene.large.limit_bytes == 65_536


def test_the_limit_outlives_a_reload_that_does_not_change_it() -> None:
    old, same, other = Scene(), Scene(), Scene(limit=3_900_000)
    old.large.lower_limit(3_000_000, "MESSAGE1")
    same.large.take_over(old.large)
    other.large.take_over(old.large)
    assert (same.large.limit_bytes, other.large.limit_bytes) == (2_999_999, 3_900_000)


def test_no_url_or_token_in_any_error_or_line() -> None:
    scene = Scene()
    scene.session.fault(kind="upload", status=401, count=-1)
    with all_records() as records:
        failure = scene.failing()
    text = str(failure) + repr(failure.__dict__) + "".join(str(record.__dict__) for record in records)
    for call in scene.session.calls:
        assert call.headers.get("Authorization", "Bearer none")[7:] not in text
        if call.kind == "upload":
            assert call.url not in text
            assert call.url.rpartition("/")[2] not in text


def test_the_clean_up_is_short() -> None:
    assert draft_module.CLEAN_UP_S <= 5
